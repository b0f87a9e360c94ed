"""``featlink fit``: what a step of the channel needs to know of a network, found once from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.model_options import (
    DatasetOption,
    ModelOption,
    PicturesOption,
    SizeOption,
    ThreadsOption,
    WeightsOption,
    network_config,
)

app = typer.Typer(help="Fit what reduction steps need to a network. No labels are used.", no_args_is_help=True)


OutOption = Annotated[
    Path | None, typer.Option(help="File to write.", show_default="where the channel looks: $FEATLINK_FITTED")
]


@app.command()
def pca(
    dataset: DatasetOption,
    out: OutOption = None,
    pictures_in: PicturesOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    scenes: Annotated[int, typer.Option(min=1, help="Take the first so many pictures.")] = 120,
) -> None:
    """Fit the basis of the pca step to a network's features. Fit it on other pictures than those you measure on."""
    from rich.console import Console
    from rich.progress import Progress

    from featlink.dataset import open_dataset
    from featlink.shared.files import replace
    from featlink.shared.fitted import home

    pictures = list(open_dataset(dataset, "clean", pictures_in).images.values())[:scenes]
    config = network_config(model=model, weights=weights, min_size=min_size, max_size=max_size, threads=threads)
    console = Console()

    from featlink.channel.reduction.pca import encode_basis
    from featlink.fitting.pca import fit, rounds  # torch takes seconds to import: after the arguments are checked

    with Progress(console=console) as progress:
        task = progress.add_task("pictures", total=rounds(pictures))
        basis = fit(config, pictures, lambda: progress.advance(task))
    content = encode_basis(basis)
    target = out or home() / f"pca-{basis.weights}.safetensors"
    replace(target, content)
    kept = ", ".join(f"{name} {len(channels)}" for name, channels in basis.mean.items())
    console.print(
        f"{target}: {len(content):,} bytes, {len(basis.deviation)} components, channels {kept}", soft_wrap=True
    )


@app.command()
def bottleneck(
    dataset: DatasetOption,
    out: OutOption = None,
    pictures_in: PicturesOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    scenes: Annotated[int, typer.Option(min=2, help="Take the first so many pictures.")] = 400,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of the optimiser, of two pictures each.")] = 4000,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1, …")] = "cpu",
) -> None:
    """Train the networks of the bottleneck step on what the heads answer, behind the basis of `featlink fit pca`.

    Stop it at any time and run the same command again: it goes on from the checkpoint beside the file it writes.
    """
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    from featlink.dataset import open_dataset
    from featlink.shared.files import replace
    from featlink.shared.fitted import find, home

    pictures = list(open_dataset(dataset, "clean", pictures_in).images.values())[:scenes]
    config = network_config(model=model, weights=weights, min_size=min_size, max_size=max_size, threads=threads)
    console = Console()

    from featlink.channel.reduction.bottleneck import as_stored, encode_learned
    from featlink.channel.reduction.pca import read_basis
    from featlink.fitting.bottleneck import Teacher, Training, examples_of
    from featlink.shared.models.torchvision_rcnn import build

    split = build(config)
    linear = as_stored(read_basis(find("pca", split.weights)))
    target = out or home() / f"bottleneck-{split.weights}.safetensors"
    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console) as progress:
        looked_at = progress.add_task("pictures", total=len(pictures))
        examples = examples_of(split, linear, pictures, lambda: progress.advance(looked_at))
        target.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = target.with_name(f"{target.name}.checkpoint")
        training = Training(Teacher(config, linear), linear.deviation, examples, rounds, checkpoint, device)
        learning = progress.add_task("rounds", total=rounds, completed=training.round)
        training.run(lambda count: progress.update(learning, completed=count))
        before, after = training.untrained, training.measure()
    content = encode_learned(training.learned(linear))
    replace(target, content)
    console.print(f"{target}: {len(content):,} bytes", soft_wrap=True)
    if before is not None:
        for step, far in after.distance.items():
            console.print(
                f"step {step}: distance {before.distance[step]:.3f} → {far:.3f}, "
                f"{before.size[step]:,.0f} → {after.size[step]:,.0f} bytes"
            )
