"""``featlink merge``: join a sweep's shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Output folders of sweeps that differ only in their images.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged sweep.")],
) -> None:
    """Join the shards of a sweep and evaluate them together."""
    from rich.console import Console

    from featlink.commands.outcome import show_rows
    from featlink.sweeps.run import merge as merge_shards

    show_rows(merge_shards(shards, out, Console(stderr=True)), out)
