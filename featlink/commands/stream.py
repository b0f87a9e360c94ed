"""``featlink stream``: a camera, a video or a clip through running services, at its own rate."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlink.dataset import find_clip, ground_truth, open_dataset
from featlink.drawn_clips import NAME as CLIPS
from featlink.errors import CommandError
from featlink.options import takes_network
from featlink.report.table import Column, Table, number, show
from featlink.shared.conditions.language import Domain
from featlink.shared.models.config import ModelConfig
from featlink.streaming import Policy

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from featlink.stream_records import StreamFigures

_FPS = 10.0
"""Of pictures that come without a rate."""


@takes_network()
def stream(
    source: Annotated[
        str,
        typer.Argument(help="A folder of pictures, a video file, rtsp://…, /dev/video0, or a data set with --clip."),
    ],
    condition: Annotated[
        str | None,
        typer.Option(
            help="What happens on the link, e.g. 'image: hevc(qp=32, gop=low_delay)'; default: the channel's."
        ),
    ] = None,
    domain: Annotated[Domain | None, typer.Option(help="What crosses the link.", show_default="feature")] = None,
    link: Annotated[
        str, typer.Option(help='Simulated link, whose time passes, e.g. \'{"rate_mbps": 0.5, "rtt_ms": 40}\'.')
    ] = "{}",
    clip: Annotated[
        str | None, typer.Option(help="Of a data set: the video's name or id. With --out, there is AP then.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, help="Pictures a second.", show_default="the source's own, or 10"),
    ] = None,
    camera: Annotated[
        Policy, typer.Option(help="When pictures come faster than they can be sent: send the newest, or every one.")
    ] = "newest",
    frames: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many pictures.", show_default="at the source's end")
    ] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="Begin again where the source ends.")] = False,
    under_way: Annotated[
        int, typer.Option(min=1, max=32, help="Frames between camera and answer at most; services take 4 by default.")
    ] = 4,
    fidelity: Annotated[bool, typer.Option(help="Measure PSNR and the like, which takes time.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for what was measured; `featlink report` reads it.")] = None,
    edge: Annotated[str | None, typer.Option(help="URL of a running edge.", show_default="start services here")] = None,
    *,
    config: ModelConfig,
) -> None:
    """Send a source's pictures at its own rate, and show what arrives when. Ctrl-C ends it with a summary."""
    from rich.console import Console
    from rich.live import Live

    from featlink.channel.link import parse_link
    from featlink.client import Client
    from featlink.report.live import accuracy_table
    from featlink.stream_records import Counted, StreamAbout, StreamFolder, load_stream, record
    from featlink.streaming import Camera, Pipeline
    from featlink.sweeps.folder import featlink_version, now

    console = Console(stderr=True)
    crossed = {**parse_link(link).model_dump(mode="json", exclude_unset=True), "wait": True}
    with contextlib.ExitStack() as stack:
        pictures = _pictures(source, clip, fps, frames, repeat)
        url = edge or stack.enter_context(_services(config, under_way, console))
        client = stack.enter_context(Client(url, url, patient=False))
        network = client.model()
        about = StreamAbout(
            source=source,
            clip=clip or "",
            condition=condition or "",
            link=crossed,
            policy=camera,
            model=network["model"],
            weights=network["weights"],
            categories=network["categories"],
            begun=now(),
            featlink=featlink_version(),
        )
        folder = None if out is None else stack.enter_context(StreamFolder(out, about))
        given = {"condition": condition, "domain": domain, "fidelity": fidelity, "link": json.dumps(crossed)}
        taking = stack.enter_context(Camera(pictures, camera))
        pipeline = stack.enter_context(Pipeline(client, given, under_way))
        counted = Counted(taking, pipeline)
        pipeline.feed(taking)
        ended = ""
        try:
            with Live(get_renderable=lambda: _live(counted.recent()), console=console, transient=True):
                for answer in pipeline.answers():
                    one = record(answer, counted.begun_s)
                    counted.add(one)
                    if folder is not None:
                        folder.add(one)
        except KeyboardInterrupt:
            ended = "interrupted"
        except CommandError as error:
            ended = str(error)
        total = counted.total()
        ended = ended or str(taking.error or "the source ended")
        if folder is not None:
            folder.end(total, ended)
    show(Table(source, [Column("all of the stream", number=False), Column("")], _rows(total)))
    if folder is not None and (scores := accuracy_table(*load_stream(folder.path))) is not None:
        typer.echo()
        show(scores)
    typer.echo(f"\nended: {ended}")
    if out is not None:
        typer.echo(f"written: {out}; `featlink report {out}` draws it")
    if not total.answered:
        raise typer.Exit(1)


@contextlib.contextmanager
def _services(config: ModelConfig, under_way: int, console: Console) -> Iterator[str]:
    """Services of one's own; the URL of their edge."""
    from featlink.launcher import Stack, free_ports, service_settings

    ports = free_ports()
    with tempfile.TemporaryDirectory(prefix="featlink-") as folder, (Path(folder) / "services.log").open("w") as log:
        settings = service_settings(config, Path(folder) / "runs.sqlite") | {"max_requests": str(under_way)}
        with Stack(ports, settings, lambda name, line: print(name, line, file=log)) as started:
            with console.status("starting the services"):
                started.wait_ready()
            yield ports.edge_url


def _pictures(
    source: str, clip: str | None, fps: float | None, frames: int | None, repeat: bool
) -> Iterator[tuple[bytes, int | None]]:
    """The source's pictures, each with its image id if it has one, when they are taken."""
    if clip is None and source != CLIPS and not Path(source).is_dir():
        return itertools.islice(_filmed(source, fps, repeat), frames)
    data = open_dataset(source, "clean" if clip is None else "annotations")
    files = list(data.images.items())
    if clip is not None:
        chosen = find_clip(ground_truth(data)[0], clip)
        files = [(image.id, data.images[image.id]) for image in chosen.images]
        fps = fps or (None if chosen.video is None else chosen.video.fps)

    def paced() -> Iterator[tuple[bytes, int | None]]:
        begun = time.monotonic()
        for index, (image_id, path) in enumerate(itertools.islice(itertools.cycle(files) if repeat else files, frames)):
            time.sleep(max(0.0, begun + index / (fps or _FPS) - time.monotonic()))
            try:
                yield path.read_bytes(), image_id
            except OSError as error:
                raise CommandError(f"{path}: {error.strerror}") from None

    return paced()


def _filmed(source: str, fps: float | None, repeat: bool) -> Iterator[tuple[bytes, None]]:
    """A camera's or a video's pictures as files; BMP takes the least time to write."""
    import cv2

    from featlink.sources import frames, is_live

    begun, number = time.monotonic(), 0
    while True:
        for taken in frames(source, paced=fps is None):
            if fps is not None and not is_live(source):
                time.sleep(max(0.0, begun + number / fps - time.monotonic()))
            number += 1
            yield cv2.imencode(".bmp", taken.pixels[..., ::-1])[1].tobytes(), None
        if not repeat:
            return


def _live(figures: StreamFigures) -> RenderableType:
    from rich.table import Table as Grid

    now = [
        ("age of the newest answer, ms", number(figures.age_ms, 0)),
        ("waiting at the camera", number(figures.waiting, 0)),
        ("under way", number(figures.under_way, 0)),
    ]
    grid = Grid(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="dim")
    grid.add_column(justify="right")
    for row in [*_rows(figures), *now]:
        grid.add_row(*row)
    return grid


def _rows(figures: StreamFigures) -> list[tuple[str, str]]:
    return [
        ("frames a second in", number(figures.in_fps, 1)),
        ("frames a second out", number(figures.out_fps, 1)),
        ("kbit/s over the link", number(figures.kbps, 1)),
        ("latency, median, ms", number(figures.median_ms, 0)),
        ("latency, 95 %, ms", number(figures.p95_ms, 0)),
        ("pictures taken", number(figures.taken, 0)),
        ("dropped by the camera", number(figures.dropped, 0)),
        ("answered", number(figures.answered, 0)),
        ("refused", number(figures.refused, 0)),
        ("sent again", number(figures.sent_again, 0)),
        ("key frames", number(figures.keys, 0)),
        ("begun anew", ", ".join(f"{count} × {why}" for why, count in figures.restarts.items()) or "0"),
    ]
