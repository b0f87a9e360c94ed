"""``featlink page``: a running deployment in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError


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
) -> None:
    """Show a running deployment in the browser: try pictures, watch runs, look at sweeps. Ctrl-C stops."""
    from pydantic import ValidationError

    from featlink.page.app import serve
    from featlink.page.context import PageSettings, reachable
    from featlink.shared.service.settings import wrong_settings

    given = {
        "host": host,
        "port": port,
        "edge_url": edge_url,
        "channel_url": channel_url,
        "cloud_url": cloud_url,
        "sweeps": sweeps,
    }
    try:
        settings = PageSettings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        names = {name for name, value in given.items() if value is not None}
        raise CommandError(wrong_settings(error, names)) from None
    typer.echo(f"page: {reachable(f'http://{settings.host}:{settings.port}')} (Ctrl-C stops)")
    serve(settings)
