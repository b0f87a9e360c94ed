"""``featlink fetch``: data sets and weights from the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlink.shared.models.config import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from featlink.fetch.download import Progress

app = typer.Typer(help="Fetch COCO or official weights. A cut download resumes.", no_args_is_help=True)


@app.command("coco-val2017")
def coco_val2017(
    out: Annotated[Path, typer.Option(help="Folder for val2017/ and annotations/.")] = Path("coco"),
) -> None:
    """Fetch COCO val2017: 1 GB of archives, 5000 photos (needs about 2 GB while unpacking)."""
    from featlink.fetch.val2017 import fetch_val2017

    with _display() as progress:
        fetch_val2017(out, progress)
    typer.echo(f"COCO val2017 is in {out}: use --dataset {out}")


@app.command()
def weights(model: Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")] = MODELS[0]) -> None:
    """Fetch torchvision's official COCO weights into torch's cache, where '--weights coco' finds them."""
    from featlink.fetch.download import download
    from featlink.fetch.weights import cached_path, official

    target = cached_path(model)
    with _display() as progress:
        download(official(model), target, progress(target.name))
    typer.echo(f"{target} is there: use --weights coco")


@contextmanager
def _display() -> Iterator[Callable[[str], Progress]]:
    """Progress bars in the terminal, one per file."""
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, transient=True) as bars:

        def progress(name: str) -> Progress:
            task = bars.add_task(name, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield progress
