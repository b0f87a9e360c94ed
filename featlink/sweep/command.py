"""``featlink bench`` and ``featlink merge``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from featlink.errors import CommandError
from featlink.model_options import ModelOption, ProfileOption, SizeOption, ThreadsOption, WeightsOption
from featlink.results import Row
from featlink.sweep.options import EngineName, Options, read_seeds, read_shard, read_time
from shared.conditions.language import validation_line
from shared.detector.config import ModelConfig

if TYPE_CHECKING:
    from rich.table import Table

_INTERRUPTED = 130
"""Exit code, as shells have it for Ctrl-C."""


def bench(
    dataset: Annotated[
        Path,
        typer.Option(help="COCO folder, annotations/instances_X.json beside X/, or such a file; 'starter': bundled."),
    ] = Path("starter"),
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            help="Names (paper, paper.table3, paper+equal), a .yaml or .json file, or a condition; repeatable."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything the sweep makes; give it again to continue.")] = Path(
        "out/bench"
    ),
    engine: Annotated[EngineName, typer.Option(help="What computes.")] = "local",
    model: ModelOption = None,
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "--images", min=1, help="Only the data set's first so many images.")
    ] = None,
    shard: Annotated[str, typer.Option(help="i/n: every n-th image from the i-th (0 to n - 1) on.")] = "0/1",
    seeds: Annotated[str, typer.Option(help="Of conditions with random distortions; medians are reported.")] = "0,1,2",
    fidelity: Annotated[bool, typer.Option(help="Measure PSNR, SSIM and rank correlation.")] = True,
    time_budget: Annotated[str | None, typer.Option(help="Stop after this time, e.g. 30m.")] = None,
    edge: Annotated[str | None, typer.Option(help="http: URL of a running edge; default: start services.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="ray: how many.")] = 2,
    ray_address: Annotated[str | None, typer.Option(help="ray: of a cluster; default: start one here.")] = None,
) -> None:
    """Evaluate a data set under many conditions in both domains. Stop it anyhow; the same command continues."""
    # Before torch loads OpenMP: its threads would spin at every barrier and take the cores from those that work ahead.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from rich.console import Console

    from featlink.sweep.run import run_sweep

    options = Options(
        dataset=dataset,
        config=_config(
            model=model, weights=weights, profile=profile, min_size=min_size, max_size=max_size, threads=threads
        ),
        conditions=tuple(conditions or ["paper"]),
        out=out,
        seeds=read_seeds(seeds),
        fidelity=fidelity,
        engine=engine,
        limit=limit,
        shard=read_shard(shard),
        time_budget=None if time_budget is None else read_time(time_budget),
        edge=edge,
        workers=workers,
        ray_address=ray_address,
    )
    console = Console()
    ended = run_sweep(options, console)
    _show(console, ended.rows, out)
    if ended.why != "complete":
        console.print(f"stopped: {ended.why}; the same command continues", highlight=False)
    if ended.why == "interrupted":
        raise typer.Exit(_INTERRUPTED)


def merge(
    shards: Annotated[list[Path], typer.Argument(help="Output folders of sweeps that differ in their images only.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged sweep.")],
) -> None:
    """Make one sweep of its shards."""
    from rich.console import Console

    from featlink.sweep.merge import merge as merge_shards

    console = Console()
    _show(console, merge_shards(shards, out, console), out)


def _config(**given: Any) -> ModelConfig:
    """The network's settings; what the command line does not say may come from ``FEATLINK_*``, as for services."""
    from shared.service.settings import ModelSettings

    try:
        config = ModelSettings(**{name: value for name, value in given.items() if value is not None}).config()
    except ValidationError as error:
        raise CommandError(validation_line(error)) from None
    if config.weights in ("starter", "coco"):
        return config
    return replace(config, weights=str(Path(config.weights).expanduser().resolve()))  # workers may be elsewhere


def _show(console: Any, rows: Sequence[Row], out: Path) -> None:
    if not rows:
        console.print("no image is complete under all conditions yet", highlight=False)
        return
    console.print(_table(rows))
    console.print(f"written: {out}/results.json, results.csv, detections/, manifest.json", highlight=False)


def _table(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    table = Table("condition", title=f"{rows[0].images} images")
    for heading in ("AP bbox", "AP segm", "kB/image", "PSNR [F]", "PSNR [I]"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.id,
            _number(row.bbox["AP"], 100),
            _number((row.segm or {}).get("AP"), 100),
            f"{row.bits_per_image / 8000:,.1f}",
            _number(row.fidelity.get("psnr_f")),
            _number(row.fidelity.get("psnr_i")),
        )
    return table


def _number(value: float | None, scale: float = 1) -> str:
    return "–" if value is None else f"{scale * value:.1f}"
