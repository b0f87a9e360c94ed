"""A whole sweep of the paper's 33 conditions and the clean runs, with fidelity: Featlink against the obvious script.

    pip install torchmetrics scipy
    OMP_WAIT_POLICY=passive python -m benchmarks.sweep_vs_stock --weights starter --scenes starter

The obvious script (stock_sweep.py) calls stock torchvision for each condition, torchvision and torch for distortions,
torchmetrics, scipy, FFmpeg with VVenC one plane at a time, and pycocotools. Featlink's side is what ``featlink bench``
does with the ``local`` engine (and it sets that variable), database, evaluation and files included. Both see the same
pictures, 2×2 mosaics of scenes, 640×480: 800×1088 at the network's input; same weights, same threads; loading the model
and one picture of warm-up are not counted. Each picture goes through one side, then the other. What the two find is
compared, and the last line is JSON with ``ratio``, the obvious script's seconds over Featlink's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as mask_api
from pycocotools.coco import COCO

from benchmarks.stock_sweep import StockSweep, average_precision
from featlink import results
from featlink.dataset import open_dataset
from featlink.shared.evaluation import coco
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import build
from featlink.sweeps.engine import Engine, ItemResult, WorkItem
from featlink.sweeps.figures import write_figures
from featlink.sweeps.folder import Records
from featlink.sweeps.local import build_local
from featlink.sweeps.plan import PlannedRun, make_plan

TILE_HEIGHT, TILE_WIDTH = 240, 320
PSNR_DB, SSIM, AP = 0.1, 2e-3, 0.03
"""How far the two sides may differ: arithmetic in another order, other noise; VVenC on other roundings."""


def make_mosaics(scenes: Path, folder: Path, count: int) -> None:
    """Write a data set of mosaics, each of four scenes."""
    data = open_dataset(scenes)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data.annotations))
    (folder / "annotations").mkdir(parents=True)
    (folder / "val").mkdir()
    categories = truth.dataset["categories"]
    mosaics: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}
    for number in range(1, count + 1):
        canvas = Image.new("RGB", (2 * TILE_WIDTH, 2 * TILE_HEIGHT))
        for i, (image_id, path) in enumerate(list(data.images.items())[4 * number - 4 : 4 * number]):
            left, top = TILE_WIDTH * (i % 2), TILE_HEIGHT * (i // 2)
            canvas.paste(Image.open(path).convert("RGB").crop((0, 0, TILE_WIDTH, TILE_HEIGHT)), (left, top))
            for one in truth.imgToAnns[image_id]:
                mask = np.zeros((2 * TILE_HEIGHT, 2 * TILE_WIDTH), np.uint8, order="F")
                part = truth.annToMask(one)[:TILE_HEIGHT, :TILE_WIDTH]
                mask[top : top + part.shape[0], left : left + part.shape[1]] = part
                rle = mask_api.encode(mask)
                if area := float(mask_api.area(rle)):
                    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
                    of = {"id": len(mosaics["annotations"]) + 1, "image_id": number, "iscrowd": one["iscrowd"]}
                    of |= {"category_id": one["category_id"], "area": area, "bbox": mask_api.toBbox(rle).tolist()}
                    mosaics["annotations"].append(of | {"segmentation": segmentation})
        canvas.save(folder / "val" / f"{number}.png")
        size = {"width": canvas.width, "height": canvas.height}
        mosaics["images"].append({"id": number, "file_name": f"{number}.png", **size})
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(mosaics))


def sweep(engine: Engine, out: Path, folder: Path, plan: list[PlannedRun], images: list[int]) -> list[results.Row]:
    """What ``featlink bench`` does for some images of a folder, from an open engine on."""
    out.mkdir()
    data, truth = open_dataset(folder), coco.parse(next((folder / "annotations").iterdir()).read_bytes())
    with Records(out, data.name, truth, engine.identity, plan) as records:
        for outcome in engine.run(
            WorkItem.still(image, data.images[image], records.missing(image)) for image in images
        ):
            if not isinstance(outcome, ItemResult):
                raise SystemExit(f"image {outcome.image_id}: {outcome.why}")
            records.add(outcome)
        return write_figures(out, records, truth)


def cpu_seconds() -> float:
    """Of this process and its children: steadier than the wall clock where others use the machine."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def compare(ours: results.Row, ap: dict[str, float], fidelity: dict[str, float]) -> list[str]:
    """Where the two sides disagree on a condition."""
    differences = [
        (f"AP {kind}", side.get("AP"), ap[kind], AP) for kind, side in (("bbox", ours.bbox), ("segm", ours.segm or {}))
    ]
    differences += [
        (name, ours.fidelity[name], value, PSNR_DB if name.startswith("psnr") else SSIM)
        for name, value in fidelity.items()
    ]
    return [f"{ours.id}: {name} {a} and {b}" for name, a, b, bound in differences if a is None or abs(a - b) > bound]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--scenes", type=Path, required=True, help="data set of scenes of at least 320×240")
    parser.add_argument("--conditions", default="paper")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--min-size", type=int, default=800)
    parser.add_argument("--max-size", type=int, default=1333)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", default="fast", help="of ours")
    parser.add_argument("--device", default="cpu", help="of both networks, e.g. cuda")
    parser.add_argument("--together", type=int, default=0, help="then a sweep of so many pictures, ours alone")
    parser.add_argument("--ours-only", action="store_true", help="for profiling")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    plan = make_plan([args.conditions], [0])
    options = {"weights": args.weights, "min_size": args.min_size, "max_size": args.max_size, "threads": args.threads}
    options["device"] = args.device
    config = ModelConfig(**options, profile=args.profile)
    stock = build(ModelConfig(**options, profile="exact")).network  # torchvision's own modules, called as a whole
    engine = build_local(config, [run.condition for run in plan], fidelity=True)

    seconds: dict[str, float] = defaultdict(float)
    stages: dict[str, float] = defaultdict(float)
    stock_stages: dict[str, float] = defaultdict(float)
    disagreements: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        warm_up = max(args.images, args.together) + 1
        make_mosaics(args.scenes, folder / "data", warm_up)
        sweep(engine, folder / "warm-up", folder / "data", plan[:4], [warm_up])
        if not args.ours_only:
            StockSweep(stock, folder / "data" / "val" / f"{warm_up}.png", warm_up).run("feature", "", {})
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(folder / "data" / "annotations" / "instances_val.json"))
        for number in range(1, args.images + 1):
            started, started_cpu = time.perf_counter(), cpu_seconds()
            found = sweep(engine, folder / f"out{number}", folder / "data", plan, [number])
            seconds["ours"] += time.perf_counter() - started
            seconds["ours_cpu"] += cpu_seconds() - started_cpu
            print(f"image {number}: Featlink {seconds['ours']:.1f} s for {len(found)} conditions so far", flush=True)
            for row in found:
                for stage, milliseconds in row.timings.items():
                    once = stage in ("decode", "backbone")  # of features: paid once, reported in every row
                    if not once or row.id == "clean.feature":
                        stages[stage] += (milliseconds or 0) / 1e3
            if args.ours_only:
                continue
            with contextlib.redirect_stdout(io.StringIO()):
                one_image = COCO()
                one_image.dataset = {
                    **truth.dataset,
                    "images": truth.loadImgs([number]),
                    "annotations": truth.imgToAnns[number],
                }
                one_image.createIndex()
            started, started_cpu = time.perf_counter(), cpu_seconds()
            script = StockSweep(stock, folder / "data" / "val" / f"{number}.png", number)
            for row, run in zip(found, plan, strict=True):
                step = run.condition.steps[0] if run.condition.steps else None
                before = time.perf_counter()
                detections, fidelity = script.run(row.domain, step.type if step else "", step.params if step else {})
                with script.timed("evaluation"):
                    ap = average_precision(one_image, detections)
                print(f"  stock {time.perf_counter() - before:6.1f} s  {row.id}: AP {ap['segm']:.3f}", flush=True)
                disagreements += compare(row, ap, fidelity)
            seconds["stock"] += time.perf_counter() - started
            seconds["stock_cpu"] += cpu_seconds() - started_cpu
            for stage, taken in script.seconds.items():
                stock_stages[stage] += taken
        if args.together:
            started = time.perf_counter()
            sweep(engine, folder / "together", folder / "data", plan, list(range(1, args.together + 1)))
            together = (time.perf_counter() - started) / args.together
    for line in disagreements:
        print(f"the two sides disagree on {line}")
    for name, one in (("Featlink (stages overlap)", stages), ("obvious script", stock_stages)):
        print(f"{name}, seconds by stage: { {stage: round(taken, 1) for stage, taken in one.items()} }")
    result = {"ratio": seconds["stock"] / seconds["ours"], "ours_s": seconds["ours"], "stock_s": seconds["stock"]}
    result |= {"ours_cpu_s": seconds["ours_cpu"], "stock_cpu_s": seconds["stock_cpu"]}
    result |= {"images": args.images, "conditions": len(plan), "threads": args.threads, "profile": args.profile}
    if args.together:
        stock_s = seconds["stock"] / args.images
        result |= {"together": args.together, "together_s": together, "together_ratio": stock_s / together}
    if args.device != "cpu":
        result |= {"gpu": torch.cuda.get_device_name(), "gpu_gib": torch.cuda.max_memory_reserved() / 2**30}
        result |= {"memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    print(json.dumps(result | {"disagreements": len(disagreements)}))


if __name__ == "__main__":
    main()
