"""``featlink fit``: what a step of the channel needs to know of a network, found once from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.model_options import DatasetOption, ModelOption, SizeOption, ThreadsOption, WeightsOption, network_config

app = typer.Typer(help="Fit what reduction steps need to a network. No labels are used.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep the subcommand's name, although there is only one."""


@app.command()
def pca(
    dataset: DatasetOption,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write.", show_default="where the channel looks: $FEATLINK_FITTED"),
    ] = None,
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
    from featlink.files import replace
    from shared.fitted import home

    pictures = list(open_dataset(dataset).images.values())[:scenes]
    config = network_config(model=model, weights=weights, min_size=min_size, max_size=max_size, threads=threads)
    console = Console()

    from channel.reduction.basis import encode
    from featlink.fitting.pca import fit, rounds  # torch takes seconds to import: after the arguments are checked

    with Progress(console=console) as progress:
        task = progress.add_task("pictures", total=rounds(pictures))
        basis = fit(config, pictures, lambda: progress.advance(task))
    content = encode(basis)
    target = out or home() / f"pca-{basis.weights}.safetensors"
    replace(target, content)
    kept = ", ".join(f"{name} {len(channels)}" for name, channels in basis.mean.items())
    console.print(
        f"{target}: {len(content):,} bytes, {len(basis.deviation)} components, channels {kept}", soft_wrap=True
    )
