"""Measure the bundled detector; docs/starter.md holds its figures.

    python -m benchmarks.bundled_detector ap          # stock torchvision, pycocotools: bundled scenes, unseen style
    python -m benchmarks.bundled_detector levels      # AP with one level zeroed
    python -m benchmarks.bundled_detector channels    # how much the 256 channels of each level vary
    featlink bench --conditions paper+equal --out out/starter
    python -m benchmarks.bundled_detector conditions --sweep out/starter    # its AP with bootstrap intervals

``--weights FILE`` (.npz as training.export writes it) measures another checkpoint than the bundled one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.progress import track
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn

from featlink.dataset import open_dataset
from featlink.report.sweep import open_sweep
from featlink.shared.evaluation.coco import parse as parse_truth
from featlink.shared.evaluation.coco_metrics import evaluate
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.evaluation.confidence_intervals import interval
from featlink.shared.features import FeatureMaps
from featlink.shared.fpn import FPN
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.starter.bundle import decode, load_weights
from featlink.starter.folder import write_folder
from featlink.starter.styles import HELD_OUT_STYLE, STYLES

KINDS = ("segm", "bbox")


def stock(weights: Path | None) -> MaskRCNN:
    """Torchvision's own network with the checkpoint."""
    if weights is None:
        loaded = load_weights()
        state, metadata = loaded.state, loaded.metadata
    else:
        state, metadata = decode(weights.read_bytes())
    sizes = {name: int(metadata[name]) for name in ("min_size", "max_size")}
    network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91, **sizes)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return network.eval()


def picture(path: Path) -> np.ndarray:
    """RGB uint8 (H, W, 3)."""
    pixels = cv2.imread(str(path))
    if pixels is None:
        raise SystemExit(f"{path} is no picture")
    return np.ascontiguousarray(pixels[..., ::-1])


@torch.inference_mode()
def detect(network: MaskRCNN, image: np.ndarray) -> Detections:
    """Call torchvision as its documentation does."""
    [found] = network([torch.from_numpy(image).permute(2, 0, 1).float().div(255)])
    masks = [mask[0].numpy() for mask in found["masks"]]
    return Detections(found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy(), masks)


def score(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> list[float]:
    """COCO's 12 numbers by pycocotools itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def only(
    truth: dict[str, Any], results: list[dict[str, Any]], style: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scenes that show a style, without what was found on objects of others, as whatever category."""
    shown = {one["image_id"] for one in truth["annotations"] if one["style"] == style and not one["iscrowd"]}
    annotations = [one if one["style"] == style else {**one, "iscrowd": 1} for one in truth["annotations"]]
    objects = defaultdict(list)
    for one in truth["annotations"]:
        objects[one["image_id"]].append(one)
    kept = []
    for found in (one for one in results if one["image_id"] in shown):
        there = objects[found["image_id"]]
        overlaps = rle.iou([found["bbox"]], [one["bbox"] for one in there], [0] * len(there))[0]
        best = int(overlaps.argmax())
        if overlaps[best] < 0.5 or there[best]["style"] == style:
            kept.append(found)
    images = [image for image in truth["images"] if image["id"] in shown]
    return {**truth, "images": images, "annotations": [a for a in annotations if a["image_id"] in shown]}, kept


def report_ap(args: argparse.Namespace) -> None:
    """Headline figures, by size and by style."""
    network = stock(args.weights)
    with tempfile.TemporaryDirectory() as folder:
        for _ in write_folder(Path(folder) / "held-out", 64, seed=0, part="held-out"):
            pass
        sets = {"validation": open_dataset(Path("starter")), "unseen style": open_dataset(Path(folder) / "held-out")}
        for name, data in sets.items():
            images = list(data.images.items())[: args.limit]
            truth = json.loads(data.annotations.read_bytes())
            truth["images"] = truth["images"][: args.limit]
            kept = {image for image, _ in images}
            truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in kept]
            results = [
                one for image, path in track(images, name) for one in to_coco(detect(network, picture(path)), image)
            ]
            objects = sum(not one["iscrowd"] for one in truth["annotations"])
            print(f"{name}: {len(images)} scenes, {objects} objects")
            for kind in ("segm", "bbox"):
                ap, ap50, ap75, small, medium, large = score(truth, results, kind)[:6]
                print(
                    f"  {kind} AP {ap:.3f}  AP50 {ap50:.3f}  AP75 {ap75:.3f}  "
                    f"small {small:.3f}  medium {medium:.3f}  large {large:.3f}"
                )
            for style in (style.name for style in STYLES if (style.name == HELD_OUT_STYLE) == (name != "validation")):
                count = sum(one["style"] == style and not one["iscrowd"] for one in truth["annotations"])
                own = only(truth, results, style)
                print(f"  {style}: {count} objects, " + ", ".join(f"{k} {score(*own, k)[0]:.3f}" for k in KINDS))


def _model(args: argparse.Namespace) -> TorchvisionRCNN:
    if args.weights is None:
        return build(ModelConfig(weights="starter"))
    from safetensors.torch import save_file

    state, metadata = decode(args.weights.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file({name: torch.from_numpy(value) for name, value in state.items()}, path, metadata)
        return build(ModelConfig(weights=str(path)))


def report_levels(args: argparse.Namespace) -> None:
    """AP with each level zeroed in turn; p6 is kept as sent when p5 is zeroed, and the other way round."""
    model = _model(args)
    data = open_dataset(Path("starter"))
    truth = parse_truth(data.annotations.read_bytes())
    images = list(data.images.items())[: args.limit]
    results: dict[str, list[Any]] = {name: [] for name in ("none", *FPN.names)}
    for image, path in track(images):
        clean = model.encode(picture(path))
        for name, found in results.items():
            levels = {
                level: np.zeros_like(values) if level == name else values for level, values in clean.levels.items()
            }
            found += to_coco(model.decode(FeatureMaps(levels, clean.sizes)), image)
    chosen = [image for image, _ in images]
    print("| zeroed | segm | small / medium / large | bbox | small / medium / large |\n|---|---|---|---|---|")
    for name, found in results.items():
        metrics = evaluate(truth, found, chosen)
        cells = [name]
        for kind in filter(None, (metrics.segm, metrics.bbox)):
            ap, *by_size = (f"{kind[key]:.3f}" for key in ("AP", "APs", "APm", "APl"))
            cells += [ap, " / ".join(by_size)]
        print(f"| {' | '.join(cells)} |")


def report_channels(args: argparse.Namespace) -> None:
    """Deviation of each channel and effective rank (Roy & Vetterli 2007: exp of the spectrum's entropy)."""
    model = _model(args)
    samples: dict[str, list[np.ndarray]] = {level: [] for level in FPN.names}
    for path in list(open_dataset(Path("starter")).images.values())[: args.limit]:
        for level, values in model.encode(picture(path)).levels.items():
            samples[level].append(values.reshape(256, -1)[:, :: 1 if level > "p3" else 7])
    for level, parts in samples.items():
        values = np.concatenate(parts, axis=1)
        deviations = values.std(1)
        spectrum = np.linalg.eigvalsh(np.cov(values)).clip(1e-12)
        share = spectrum / spectrum.sum()
        rank = math.exp(-(share * np.log(share)).sum())
        print(
            f"{level}: deviation {deviations.min():.3f} to {deviations.max():.3f}, median {np.median(deviations):.3f}; "
            f"effective rank {rank:.0f} of 256"
        )


def report_conditions(args: argparse.Namespace) -> None:
    """A sweep's AP in each row, with the change from clean features and its 95 % bootstrap interval over scenes."""
    if args.sweep is None:
        raise SystemExit("conditions: --sweep FOLDER is needed")
    sweep = open_sweep(args.sweep)
    clean = sweep.by_id["clean.feature"]
    print(f"{clean.images} scenes; change: from clean features, and its 95 % interval\n")
    print("| condition | segm AP | bbox AP | change of segm AP | change of bbox AP |\n|---|---|---|---|---|")
    for row in sweep.rows:
        cells = [row.id, *(f"{sweep.ap(row, kind):.3f}" for kind in KINDS)]
        for kind in KINDS:
            one, other = sweep.draws(row, kind), sweep.draws(clean, kind)
            low, high = (None if one is None or other is None else interval(one - other)) or (math.nan, math.nan)
            change = (sweep.ap(row, kind) or math.nan) - (sweep.ap(clean, kind) or math.nan)
            cells.append(f"{change:+.3f} ({low:+.3f} to {high:+.3f})")
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reports = {
        "ap": report_ap,
        "levels": report_levels,
        "channels": report_channels,
        "conditions": report_conditions,
    }
    parser.add_argument("report", choices=reports)
    parser.add_argument("--weights", type=Path, help="an .npz of training.export")
    parser.add_argument("--limit", type=int, help="only the first so many scenes")
    parser.add_argument("--sweep", type=Path, help="folder of featlink bench, of named conditions on the starter set")
    args = parser.parse_args()
    reports[args.report](args)


if __name__ == "__main__":
    main()
