"""``featlink export edge``: the edge's half as ONNX, for a device without torch."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from featlink.dataset import MAX_PIXELS, ground_truth, open_dataset
from featlink.errors import CommandError
from featlink.options import DatasetOption, LimitOption, takes_network
from featlink.report.table import Column, Table, number, show
from featlink.shared.files import replace
from featlink.shared.models.config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featlink.shared.features import Image

PrecisionName = Literal["fp32", "fp16", "int8"]

_DRAWN = 32
"""Scenes that int8 is calibrated on where no pictures are given."""

export = typer.Typer(help="Export a network's half for devices without torch.", no_args_is_help=True)


@export.callback()
def _group() -> None:
    """Keep ``edge`` a command of its own."""


@export.command()
@takes_network("model", "weights", "min_size", "max_size", "split")
def edge(
    out: Annotated[Path, typer.Option(help="Folder to write edge.onnx and edge.json to.")],
    size: Annotated[
        str | None,
        typer.Option(help="HEIGHTxWIDTH of the pictures, for runtimes that take one size.", show_default="any"),
    ] = None,
    reduction: Annotated[
        str | None,
        typer.Option(
            help="Send what this step makes: 'bottleneck(step=4)', 'pca(components=64)'.", show_default="none"
        ),
    ] = None,
    precision: Annotated[PrecisionName, typer.Option(help="Of the backbone's arithmetic.")] = "fp32",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Pictures, or a data set, that int8 is calibrated on.", show_default=f"{_DRAWN} drawn scenes"
        ),
    ] = None,
    *,
    config: ModelConfig,
) -> None:
    """Write the edge's half as ONNX with all that a client needs, for `featlink-edge`."""
    sides = None if size is None else _sides(size)
    from rich.console import Console

    from featlink.exporting import export_edge  # torch takes seconds to import: after the arguments are checked

    pictures = list(islice(_pictures(calibrate, sides), _DRAWN)) if precision == "int8" else []
    console = Console()
    with console.status("network") as status:
        written = export_edge(config, out, sides, reduction, precision, pictures, status.update)
    sends = ", ".join(written.facts.tensors)
    console.print(
        f"{out}: {written.graph_bytes / 1e6:.1f} MB, {written.facts.model} {written.facts.weights}, sends {sends}",
        soft_wrap=True,
    )


@export.command()
@takes_network("model", "weights", "profile", "min_size", "max_size", "split")
def check(
    edge: Annotated[Path, typer.Argument(help="Folder of an export.")],
    dataset: DatasetOption = Path("starter"),
    frames: Annotated[
        Path | None,
        typer.Option(help="Frames that a device wrote with it (featlink-edge --out).", show_default="computed here"),
    ] = None,
    condition: Annotated[
        str | None, typer.Option(help="That both go through.", show_default="the export's, else identity")
    ] = None,
    *,
    config: ModelConfig,
    limit: LimitOption = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file, too.")] = None,
) -> None:
    """Say what an exported edge is worth: AP and bytes beside the network's own, and how far its features are off."""
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from featlink.exported_check import check as compare
    from featlink.exported_check import graph_frames, recorded_frames
    from featlink.shared.conditions import language
    from featlink.shared.models.registry import build

    data = open_dataset(dataset)
    truth, _ = ground_truth(data)
    pictures = dict(islice(data.images.items(), limit))
    model = build(config)
    facts, computed = graph_frames(edge, model)
    source = computed if frames is None else recorded_frames(frames)
    wanted = language.parse(condition or facts.condition or "identity", "feature")
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("pictures", total=len(pictures))
        found = compare(model, source, pictures, truth, wanted, lambda: progress.advance(task))
    rows = [
        [f"{group} AP", number(100 * (found.own[group]["AP"] or 0), 2), number(100 * (scores["AP"] or 0), 2)]
        for group, scores in found.exported.items()
    ]
    rows.append(["kB a picture", number(found.bytes[1] / 1e3, 2), number(found.bytes[0] / 1e3, 2)])
    rows += [
        [f"{name}: largest / rms error", "", f"{100 * one.largest:.3g} % / {100 * one.rms:.2g} % of the range"]
        for name, one in found.deviations.items()
    ]
    title = f"{found.images} pictures, {found.condition}"
    show(Table(title, [Column("", number=False), Column("network"), Column(found.model)], rows))
    if json_out is not None:
        replace(json_out, msgspec.json.format(msgspec.json.encode(found), indent=2))


def _sides(size: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", size)):
        raise CommandError(f"size: {size!r} is not HEIGHTxWIDTH, such as 480x640")
    return int(found[1]), int(found[2])


def _pictures(source: Path | None, sides: tuple[int, int] | None) -> Iterator[Image]:
    """Pictures to calibrate on, in the size of the export."""
    import cv2
    import numpy as np

    from featlink.shared.pictures import decode
    from featlink.starter.folder import picture_scene

    found = (
        (picture_scene(7, "train", index).image for index in range(_DRAWN))
        if source is None
        else (decode(file.read_bytes(), MAX_PIXELS) for file in open_dataset(source, "clean").images.values())
    )
    for picture in found:
        yield picture if sides is None else np.asarray(cv2.resize(picture, sides[::-1]), np.uint8)
