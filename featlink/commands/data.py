"""``featlink scenes`` and ``fetch``: data sets and weights; ``fit``: what reduction steps learn from pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.options import DatasetOption, PicturesOption, takes_network
from featlink.shared.files import replace
from featlink.shared.fitted import find, home, key
from featlink.shared.models.config import MODELS, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from featlink.fetch.download import Progress

PartName = Literal["train", "val", "held-out"]


class MotionName(StrEnum):
    """Those of :mod:`featlink.starter.clips`, which takes long to import; typer takes no list of literals."""

    STATIC, PAN, HANDHELD, TRAFFIC = "static", "pan", "handheld", "traffic"


def scenes(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    n: Annotated[int, typer.Option("--n", min=1, max=10**6, help="How many scenes.")] = 64,
    clips: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="Draw so many clips instead.", show_default="scenes")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=10**5, help="Frames of a clip.")] = 48,
    motion: Annotated[
        list[MotionName] | None,
        typer.Option(
            help="What moves in clips beside their objects; given more than once: in turn.", show_default="each in turn"
        ),
    ] = None,
    fps: Annotated[int, typer.Option(min=1, max=1000, help="Frames a second of clips.")] = 15,
    seed: Annotated[int, typer.Option(min=0, max=999, help="The same seed gives the same scenes.")] = 1,
    art: Annotated[
        PartName,
        typer.Option(
            help="Drawings: those the starter weights learned (train), others (val), an unseen style (held-out)."
        ),
    ] = "val",
    marks: Annotated[
        int,
        typer.Option(min=0, max=20, help="Written marks in each scene: digits, a plate, a face, in turn (for 'leak')."),
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Write synthetic scenes, or clips of moving ones, with their ground truth in COCO's or CocoVID's layout."""
    from rich.console import Console
    from rich.progress import Progress

    from featlink.starter.clips import MOTIONS
    from featlink.starter.folder import write_clips, write_folder

    console = Console()
    motions = [name for name in MOTIONS if not motion or name in motion]
    what, total = ("scenes", n) if clips is None else ("clips", clips)
    if marks and clips is not None:
        raise CommandError("clips have no written marks: leave --marks or --clips out")
    try:
        with Progress(console=console) as progress:
            task = progress.add_task(what, total=total)
            written = (
                write_folder(out, n, seed, art, workers=workers, marks=marks)
                if clips is None
                else write_clips(out, clips, frames, seed, art, motions, fps, workers)
            )
            for done in written:
                progress.update(task, completed=done)
    except OSError as error:
        raise CommandError(f"cannot write {what} to {out}: {error.strerror or error}") from None
    console.print(f"{total} {what} in {out}", soft_wrap=True)


fetch = typer.Typer(help="Fetch COCO or official weights. An interrupted download resumes.", no_args_is_help=True)


@fetch.command("coco-val2017")
def coco_val2017(
    out: Annotated[Path, typer.Option(help="Folder for val2017/ and annotations/.")] = Path("coco"),
) -> None:
    """Fetch COCO val2017: 1 GB of archives, 5000 photos (needs about 2 GB while unpacking)."""
    from featlink.fetch.sources import fetch_val2017

    with _display() as progress:
        fetch_val2017(out, progress)
    typer.echo(f"COCO val2017 is in {out}: use --dataset {out}")


@fetch.command()
def weights(model: Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")] = MODELS[0]) -> None:
    """Fetch torchvision's official COCO weights into torch's cache, where '--weights coco' finds them."""
    from featlink.fetch.download import download
    from featlink.fetch.sources import cached_path, official

    target = cached_path(model)
    with _display() as progress:
        download(official(model), target, progress(target.name))
    typer.echo(f"{target} is there: use --weights coco")


@fetch.command("detectron2-r50-3x")
def detectron2_r50_3x(
    out: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path("detectron2"),
) -> None:
    """Fetch the R50-FPN 3x checkpoints of detectron2's model zoo (Mask and Faster R-CNN, CC BY-SA 3.0): 344 MB."""
    from featlink.fetch.sources import fetch_detectron2

    with _display() as progress:
        digests = fetch_detectron2(out, progress)
    for name, digest in digests.items():
        typer.echo(f"{out / name}: SHA-256 {digest}; use --model detectron2_r50_fpn --weights {out / name}")


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


fit = typer.Typer(
    help="Fit to a network what reduction steps need, and attackers. No labels are used.", no_args_is_help=True
)


OutOption = Annotated[
    Path | None, typer.Option(help="File to write.", show_default="where the channel looks: $FEATLINK_FITTED")
]


@fit.command()
@takes_network("model", "weights", "min_size", "max_size", "threads", "split")
def pca(
    dataset: DatasetOption,
    out: OutOption = None,
    pictures_in: PicturesOption = None,
    *,
    config: ModelConfig,
    scenes: Annotated[int, typer.Option(min=1, help="Take the first so many pictures.")] = 120,
) -> None:
    """Fit the basis of the pca step to a network's features. Fit it on other pictures than those you measure on."""
    from rich.console import Console
    from rich.progress import Progress

    pictures = list(open_dataset(dataset, "clean", pictures_in).images.values())[:scenes]
    console = Console()

    from featlink.channel.reduction.pca import encode_basis
    from featlink.fitting.pca import fit as fit_basis
    from featlink.fitting.pca import rounds  # torch takes seconds to import: after the arguments are checked

    with Progress(console=console) as progress:
        task = progress.add_task("pictures", total=rounds(pictures))
        basis = fit_basis(config, pictures, lambda: progress.advance(task))
    content = encode_basis(basis)
    target = out or home() / f"pca-{basis.weights}.safetensors"
    replace(target, content)
    kept = ", ".join(f"{name} {len(channels)}" for name, channels in basis.mean.items())
    console.print(
        f"{target}: {len(content):,} bytes, {len(basis.deviation)} components, channels {kept}", soft_wrap=True
    )


@fit.command()
@takes_network("model", "weights", "min_size", "max_size", "threads", "split")
def bottleneck(
    dataset: DatasetOption,
    out: OutOption = None,
    pictures_in: PicturesOption = None,
    *,
    config: ModelConfig,
    scenes: Annotated[int, typer.Option(min=2, help="Take the first so many pictures.")] = 400,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of the optimiser, of two pictures each.")] = 4000,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1, …")] = "cpu",
    drop: Annotated[
        float,
        typer.Option(min=0, max=1, help="For a link that loses packets: drop up to this share of stripes in training."),
    ] = 0,
    start: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Go on from a file of this command.", show_default="untrained networks"
        ),
    ] = None,
) -> None:
    """Train the networks of the bottleneck step on what the heads answer, behind the basis of `featlink fit pca`.

    Stop it at any time and run the same command again: it goes on from the checkpoint beside the file it writes.
    """
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    pictures = list(open_dataset(dataset, "clean", pictures_in).images.values())[:scenes]
    console = Console()

    from featlink.channel.reduction.bottleneck import as_stored, encode_learned, read_learned
    from featlink.channel.reduction.pca import read_basis
    from featlink.fitting.bottleneck import Teacher, Training, examples_of
    from featlink.shared.models.registry import build

    split = build(config)
    weights = key(split.weights, split.spec)
    begun = None if start is None else read_learned(start)
    linear = as_stored(read_basis(find("pca", weights))) if begun is None else begun.basis
    if linear.weights != weights:
        raise CommandError(f"{start} is fitted to weights {linear.weights}, not {weights}")
    target = out or home() / f"bottleneck-{linear.weights}.safetensors"
    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console) as progress:
        looked_at = progress.add_task("pictures", total=len(pictures))
        examples = examples_of(split, linear, pictures, lambda: progress.advance(looked_at))
        target.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = target.with_name(f"{target.name}.checkpoint")
        training = Training(
            Teacher(config, linear),
            linear.deviation,
            examples,
            rounds,
            checkpoint,
            device,
            drop,
            None if begun is None else begun.layers,
        )
        learning = progress.add_task("rounds", total=rounds, completed=training.round)
        training.run(lambda count: progress.update(learning, completed=count))
        before, after = training.untrained, training.measure()
        lossy = training.measure(drop) if drop else None
    content = encode_learned(training.learned(linear))
    replace(target, content)
    console.print(f"{target}: {len(content):,} bytes", soft_wrap=True)
    if before is not None:
        for step, far in after.distance.items():
            console.print(
                f"step {step}: distance {before.distance[step]:.3f} → {far:.3f}"
                + ("" if lossy is None else f", {lossy.distance[step]:.3f} with {drop:g} of the stripes lost")
                + f", {before.size[step]:,.0f} → {after.size[step]:,.0f} bytes"
            )
