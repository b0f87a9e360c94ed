"""From a sweep's database to its rows: COCO metrics, and means and medians of the rest."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cloud.coco import Detection, GroundTruth
from cloud.evaluation import evaluate
from cloud.pooling import pool_each
from featlink import results
from featlink.files import replace
from featlink.results import SeedResult
from featlink.sweeps.plan import Entry
from featlink.sweeps.records import Records

_Numbers = Mapping[str, float | None]


def write_figures(folder: Path, records: Records, rows: Sequence[Entry], truth: GroundTruth) -> list[results.Row]:
    """Evaluate what a sweep has, and write ``results.json``, ``results.csv`` and ``detections/``.

    Only images that every condition has a result for are counted, so that all rows, also of a sweep that is half
    done, are of the same images.

    Args:
        folder: the sweep's.
        records: its database.
        rows: its conditions.
        truth: the ground truth.

    Returns:
        One row per condition; none while no image is complete.

    Raises:
        CommandError: something cannot be written.
    """
    images = records.complete()
    runs = iter(records.runs)
    names = file_names([row.id for row in rows])
    found = []
    for row in rows if images else ():
        of_seeds = []
        for seed in row.seeds:
            run = next(runs)
            collected = _collect(records, run, images)
            of_seeds.append(_seed_result(seed, run, collected, images, truth))
            suffix = f".seed{seed}" if len(row.seeds) > 1 else ""
            target = folder / "detections" / f"{names[row.id]}{suffix}.json"
            replace(target, msgspec.json.encode(collected.detections))
        found.append(_row(row, of_seeds, len(images)))
    if found:
        results.save(found, folder)
    return found


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


def _seed_result(seed: int, run: str, collected: _Pool, images: set[int], truth: GroundTruth) -> SeedResult:
    metrics = evaluate(truth, collected.detections, images)
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


def _row(row: Entry, seeds: list[SeedResult], images: int) -> results.Row:
    segm = [one.segm for one in seeds if one.segm is not None]
    return results.Row(
        id=row.id,
        condition=str(row.condition),
        domain=row.condition.domain,
        images=images,
        bbox=pool_each([one.bbox for one in seeds], statistics.median),
        segm=pool_each(segm, statistics.median) if segm else None,
        bits_per_image=statistics.median(one.bits_per_image for one in seeds),
        bpp=statistics.median(one.bpp for one in seeds),
        fidelity=pool_each([one.fidelity for one in seeds], statistics.median),
        timings=pool_each([one.timings for one in seeds], statistics.median),
        seeds=seeds,
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
