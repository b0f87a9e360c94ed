"""``featlink scenes``: a folder of synthetic scenes in COCO's layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from featlink.errors import CommandError

PartName = Literal["train", "val", "held-out"]


def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    n: Annotated[int, typer.Option("--n", min=1, max=10**6, help="How many scenes.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=999, help="The same seed gives the same scenes.")] = 1,
    art: Annotated[
        PartName,
        typer.Option(
            help="Drawings: those the starter weights learned (train), others (val), an unseen style (held-out)."
        ),
    ] = "val",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Write synthetic scenes with their ground truth in COCO's layout."""
    from rich.console import Console
    from rich.progress import Progress

    from featlink.starter.folder import write_folder

    console = Console()
    try:
        with Progress(console=console) as progress:
            task = progress.add_task("scenes", total=n)
            for done in write_folder(out, n, seed, art, workers=workers):
                progress.update(task, completed=done)
    except OSError as error:
        raise CommandError(f"cannot write scenes to {out}: {error.strerror or error}") from None
    console.print(f"{n} scenes in {out}", soft_wrap=True)
