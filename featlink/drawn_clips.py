"""The data set ``clips``: a dozen short clips, drawn at first use and kept in the user's cache."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from featlink.errors import CommandError
from featlink.shared import files

NAME = "clips"
COUNT, FRAMES, SEED = 12, 16, 0
_VERSION = 1
"""Goes up with every change of the pictures."""


def drawn_clips() -> Path:
    """The folder of the clips, three of each motion; they are drawn if they are not there yet, with a progress bar.

    Whoever comes while they are being drawn waits. They appear whole or not at all.

    Raises:
        CommandError: they cannot be written.
    """
    target = files.cache() / f"clips-{_VERSION}" / NAME
    if target.is_dir():
        return target
    from rich.console import Console
    from rich.progress import Progress

    from featlink.starter.folder import write_clips

    with files.lock(target.parent, wait=True):
        if target.is_dir():  # another process has drawn them meanwhile
            return target
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as place:
                with Progress(console=Console(stderr=True), transient=True) as progress:
                    task = progress.add_task("drawing clips", total=COUNT)
                    for done in write_clips(Path(place) / NAME, COUNT, FRAMES, SEED, workers=_workers()):
                        progress.update(task, completed=done)
                (Path(place) / NAME).rename(target)
        except OSError as error:
            raise CommandError(f"cannot write clips to {target}: {error.strerror or error}") from None
    return target


def _workers() -> int:
    return min(4, len(os.sched_getaffinity(0)))
