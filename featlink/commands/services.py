"""``featlink up``, ``page`` and ``infer``: services on this machine, and one picture through them."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featlink.errors import CommandError
from featlink.options import BitstreamsOption, takes_network
from featlink.shared.conditions.language import Domain
from featlink.shared.files import replace
from featlink.shared.models.config import ModelConfig

if TYPE_CHECKING:
    from featlink.client import Client


@takes_network()
def up(
    *,
    config: ModelConfig,
    edge_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the edge; 0 takes a free one.")] = 8001,
    channel_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the channel; 0 takes a free one.")
    ] = 8002,
    cloud_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the cloud; 0 takes a free one.")] = 8003,
    page_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the live page.", show_default="8000, or a free one"),
    ] = None,
    with_page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the live page.")] = True,
    database: Annotated[Path, typer.Option(help="SQLite file that keeps the runs.")] = Path("featlink-runs.sqlite"),
    keep_bitstreams: BitstreamsOption = None,
) -> None:
    """Start edge, channel, cloud and the live page on this machine and show their logs. Ctrl-C stops them."""
    from featlink.launcher import Ports, Stack, free_or, free_port, service_settings

    page = (page_port or free_or(8000)) if with_page else None
    edge, channel, cloud = (port or free_port() for port in (edge_port, channel_port, cloud_port))
    ports = Ports(edge, channel, cloud, page)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the services in order, as Ctrl-C does
    try:
        with (
            tempfile.TemporaryDirectory(prefix="featlink-") as folder,  # outlives the channel, which may be restarted
            Stack(
                ports,
                service_settings(config, database, keep_bitstreams) | {"state": f"{folder}/channel.json"},
                _show,
            ) as stack,
        ):
            stack.wait_ready()
            if page is not None:
                typer.echo(f"page: {ports.page_url}")
            typer.echo(
                f"ready: POST a picture to {ports.edge_url}/v1/infer (API: {ports.edge_url}/docs). Ctrl-C stops."
            )
            while True:
                stack.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        typer.echo("stopped")


def _show(service: str, line: str) -> None:
    """A service's log line made readable: its JSON fields as words."""
    try:
        fields = json.loads(line)
        event, when = fields.pop("event"), fields.pop("timestamp", "")
    except (ValueError, KeyError, AttributeError, TypeError):
        typer.echo(f"{service:<8} {_printable(line)}")
        return
    words = " ".join(f"{key}={value}" for key, value in fields.items() if key not in ("service", "level", "trace_id"))
    typer.echo(_printable(f"{service:<8} {when[11:19]} {event} {words}"))


def _printable(text: str) -> str:
    """One line whatever a client has put into it: no line of a request's path passes for one of a service's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def page(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.", show_default="8000")] = None,
    edge_url: Annotated[
        str | None, typer.Option("--edge-url", "--edge", help="The edge.", show_default="http://127.0.0.1:8001")
    ] = None,
    channel_url: Annotated[
        str | None,
        typer.Option("--channel-url", "--channel", help="The channel.", show_default="http://127.0.0.1:8002"),
    ] = None,
    cloud_url: Annotated[
        str | None, typer.Option("--cloud-url", "--cloud", help="The cloud.", show_default="http://127.0.0.1:8003")
    ] = None,
    sweeps: Annotated[
        Path | None, typer.Option(help="Folder in which finished sweeps are looked for.", show_default="out")
    ] = None,
    browser_edge: Annotated[
        Path | None,
        typer.Option(help="Folder of an export that visitors' browsers run as the edge.", show_default="none"),
    ] = None,
) -> None:
    """Show a running deployment in the browser: try pictures, watch runs, look at sweeps. Ctrl-C stops."""
    from pydantic import ValidationError

    from featlink.page.app import serve
    from featlink.page.context import PageSettings
    from featlink.shared.service.settings import reachable, wrong_settings

    options = {
        "host": host,
        "port": port,
        "edge_url": edge_url,
        "channel_url": channel_url,
        "cloud_url": cloud_url,
        "sweeps": sweeps,
        "browser_edge": browser_edge,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        settings = PageSettings(**given)
    except ValidationError as error:
        raise CommandError(wrong_settings(error, given)) from None
    typer.echo(f"page: {reachable(f'http://{settings.host}:{settings.port}')} (Ctrl-C stops)")
    serve(settings)


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
        Path | None, typer.Option(help="Save the planes of the features before and after the link (PNG).")
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
        crossed = domain_of(condition, domain)
        wanted = _received(client, crossed, compare, planes)
        result = client.infer(data, condition=condition, domain=domain, link=link, received=wanted)
        if compare is not None:
            clean = client.infer(data, condition="identity", domain=crossed, link="{}", fidelity=False)
            replace(compare, compared(decode(data, sys.maxsize), clean, result))
        if planes is not None:
            replace(planes, planes_sheet(client, data, result))
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


def _received(client: Client, domain: Domain, compare: Path | None, planes: Path | None) -> str | None:
    """What the answer is to bring back for the pictures."""
    if domain == "image":
        return None if compare is None else "image"
    return None if planes is None else ",".join(tensor["name"] for tensor in client.model()["features"])
