"""How fast a stream goes through the services, against its slowest stage alone.

Frames come faster than they can be sent, every one waits. With one frame under way at a time the rate is that of all
stages one after the other; with four it should be that of the slowest::

    python benchmarks/stream_rate.py --frames 60

The slowest stage's own rate is one over the median of its time in the same run, which other stages of other frames slow
down where they share cores; a link does not, so the rows with a slow link show what the pipeline itself loses.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from featlink.channel.link import Link
from featlink.client import Client
from featlink.dataset import open_dataset
from featlink.launcher import Stack, free_ports, service_settings
from featlink.report.table import Column, Table, number, show
from featlink.shared.models.config import ModelConfig
from featlink.streaming import Answer, Camera, Pipeline

SERVICES = {
    "edge": ("decode", "backbone"),
    "channel": ("reduce", "distort", "compress", "decompress", "restore", "fidelity"),
    "cloud": ("heads", "encode"),
}


def pictures(count: int) -> Iterator[tuple[bytes, int | None]]:
    """The bundled scenes, over and over."""
    files = [path.read_bytes() for path in open_dataset("starter").images.values()]
    yield from ((files[number % len(files)], None) for number in range(count))


def stream(url: str, count: int, under_way: int, condition: str, link: Link) -> list[Answer]:
    """Every frame's answer."""
    params = {"condition": condition, "fidelity": False, "link": link.model_dump_json(exclude_unset=True)}
    with (
        Client(url, url, patient=False) as client,
        Camera(pictures(count), "every", most=count) as camera,
        Pipeline(client, params, under_way) as pipeline,
    ):
        pipeline.feed(camera)
        return list(pipeline.answers())


def row(name: str, answers: list[Answer], link: Link) -> list[str]:
    """A line of the table; the first frames are left out."""
    warm = answers[len(answers) // 5 :]
    seconds = (warm[-1].answered_s - warm[0].answered_s) / (len(warm) - 1)
    results = [answer.result for answer in warm if answer.result is not None]
    spent = {
        service: statistics.median(sum(one.timings.get(stage, 0.0) for stage in stages) for one in results)
        for service, stages in SERVICES.items()
    }
    spent["link"] = statistics.median(link.serialise_ms(one.bits or 0, 0.0) for one in results)
    slowest = max(spent, key=lambda service: spent[service])
    cells = [number(spent[service], 0) for service in ("edge", "channel", "link", "cloud")]
    return [name, *cells, number(1 / seconds, 2), slowest, number(spent[slowest] / 1e3 / seconds, 2)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--min-size", type=int, default=192)
    parser.add_argument("--condition", default="image: jpeg(quality=60)")
    parser.add_argument("--mbps", type=float, default=0.5, help="of the slow link")
    parser.add_argument("--model", default=ModelConfig().model)
    given = parser.parse_args()
    ports = free_ports()
    config = ModelConfig(model=given.model, min_size=given.min_size, max_size=2 * given.min_size, threads=1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        settings = service_settings(config, Path(folder) / "runs.sqlite")
        with Stack(ports, settings, lambda *_: None) as stack:
            stack.wait_ready()
            for name, link in (("no link", Link(wait=True)), ("slow link", Link(rate_mbps=given.mbps, wait=True))):
                for under_way in (1, 4):
                    began = time.monotonic()
                    answers = stream(ports.edge_url, given.frames, under_way, given.condition, link)
                    rows.append(row(f"{name}, {under_way} under way", answers, link))
                    print(f"{name}, {under_way}: {time.monotonic() - began:.0f} s", flush=True)
    columns = [Column("", number=False), *(Column(name, "median ms") for name in ("edge", "channel", "link", "cloud"))]
    columns += [Column("frames/s"), Column("slowest", number=False), Column("of its rate")]
    show(Table(f"{given.condition}, {given.frames} frames", columns, rows))


if __name__ == "__main__":
    main()
