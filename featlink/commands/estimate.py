"""``featlink estimate``: how long a sweep will take, and how much disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from featlink.dataset import Truth
from featlink.model_options import (
    DatasetOption,
    DeviceOption,
    LimitOption,
    ModelOption,
    PicturesInOption,
    ProfileOption,
    SizeOption,
    ThreadsOption,
    WeightsOption,
    network_config,
)
from featlink.sweeps.plan import SweepOptions, read_seeds


def estimate(
    dataset: DatasetOption = Path("starter"),
    conditions: Annotated[
        list[str] | None, typer.Option(help="As for bench; repeatable.", show_default="paper")
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=2, help="How many to compute, spread over the data set; the first warms up.")
    ] = 6,
    pictures_in: PicturesInOption = None,
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="Workers to reckon with; repeatable.", show_default="2, 4, 8")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The sweep's folder: keep there what is computed, so that bench goes on from it."),
    ] = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    limit: LimitOption = None,
    seeds: Annotated[str, typer.Option(help="Seeds of random distortions.")] = "0,1,2",
    fidelity: Annotated[bool, typer.Option(help="Measure PSNR, SSIM and rank correlation.")] = True,
    truth: Annotated[Truth, typer.Option(help="What counts as right, as for bench.")] = "annotations",
) -> None:
    """Time a few pictures of a sweep and say how long the rest takes, here and on more workers, and how much disk."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as for bench, whose times these are to be
    import tempfile

    from rich.console import Console

    from featlink.estimate import duration, sentences
    from featlink.estimate import estimate as reckon
    from featlink.report.table import Column, Table, say, show

    with tempfile.TemporaryDirectory(prefix="featlink-") as temporary:
        options = SweepOptions(
            dataset=dataset,
            pictures=pictures_in,
            config=network_config(
                model=model,
                weights=weights,
                profile=profile,
                min_size=min_size,
                max_size=max_size,
                threads=threads,
                device=device,
            ),
            conditions=tuple(conditions or ["paper"]),
            out=out or Path(temporary),
            seeds=read_seeds(seeds),
            fidelity=fidelity,
            limit=limit,
            sample=pictures,
            truth=truth,
        )
        found = reckon(options, out is not None, Console(stderr=True))
    rows = [
        ["here" if count == 1 else f"{count} workers like this one", likely, f"{low} to {high}"]
        for count in sorted({1, *(workers or (2, 4, 8))})
        for likely, low, high in [map(duration, found.seconds(count))]
    ]
    show(Table(f"{found.left} pictures", [Column("on", number=False), Column("time"), Column("range")], rows))
    typer.echo()
    for sentence in sentences(found):
        say(sentence)
