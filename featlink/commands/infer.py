"""``featlink infer``: one picture through a running deployment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError
from featlink.shared.conditions.language import Domain
from featlink.shared.files import replace
from featlink.shared.models.fpn import FPN


def infer(
    picture: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or BMP file.")],
    condition: Annotated[
        str | None, typer.Option(help="What happens on the link, e.g. 'quantize:bits=4'; default: the channel's own.")
    ] = None,
    domain: Annotated[Domain | None, typer.Option(help="What crosses the link.", show_default="feature")] = None,
    out: Annotated[Path | None, typer.Option(help="Save the picture with its detections drawn in (PNG).")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Save clean, received and their difference side by side (PNG).")
    ] = None,
    planes: Annotated[
        Path | None, typer.Option(help="Save the planes of p2 to p6 before and after the link (PNG).")
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(help='Simulated link, e.g. \'{"rate_mbps": 20, "rtt_ms": 40}\'; default: the channel\'s own.'),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
    edge: Annotated[
        str, typer.Option(help="Base URL of the edge.", envvar="FEATLINK_EDGE_URL")
    ] = "http://127.0.0.1:8001",
) -> None:
    """Send a picture to a running edge and show what the cloud detects."""
    from featlink.client import Client
    from featlink.shared.pictures import decode
    from featlink.views import compared, domain_of, planes_sheet

    if not picture.is_file():
        raise CommandError(f"there is no file {picture}")
    data = picture.read_bytes()
    with Client(edge, edge) as client:
        wanted = _received(domain_of(condition, domain), compare, planes)
        result = client.infer(data, condition=condition, domain=domain, link=link, received=wanted)
        if compare is not None:
            crossed = domain_of(condition, domain)
            clean = client.infer(data, condition="identity", domain=crossed, link="{}", fidelity=False)
            replace(compare, compared(decode(data, sys.maxsize), clean.body(), result.body()))
        if planes is not None:
            replace(planes, planes_sheet(client, data, result.body()))
    if out is not None:
        from featlink.shared.models.overlay import draw

        replace(out, draw(decode(data, sys.maxsize), result.detections, result.categories))
    if as_json:
        typer.echo(json.dumps({name: value for name, value in result.body().items() if name != "received"}))
        return
    for detection in result.detections:
        name = result.categories[str(detection["category_id"])]
        x, y, width, height = detection["bbox"]
        typer.echo(f"{detection['score']:.3f}  {name:<16} x={x:.1f} y={y:.1f} w={width:.1f} h={height:.1f}")
    typer.echo(
        f"{len(result.detections)} detections, {(result.bits or 0) / 8000:,.1f} kB over the link, "
        f"{result.bpp:.2f} bpp, {result.timings['total']:.0f} ms"
    )
    if result.condition:
        typer.echo(f"condition: {result.condition}")


def _received(domain: Domain, compare: Path | None, planes: Path | None) -> str | None:
    """What the answer is to bring back for the pictures."""
    if domain == "image":
        return None if compare is None else "image"
    return None if planes is None else ",".join(FPN.names)
