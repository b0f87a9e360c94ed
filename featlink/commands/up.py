"""``featlink up``: the three services and the live page on this machine."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from featlink.model_options import (
    BitstreamsOption,
    DeviceOption,
    ModelOption,
    ProfileOption,
    SizeOption,
    ThreadsOption,
    WeightsOption,
    network_config,
)


def up(
    model: ModelOption = None,
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
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

    config = network_config(
        model=model,
        weights=weights,
        profile=profile,
        min_size=min_size,
        max_size=max_size,
        threads=threads,
        device=device,
    )
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
