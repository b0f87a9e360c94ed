"""A run's figures: COCO metrics, bits, fidelity, timings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cloud.evaluation import evaluate
from cloud.store import Store


def run_metrics(store: Store, run_id: str) -> dict[str, Any]:
    """Figures over the images a run has done so far.

    Args:
        store: of the run.
        run_id: its id.

    Returns:
        ``run``, ``bbox`` and ``segm`` (12 COCO numbers each, or None), ``bits_per_image``, ``bpp`` (all bits over all
        original pixels), ``fidelity`` and ``timings`` (means).

    Raises:
        NotFoundError: there is no such run.
    """
    run = store.run(run_id)
    truth = store.ground_truth(run.dataset)
    done: list[int] = []
    found: list[Any] = []
    for result in store.results(run_id):
        done.append(result.image_id)
        found.extend(result.detections)
    metrics = evaluate(truth, found, done)
    summary = store.summary(run_id)
    seen = set(done)
    pixels = sum(image.width * image.height for image in truth.images if image.id in seen)
    return {
        "run": {**asdict(run), "done": len(done)},
        "bbox": metrics.bbox,
        "segm": metrics.segm,
        "bits_per_image": summary.bits,
        "bpp": summary.bits * len(done) / pixels if summary.bits is not None else None,
        "fidelity": summary.fidelity,
        "timings": summary.timings,
    }
