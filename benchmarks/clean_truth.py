"""Retention by what the clean run detects against retention by annotations; docs/measurements.md has the table.

featlink bench --conditions paper --seeds 0 --out out/paper
python -m benchmarks.clean_truth --sweep out/paper
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

import numpy as np

from featlink.report.table import percent, signed
from featlink.results import DATABASE, load_manifest
from featlink.shared.evaluation.coco import Detection, GroundTruth
from featlink.shared.evaluation.coco_metrics import CLEAN_IMPORTANCE, Metrics, evaluate
from featlink.shared.evaluation.coco_results import THRESHOLD, clean_truth
from featlink.shared.store import Store
from featlink.sweeps.folder import plan_of, runs_by_name


def detections(folder: Path) -> tuple[GroundTruth, set[int], dict[str, list[Detection]]]:
    """The annotations, the images that every condition has, and what each found there; of several seeds the first."""
    planned = plan_of(load_manifest(folder))
    with contextlib.closing(Store(f"sqlite:///{(folder / DATABASE).resolve()}")) as store:
        runs = runs_by_name(store)
        done = set.intersection(*(store.done(runs[job.name]) for job in planned))
        found: dict[str, list[Detection]] = {}
        for job in planned:
            if job.id not in found:
                results = store.results(runs[job.name])
                found[job.id] = [one for result in results if result.image_id in done for one in result.detections]
        return store.ground_truth(store.run(next(iter(runs.values()))).dataset), done, found


def ap(metrics: Metrics, kind: str) -> float:
    """AP in 0..1."""
    scores = getattr(metrics, kind)
    return float(scores["AP"])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", type=Path, required=True)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    args = parser.parse_args()
    truth, images, found = detections(args.sweep)
    pseudo = clean_truth(truth, found["clean.feature"], args.threshold)
    objects = sum(one.image_id in images for one in truth.annotations)
    print(f"{len(images)} images, {objects} annotated objects, {len(pseudo.annotations)} from the clean run\n")
    print("| condition | segm, annotations % | segm, clean % | Δ | bbox, annotations % | bbox, clean % | Δ |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    scored = {
        row: (evaluate(truth, one, images), evaluate(pseudo, one, images, CLEAN_IMPORTANCE))
        for row, one in found.items()
    }
    off: dict[str, list[float]] = {"segm": [], "bbox": []}
    for row, both in scored.items():
        if row.startswith("clean."):
            continue
        clean = scored[f"clean.{'image' if '.image.' in row or row.startswith('image') else 'feature'}"]
        cells = []
        for kind, differences in off.items():
            real, ours = (ap(one, kind) / ap(other, kind) for one, other in zip(both, clean, strict=True))
            differences.append(ours - real)
            cells += [percent(real), percent(ours), signed(100 * (ours - real))]
        print(f"| {row} | {' | '.join(cells)} |")
    for kind, differences in off.items():
        sizes = np.abs(differences)
        print(f"\n{kind}: off by {100 * sizes.mean():.1f} points on average, at most {100 * sizes.max():.1f}")


if __name__ == "__main__":
    main()
