"""``featlink bench``: a data set under many conditions."""

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
    PicturesOption,
    ProfileOption,
    SizeOption,
    ThreadsOption,
    WeightsOption,
    network_config,
)
from featlink.sweeps.plan import EngineName, SweepOptions, read_seeds, read_shard, read_time


def bench(
    dataset: DatasetOption = Path("starter"),
    pictures: PicturesOption = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            help="Names (paper, paper.table3, paper+equal), a .yaml or .json file, or a condition; repeatable.",
            show_default="paper",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; give it again to continue.")] = Path("out/bench"),
    engine: Annotated[
        EngineName, typer.Option(help="What computes: this process, running services, or Ray workers.")
    ] = "local",
    model: ModelOption = None,
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    limit: LimitOption = None,
    shard: Annotated[str, typer.Option(help="i/n takes every n-th image, from the i-th (0 to n - 1) on.")] = "0/1",
    seeds: Annotated[
        str, typer.Option(help="Seeds of random distortions; the report has medians over them.")
    ] = "0,1,2",
    fidelity: Annotated[bool, typer.Option(help="Measure PSNR, SSIM and rank correlation.")] = True,
    truth: Annotated[
        Truth,
        typer.Option(
            help="What counts as right: annotations; or clean, what the undistorted run detects, in any pictures."
        ),
    ] = "annotations",
    time_budget: Annotated[
        str | None, typer.Option(help="Stop after this time, e.g. 30m.", show_default="never")
    ] = None,
    edge: Annotated[
        str | None, typer.Option(help="http: URL of a running edge.", show_default="start the services here")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="ray: how many workers at most.", show_default="2 here; as many as a cluster has room for"
        ),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="ray: HOST:PORT of a cluster's head.", show_default="start one here")
    ] = None,
    worker_memory: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="ray: GB that a worker may hold; one that holds more is replaced.", show_default="no bound"
        ),
    ] = None,
) -> None:
    """Evaluate a data set under many conditions in both domains. Stop it at any time; the same command continues."""
    # Before torch loads OpenMP: its threads would spin at every barrier and take the cores from those that work ahead.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from rich.console import Console

    from featlink.commands.outcome import end, show_rows
    from featlink.sweeps.run import run_sweep

    options = SweepOptions(
        dataset=dataset,
        pictures=pictures,
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
        out=out,
        seeds=read_seeds(seeds),
        fidelity=fidelity,
        engine=engine,
        limit=limit,
        shard=read_shard(shard),
        time_budget=None if time_budget is None else read_time(time_budget),
        truth=truth,
        edge=edge,
        workers=workers,
        ray_address=ray_address,
        worker_memory_gb=worker_memory or 0.0,
    )
    ended = run_sweep(options, Console(stderr=True))
    show_rows(ended.rows, out)
    end(ended)
