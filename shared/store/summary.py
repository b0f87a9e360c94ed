"""A run's figures: COCO metrics, bits, fidelity, timings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from featlink.shared.evaluation.coco import Detection
from featlink.shared.evaluation.coco_metrics import evaluate
from featlink.shared.store import Store


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean of at least one value; the sum is rounded once, so the order does not matter."""
    known = list(values)
    return math.fsum(known) / len(known)


def pool_each(
    rows: Iterable[Mapping[str, float | None]], pool: Callable[[list[float]], float] = mean
) -> dict[str, float | None]:
    """Pool each key over the rows that have a value for it; None where none has.

    Example:
        >>> pool_each([{"psnr_f": 40.0, "psnr_i": None}, {"psnr_f": 44.0}])
        {'psnr_f': 42.0, 'psnr_i': None}
    """
    columns: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            column = columns.setdefault(key, [])
            if value is not None:
                column.append(value)
    return {key: pool(column) if column else None for key, column in columns.items()}


def run_metrics(store: Store, run_id: str) -> dict[str, Any]:
    """Figures over the images a run has done so far.

    Args:
        store: of the run.
        run_id: its id.

    Returns:
        ``run``, ``bbox`` and ``segm`` (12 COCO numbers each, or None), ``keypoints`` (10, or None), ``bits_per_image``,
        ``bpp`` (all bits over all original pixels), ``fidelity`` and ``timings`` (means), and ``fidelity_images``: of
        how many images each mean is. The PSNR of an image that nothing damaged is infinite, and left out.

    Raises:
        NotFoundError: there is no such run.
    """
    run = store.run(run_id)
    truth = store.ground_truth(run.dataset)
    found: list[Detection] = []
    bits: dict[int, int] = {}
    fidelity: list[Mapping[str, float | None]] = []
    timings = []
    for result in store.results(run_id):  # one pass: a run that grows meanwhile has the same images in every figure
        bits[result.image_id] = result.bits
        found.extend(result.detections)
        fidelity.append(result.fidelity)
        timings.append(result.timings)
    metrics = evaluate(truth, found, bits)
    pixels = sum(image.width * image.height for image in truth.images if image.id in bits)
    return {
        "run": {**asdict(run), "done": len(bits)},
        "bbox": metrics.bbox,
        "segm": metrics.segm,
        "keypoints": metrics.keypoints,
        "bits_per_image": sum(bits.values()) / len(bits) if bits else None,
        "bpp": sum(bits.values()) / pixels if bits else None,
        "fidelity": pool_each(fidelity),
        "fidelity_images": _counts(fidelity),
        "timings": pool_each(timings),
    }


def _counts(rows: list[Mapping[str, float | None]]) -> dict[str, int]:
    """How many rows have a value, by key."""
    keys = {key: None for row in rows for key in row}  # in their order
    return {key: sum(row.get(key) is not None for row in rows) for key in keys}
