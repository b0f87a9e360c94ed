"""From a sweep's database to its rows: COCO metrics, and means and medians of the rest."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from featlink import results, samples
from featlink.results import SeedResult
from featlink.samples import RunSamples, Samples, sample
from featlink.shared.evaluation.clean_truth import IMPORTANCE, clean_truth
from featlink.shared.evaluation.coco import Detection, GroundTruth
from featlink.shared.evaluation.coco_metrics import Metrics, score
from featlink.shared.evaluation.confidence_intervals import interval
from featlink.shared.evaluation.matching import Floats, Matched, match
from featlink.shared.evaluation.pooling import pool_each
from featlink.shared.evaluation.resampling import pool
from featlink.shared.files import replace
from featlink.sweeps.folder import Records
from featlink.sweeps.plan import PlannedRun, by_condition

_Numbers = Mapping[str, float | None]


def write_figures(folder: Path, records: Records, truth: GroundTruth, clean: bool = False) -> list[results.Row]:
    """Evaluate what a sweep has, and write ``results.json``, ``results.csv``, ``samples.npz`` and ``detections/``.

    Only images that every condition has a result for are counted, so that all rows, also of a sweep that is half
    done, are of the same images.

    Args:
        folder: the sweep's.
        records: its database.
        truth: the ground truth.
        clean: take what clean features gave for the truth, whatever that says.

    Returns:
        One row per condition; none while no image is complete.

    Raises:
        CommandError: something cannot be written.
    """
    images = records.complete()
    runs = iter(records.runs)
    conditions = by_condition(records.plan)
    names = file_names(list(conditions))
    if clean:  # the first run is that of clean features
        truth = clean_truth(truth, _collect(records, records.runs[0], images).detections)
    importance = IMPORTANCE if clean else None
    found: list[tuple[PlannedRun, list[SeedResult]]] = []
    by_image: dict[str, list[RunSamples]] = {}
    for id, seeds in conditions.items() if images else ():
        of_seeds: list[SeedResult] = []
        for seed in (planned.condition.seed for planned in seeds):
            run = next(runs)
            collected = _collect(records, run, images)
            matched = match(truth, collected.detections, images)
            metrics = score(matched, importance)
            of_seeds.append(_seed_result(seed, run, collected, metrics, images, truth))
            by_image.setdefault(id, []).append(_samples(collected, matched, images, importance))
            suffix = f".seed{seed}" if len(seeds) > 1 else ""
            target = folder / "detections" / f"{names[id]}{suffix}.json"
            replace(target, msgspec.json.encode(collected.detections))
        found.append((seeds[0], of_seeds))
    if not found:
        return []
    sampled = sample(sorted(images), by_image)
    samples.save(sampled, folder)
    made = [_row(row, of_seeds, sampled) for row, of_seeds in found]
    results.save(made, folder)
    return made


@dataclass
class _Pool:
    """A run's results, pooled."""

    detections: list[Detection] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    fidelity: list[_Numbers] = field(default_factory=list)
    timings: list[_Numbers] = field(default_factory=list)


def _collect(records: Records, run: str, images: set[int]) -> _Pool:
    pooled = _Pool()
    for result in records.store.results(run):
        if result.image_id in images:
            pooled.detections += result.detections
            pooled.bits.append(result.bits)
            pooled.fidelity.append(result.fidelity)
            pooled.timings.append(result.timings)
    return pooled


def _samples(collected: _Pool, matched: Matched, images: set[int], importance: Floats | None) -> RunSamples:
    kinds = {"bbox": matched.bbox} | ({} if matched.segm is None else {"segm": matched.segm})
    stages = dict.fromkeys(stage for one in collected.timings for stage in one)
    nothing = float("nan")
    timings = {
        stage: np.array([nothing if (ms := one.get(stage)) is None else ms for one in collected.timings])
        for stage in stages
    }
    pools = {kind: pool(categories, sorted(images), importance) for kind, categories in kinds.items()}
    return RunSamples(np.array(collected.bits, np.int64), timings, pools)


def _seed_result(
    seed: int, run: str, collected: _Pool, metrics: Metrics, images: set[int], truth: GroundTruth
) -> SeedResult:
    pixels = sum(image.width * image.height for image in truth.images if image.id in images)
    return SeedResult(
        seed=seed,
        run=run,
        bbox=metrics.bbox,
        segm=metrics.segm,
        bits_per_image=sum(collected.bits) / len(images),
        bpp=sum(collected.bits) / pixels,
        fidelity=pool_each(collected.fidelity),
        timings=pool_each(collected.timings),
    )


def _row(row: PlannedRun, seeds: list[SeedResult], sampled: Samples) -> results.Row:
    segm = [one.segm for one in seeds if one.segm is not None]
    return results.Row(
        id=row.id,
        condition=str(row.condition),
        domain=row.condition.domain,
        images=len(sampled.images),
        bbox=pool_each([one.bbox for one in seeds], statistics.median),
        segm=pool_each(segm, statistics.median) if segm else None,
        bits_per_image=statistics.median(one.bits_per_image for one in seeds),
        bpp=statistics.median(one.bpp for one in seeds),
        fidelity=pool_each([one.fidelity for one in seeds], statistics.median),
        timings=pool_each([one.timings for one in seeds], statistics.median),
        seeds=seeds,
        intervals={kind: interval(by_row[row.id]) for kind, by_row in sampled.ap.items() if row.id in by_row},
    )


def file_names(ids: Sequence[str]) -> dict[str, str]:
    """A file name for each id: the id itself where it can be one.

    Example:
        >>> file_names(["clean.image", "image: jpeg(quality=5)"])
        {'clean.image': 'clean.image', 'image: jpeg(quality=5)': 'image-jpeg-quality-5'}
    """
    names: dict[str, str] = {}
    for one in ids:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", one).strip("-.")[:100] or "condition"
        while name in names.values():
            name += "_"
        names[one] = name
    return names
