"""``featlink infer``: one picture through a running deployment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError
from featlink.files import replace
from shared.conditions.language import Domain


def infer(
    picture: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or BMP file.")],
    condition: Annotated[
        str | None, typer.Option(help="What happens on the link, e.g. 'quantize:bits=4'; default: the channel's own.")
    ] = None,
    domain: Annotated[Domain | None, typer.Option(help="What crosses the link.", show_default="feature")] = None,
    out: Annotated[Path | None, typer.Option(help="Save the picture with its detections drawn in (PNG).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
    edge: Annotated[str, typer.Option(help="Base URL of the edge.")] = "http://127.0.0.1:8001",
) -> None:
    """Send a picture to a running edge and show what the cloud detects."""
    from featlink.client import Client

    if not picture.is_file():
        raise CommandError(f"there is no file {picture}")
    data = picture.read_bytes()
    with Client(edge, edge) as client:
        answer = client.infer(data, condition=condition, domain=domain)
    if out is not None:
        from edge.decode import decode
        from shared.detector.overlay import draw

        replace(out, draw(decode(data, max_pixels=sys.maxsize), answer["detections"], answer["categories"]))
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for detection in answer["detections"]:
        name = answer["categories"][str(detection["category_id"])]
        x, y, width, height = detection["bbox"]
        typer.echo(f"{detection['score']:.3f}  {name:<16} x={x:.1f} y={y:.1f} w={width:.1f} h={height:.1f}")
    typer.echo(
        f"{len(answer['detections'])} detections, {answer['bits'] / 8000:,.1f} kB over the link, "
        f"{answer['bpp']:.2f} bpp, {answer['timings']['total']:.0f} ms"
    )
    if "condition" in answer:
        typer.echo(f"condition: {answer['condition']}")
