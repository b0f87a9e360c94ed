"""The data set ``clips``: a dozen short clips, drawn at first use and kept in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from featlink.shared import files

NAME = "clips"
COUNT, FRAMES, SEED = 12, 16, 0
_VERSION = 1
"""Goes up with every change of the pictures."""


def drawn_clips() -> Path:
    """The folder of the clips, three of each motion; they are drawn if they are not there yet, with a progress bar.

    Whoever comes while they are being drawn waits. They appear whole or not at all.

    Raises:
        StorageError: they cannot be written.
    """
    return files.written_once(files.cache() / f"clips-{_VERSION}" / NAME, _write)


def _write(folder: Path) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from featlink.starter.folder import write_clips

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("drawing clips", total=COUNT)
        for done in write_clips(folder, COUNT, FRAMES, SEED, workers=min(4, os.cpu_count() or 1)):
            progress.update(task, completed=done)
