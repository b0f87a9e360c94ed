"""A sweep's output folder with plausible numbers, two small pictures and their detections, made without a model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from featlink.paper import paper_rows
from featlink.results import Row, Scores, SeedResult, save
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.names import select
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import Detection
from featlink.shared.evaluation.coco_metrics import METRICS
from featlink.shared.store import Result, Store

SIZE = (96, 128)
CLEAN = {"clean.feature": "feature: identity", "clean.image": "image: identity"}
EXTRA = [
    *(f"{domain}: vvenc(qp={qp})" for domain in ("feature", "image") for qp in (22, 27, 37)),
    *(f"{domain}: quantize(bits=4) | gaussian_noise(sigma=3)" for domain in ("feature", "image")),
    "feature: rank_shuffle(span=64)",
    "image: packet_loss(rate=0.05)",
]
EVERYTHING = {**CLEAN, **select("paper+equal"), **{text: text for text in EXTRA}}


def make_dataset(folder: Path) -> Path:
    """Two pictures with one object each, in COCO's layout."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "val").mkdir()
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 17, "name": "cat"}]}
    for i in (1, 2):
        pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "val" / f"{i}.png")
        truth["images"].append({"id": i, "width": SIZE[1], "height": SIZE[0], "file_name": f"{i}.png"})
        box = {"bbox": [10, 10, 50, 40], "area": 2000, "iscrowd": 0, "segmentation": [[10, 10, 60, 10, 60, 50, 10, 50]]}
        truth["annotations"].append({"id": i, "image_id": i, "category_id": 17, **box})
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    return folder


def make_sweep(
    folder: Path,
    dataset: Path,
    conditions: dict[str, str] = EVERYTHING,
    seed: int = 0,
    masks: bool = True,
    model: dict[str, Any] | None = None,
) -> list[Row]:
    """Write ``results.json``, ``manifest.json`` and ``runs.sqlite``.

    Args:
        folder: the sweep's.
        dataset: what :func:`make_dataset` made.
        conditions: text by id.
        seed: of the numbers.
        masks: whether the model has them.
        model: the manifest's ``model``.

    Returns:
        The rows that were written.
    """
    folder.mkdir(parents=True)
    store = Store(f"sqlite:///{folder}/runs.sqlite")
    truth = coco.parse((dataset / "annotations" / "instances_val.json").read_bytes())
    store.put_dataset("tiny", truth)
    numbers = random.Random(seed)
    rows = [_row(store, name, text, numbers, masks) for name, text in conditions.items()]
    store.close()
    save(rows, folder)
    manifest = {
        "created": "2026-01-02T03:04:05+00:00",
        "finished": "2026-01-02T04:05:06+00:00",
        "dataset": {"name": "tiny", "folder": str(dataset), "images": 2},
        "model": model or {"name": "maskrcnn_resnet50_fpn", "weights": "/gone/starter.safetensors", "identity": "ab12"},
        "conditions": conditions,
        "seeds": [0, 1, 2],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return rows


def _row(store: Store, name: str, text: str, numbers: random.Random, masks: bool) -> Row:
    condition = parse(text)
    clean, feature = not condition.steps, condition.domain == "feature"
    paper = paper_rows().get(name)
    intact = 1.0 if feature else 0.97  # so that nothing passes that takes the other domain's
    kept = intact if clean else paper.retention * numbers.uniform(0.9, 1.1) if paper else numbers.uniform(0.1, 1)
    segm: Scores = {metric: 0.6 * kept * (1 - 0.02 * i) for i, metric in enumerate(METRICS)}
    bbox: Scores = {metric: 1.1 * value for metric, value in segm.items() if value is not None}
    size = 1e6 if feature else 3e5
    text = str(condition)
    qp = float(text.partition("qp=")[2].partition(")")[0]) if "qp=" in text else None
    bits = 8 * size if qp is None else 8 * size * 2 ** (-qp / 6)
    fidelity = {"psnr_f": None if clean else 10 + 40 * kept, "ssim_f": kept, "spearman_f": kept}
    if not feature:
        fidelity |= {"psnr_i": None if clean else 12 + 30 * kept, "ssim_i": kept}
    timings = {"decode": 5.0, "serialize": 3.0, "distort": 20.0, "transfer": 70.0, "fidelity": 99.0, "encode": 10.0}
    timings |= {"backbone": 200.0, "heads": 210.0} if feature else {"heads": 430.0}
    seeds = []
    for number in (0, 1, 2) if "noise" in text else (0,):
        run = store.create_run(
            "tiny", condition=text, domain=condition.domain, model="m", weights="w", name=f"{name} seed={number}"
        )
        for image_id in (1, 2) if number == 0 else ():
            store.add_result(run.id, Result(image_id, list(_detections(image_id, kept)), int(bits), {}, timings))
        seeds.append(SeedResult(number, run.id, bbox, segm if masks else None, bits, bits / 12288, fidelity, timings))
    return Row(
        name, text, condition.domain, 2, bbox, segm if masks else None, bits, bits / 12288, fidelity, timings, seeds
    )


def _detections(image_id: int, kept: float) -> Iterable[Detection]:
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[10:50, 10:60] = 1
    encoded = rle.encode(mask)
    segmentation: Any = {"size": list(SIZE), "counts": encoded["counts"].decode()}
    for score in (0.95 * kept, 0.4):
        box = [10.0, 10.0, 50.0, 40.0]
        yield {"image_id": image_id, "category_id": 17, "bbox": box, "score": score, "segmentation": segmentation}
