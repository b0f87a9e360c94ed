"""The demo: a data set under a few conditions in both domains, through the REST endpoint."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from edge.decode import decode
from featlink.client import Client
from featlink.dataset import Dataset, store_name
from shared.detector.overlay import draw

CHAINS = (
    "identity",
    "quantize(bits=4)",
    "quantize(bits=2)",
    "gaussian_blur(sigma=1.5, window=21)",
    "gaussian_noise(sigma=25)",
    "resize(factor=4)",
    "vvenc(qp=40)",
    "packet_loss(rate=0.05)",
    "resize(factor=2) | gaussian_noise(sigma=10)",
)
"""One row of each kind of distortion, and a mix."""
DOMAINS = ("feature", "image")


@dataclass(frozen=True)
class Row:
    """One condition's outcome.

    Attributes:
        condition: text form, without its domain.
        domain: ``feature`` or ``image``.
        ap_bbox: AP@[.50:.95] of boxes, in 0..1.
        ap_segm: of masks; None for a box-only model.
        bits_per_image: mean.
        bpp: bits per pixel of the original pictures.
        ms_per_image: mean of all stages' time, without measuring fidelity.
        run: its id in the cloud.
    """

    condition: str
    domain: str
    ap_bbox: float | None
    ap_segm: float | None
    bits_per_image: float
    bpp: float
    ms_per_image: float
    run: str


def evaluate(
    client: Client, dataset: Dataset, chains: Sequence[str], limit: int | None, console: Console, overlays: Path
) -> list[Row]:
    """Evaluate a data set under chains of distortions in both domains.

    Image outer, condition inner: the edge keeps the last pyramids, so each image pays its backbone once.

    Args:
        client: of the running services.
        dataset: to send.
        chains: conditions without domain.
        limit: evaluate only that many images.
        console: shows the progress.
        overlays: folder for the first picture with what was detected in it, one PNG a row.
    """
    overlays.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(dataset.annotations.read_bytes()).hexdigest()
    name = f"{store_name(dataset.name)[:55]}-{digest[:8]}"  # the folder may be that of an earlier demo of other content
    client.put_dataset(name, dataset.annotations)
    pairs = [(domain, chain) for domain in DOMAINS for chain in chains]
    runs = {pair: client.create_run(name, pair[1], pair[0], "demo") for pair in pairs}
    images = list(dataset.images.items())[:limit]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("inferences", total=len(images) * len(pairs))
        for image_id, path in images:
            data = path.read_bytes()
            for (domain, chain), run in runs.items():
                answer = client.infer(data, domain=domain, condition=chain, run=run, image_id=image_id, fidelity=False)
                if path == images[0][1]:
                    picture = draw(decode(data, sys.maxsize), answer["detections"], answer["categories"])
                    (overlays / f"{domain} {re.sub('[^a-z0-9.=]+', ' ', chain).strip()}.png").write_bytes(picture)
                progress.advance(task)
    return [_row(client, domain, chain, run) for (domain, chain), run in runs.items()]


def _row(client: Client, domain: str, chain: str, run: str) -> Row:
    metrics = client.metrics(run)
    return Row(
        condition=chain,
        domain=domain,
        ap_bbox=metrics["bbox"]["AP"],
        ap_segm=metrics["segm"] and metrics["segm"]["AP"],
        bits_per_image=metrics["bits_per_image"],
        bpp=metrics["bpp"],
        ms_per_image=sum(metrics["timings"].values()),
        run=run,
    )


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table for the terminal."""
    out = Table("domain", Column("condition", min_width=16, overflow="fold"), title="Mask R-CNN over a link")
    for heading in ("AP bbox", "AP segm", "kB/image", "bpp", "ms"):
        out.add_column(heading, justify="right")
    for row in rows:
        out.add_row(
            row.domain,
            row.condition,
            _percent(row.ap_bbox),
            _percent(row.ap_segm),
            f"{row.bits_per_image / 8000:,.1f}",
            f"{row.bpp:,.2f}",
            f"{row.ms_per_image:,.0f}",
        )
    return out


def _percent(ap: float | None) -> str:
    return "–" if ap is None else f"{100 * ap:.1f}"


def save(rows: Sequence[Row], folder: Path) -> None:
    """Write ``results.json`` and ``results.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
