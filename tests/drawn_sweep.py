"""A sweep's folder whose AP, bits and times are chosen, with samples to draw from, made without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featlink import results, samples
from featlink.report.sweep import Sweep, open_sweep
from featlink.results import Row, SeedResult, Sequences
from featlink.shared.evaluation.coco_metrics import IOUS, Pool
from featlink.shared.evaluation.confidence_intervals import interval

DRAWS = 250
"""Fewer than a sweep takes: what the tests ask of intervals does not need more."""

OBJECTS = 20
"""In each image."""


@dataclass(frozen=True)
class Made:
    """One row.

    Attributes:
        text: its condition.
        ap: share of the objects that are found, on average.
        kilobytes: an image, on average.
        edge_ms, cloud_ms: times.
    """

    text: str
    ap: float
    kilobytes: float
    edge_ms: float = 100.0
    cloud_ms: float = 300.0


CLEAN = {
    "clean.feature": Made("feature: identity", 0.6, 5000, 200, 100),
    "clean.image": Made("image: identity", 0.6, 600, 10, 300),
}


def make_drawn(
    folder: Path,
    rows: Mapping[str, Made],
    images: int = 40,
    spread: float = 0.08,
    clean: bool = True,
    frames: int | None = None,
) -> Sweep:
    """Write results, samples and a manifest.

    Images are of unequal difficulty, the same under all conditions; nothing that is found is wrong, so AP is the share
    of objects found. Bits and times differ between images by some percent. With ``frames``, so many images in a row are
    a clip, of one difficulty, at 10 frames a second.
    """
    rng = np.random.default_rng(7)
    clips = None if frames is None else np.arange(images) // frames
    hardness = rng.normal(0, spread, images)
    hardness = hardness if clips is None else hardness[clips]
    hardness -= hardness.mean()
    scale = 1 + rng.normal(0, 0.05, images)
    scale /= scale.mean()
    ids = list(range(1, images + 1))
    runs = {}
    for name, made in {**(CLEAN if clean else {}), **rows}.items():
        times = {
            "decode": np.full(images, 0.1 * made.edge_ms),
            "compress": 0.9 * made.edge_ms * scale,
            "decompress": 0.2 * made.cloud_ms * scale,
            "heads": 0.8 * made.cloud_ms * scale,
            "fidelity": np.full(images, 999.0),
        }
        bits = (8000 * made.kilobytes * scale).astype(np.int64)
        pool = _pool(np.clip(made.ap + hardness, 0, 1), ids, clips)
        runs[name] = [samples.RunSamples(bits, times, {"segm": pool, "bbox": pool})]
    sampled = samples.sample(ids, runs, draws=DRAWS)
    folder.mkdir(parents=True)
    samples.save(sampled, folder)
    made_rows = [_row(name, made, sampled) for name, made in {**(CLEAN if clean else {}), **rows}.items()]
    results.save(made_rows, folder)
    manifest = {"model": {"weights": "starter"}, "dataset": {"name": "drawn"}, "engine": {"name": "http"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_sweep(folder)


def _pool(found: np.ndarray, ids: list[int], clips: np.ndarray | None) -> Pool:
    hits = np.round(OBJECTS * found).astype(int)
    image = np.repeat(np.arange(len(ids)), hits).astype(np.int32)
    fate = np.ones((len(image), len(IOUS)), np.uint8)
    objects = np.full((1, len(ids)), OBJECTS, np.int32)
    return Pool(np.array(ids), np.array([0, len(image)]), image, fate, objects, clips=clips)


def _row(name: str, made: Made, sampled: samples.Samples) -> Row:
    [run] = sampled.runs[name]
    ap = run.pools["segm"].average_precision(np.ones(len(run.bits), int))
    bits = float(run.bits.mean())
    timings = {stage: float(ms.mean()) for stage, ms in run.timings.items()}
    scores = {"AP": ap}
    seed = SeedResult(0, "run", scores, scores, bits, bits / 1e6, {}, timings)  # type: ignore[arg-type]
    domain = made.text.partition(":")[0]
    ends = {kind: interval(sampled.ap[kind][name]) for kind in ("bbox", "segm")}
    sequences = None
    if sampled.clips is not None:
        sequences = Sequences(len(np.unique(sampled.clips)), len(run.bits), 10, bits / 100)
    return Row(
        name,
        made.text,
        domain,
        len(run.bits),
        scores,  # type: ignore[arg-type]
        scores,  # type: ignore[arg-type]
        bits,
        bits / 1e6,
        {},
        timings,  # type: ignore[arg-type]
        [seed],
        ends,
        sequences=sequences,
    )
