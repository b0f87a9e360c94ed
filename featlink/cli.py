"""``featlink``: the command line."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError
from featlink.fetch.command import app as fetch
from featlink.model_options import ModelOption, ProfileOption, SizeOption, ThreadsOption, WeightsOption
from featlink.report.command import report
from featlink.scenes import scenes
from featlink.sweep.command import bench, merge
from shared.errors import FeatlinkError

app = typer.Typer(
    help="Featlink: what a link, a codec or a distortion does to a detector's mAP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(bench)
app.command()(merge)
app.command()(report)
app.command()(scenes)
app.add_typer(fetch, name="fetch")

BitstreamsOption = Annotated[Path | None, typer.Option(help="Keep codecs' bitstreams in this folder.")]


@app.command()
def up(
    model: ModelOption = None,
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    edge_port: int = 8001,
    channel_port: int = 8002,
    cloud_port: int = 8003,
    database: Annotated[Path, typer.Option(help="Where runs are kept (SQLite).")] = Path("featlink-runs.sqlite"),
    keep_bitstreams: BitstreamsOption = None,
) -> None:
    """Start edge, channel and cloud here, stream their logs, stop them on Ctrl-C."""
    from featlink.launcher import Ports, Stack

    settings = _settings(model, weights, profile, min_size, max_size, threads, database, keep_bitstreams)
    ports = Ports(edge_port, channel_port, cloud_port)
    try:
        with Stack(ports, settings, _show) as stack:
            stack.wait_ready()
            typer.echo(
                f"ready: POST a picture to {ports.edge_url}/v1/infer (API: {ports.edge_url}/docs). Ctrl-C stops."
            )
            while True:
                stack.check()
                time.sleep(0.5)
    except KeyboardInterrupt:
        typer.echo("stopped")


@app.command()
def infer(
    picture: Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or BMP file.")],
    condition: Annotated[str | None, typer.Option(help="E.g. 'quantize:bits=4'; default: the channel's.")] = None,
    domain: Annotated[str | None, typer.Option(help="'feature' (default) or 'image'.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the picture with its detections here (PNG).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
    edge: Annotated[str, typer.Option(help="Base URL of the edge.")] = "http://127.0.0.1:8001",
) -> None:
    """Send a picture through a running edge and show what the cloud detects."""
    from featlink.client import Client

    if not picture.is_file():
        raise CommandError(f"there is no file {picture}")
    data = picture.read_bytes()
    with Client(edge, edge) as client:
        answer = client.infer(data, condition=condition, domain=domain)
    if out is not None:
        from edge.decode import decode
        from shared.detector.overlay import draw

        pixels = decode(data, max_pixels=sys.maxsize)
        _write(out, draw(pixels, answer["detections"], answer["categories"]))
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


@app.command()
def conditions(
    names: Annotated[str, typer.Argument(help="Only these, e.g. 'paper.table3' or 'paper+equal'.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print {name: text form} as JSON.")] = False,
) -> None:
    """List the named conditions with their text forms; a name stands wherever a condition is asked for."""
    from shared.conditions.names import NAMED, select

    chosen = select(names) if names else NAMED
    if not chosen:
        raise CommandError(f"no condition is named {names!r}; 'featlink conditions' lists all")
    if as_json:
        typer.echo(json.dumps(chosen, indent=1))
        return
    width = max(map(len, chosen))
    for name, text in chosen.items():
        typer.echo(f"{name:<{width}}  {text}")


@app.command()
def demo(
    dataset: Annotated[
        Path,
        typer.Option(help="COCO folder, annotations/instances_X.json beside X/, or such a file; 'starter': bundled."),
    ] = Path("starter"),
    model: ModelOption = None,
    weights: WeightsOption = None,
    profile: ProfileOption = None,
    min_size: SizeOption = None,
    max_size: SizeOption = None,
    threads: ThreadsOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate only that many pictures.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json and results.csv.")] = Path("out/demo"),
    keep_bitstreams: BitstreamsOption = None,
) -> None:
    """Evaluate a data set under a few conditions in both domains, through the services' REST endpoint."""
    from rich.console import Console

    from featlink import demo as demonstration
    from featlink.client import Client
    from featlink.dataset import open_dataset
    from featlink.launcher import Stack, free_ports

    console = Console()
    data = open_dataset(dataset)
    try:
        out.mkdir(parents=True, exist_ok=True)
        log = (out / "services.log").open("w")
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror}") from None
    settings = _settings(model, weights, profile, min_size, max_size, threads, out / "runs.sqlite", keep_bitstreams)
    ports = free_ports()
    with (
        log,
        Stack(ports, settings, lambda name, line: print(name, line, file=log)) as stack,
    ):
        with console.status("starting edge, channel and cloud"):
            stack.wait_ready()
        with Client(ports.edge_url, ports.cloud_url) as client:
            rows = demonstration.evaluate(client, data, demonstration.CHAINS, limit, console, out / "overlays")
    demonstration.save(rows, out)
    console.print(demonstration.table(rows))
    console.print(f"written: {out}/results.json, {out}/results.csv, {out}/overlays/", highlight=False)


def main() -> None:
    """Entry point: errors a person can put right are one line on stderr and exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop child processes as on Ctrl-C
    try:
        app()
    except FeatlinkError as error:
        typer.echo(f"featlink: {error}", err=True)
        raise SystemExit(1) from None


def _show(service: str, line: str) -> None:
    """A service's log line, for a person: its JSON fields as words."""
    try:
        fields = json.loads(line)
        event, when = fields.pop("event"), fields.pop("timestamp", "")
    except (ValueError, KeyError, AttributeError, TypeError):
        typer.echo(f"{service:<8} {line}")
        return
    words = " ".join(f"{key}={value}" for key, value in fields.items() if key not in ("service", "level", "trace_id"))
    typer.echo(f"{service:<8} {when[11:19]} {event} {words}")


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


def _settings(
    model: str | None,
    weights: str | None,
    profile: str | None,
    min_size: int | None,
    max_size: int | None,
    threads: int | None,
    database: Path,
    keep_bitstreams: Path | None,
) -> dict[str, str]:
    """The options that were given as the services' settings; the rest they take from the environment."""
    settings = {
        "model": model,
        "weights": weights if weights in (None, "starter", "coco") else Path(weights).expanduser().resolve(),
        "profile": profile,
        "min_size": min_size,
        "max_size": max_size,
        "threads": threads,
        "database_url": f"sqlite:///{database.resolve()}",
        "keep_bitstreams": keep_bitstreams and keep_bitstreams.resolve(),
    }
    return {name: str(value) for name, value in settings.items() if value is not None}
