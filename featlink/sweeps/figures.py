"""Compute a sweep's rows from its database: the figures of all evaluators, and means and medians of the rest."""

from __future__ import annotations

import logging
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from featlink import results, samples
from featlink.errors import CommandError
from featlink.results import SeedResult
from featlink.samples import RunSamples, Samples, sample
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import chain
from featlink.shared.evaluation.coco import Clip, Detection, GroundTruth, ItemTruth, clips, items
from featlink.shared.evaluation.coco_metrics import Pool
from featlink.shared.evaluation.coco_results import clean_truth
from featlink.shared.evaluation.confidence_intervals import interval
from featlink.shared.evaluation.protocol import (
    ClipEvaluator,
    Evaluator,
    OfClips,
    Resampler,
    Scores,
    clip_evaluators,
    clip_results,
    evaluators,
    grouped,
)
from featlink.shared.files import replace
from featlink.shared.store.summary import pool_each
from featlink.sweeps.folder import Records
from featlink.sweeps.plan import PlannedRun, by_condition

_log = logging.getLogger(__name__)
_LEAST_IMAGES = 3
_Numbers = Mapping[str, float | None]


def write_figures(
    folder: Path,
    records: Records,
    truth: GroundTruth,
    clean: bool = False,
    judges: Sequence[Evaluator[Any] | ClipEvaluator[Any]] | None = None,
) -> list[results.Row]:
    """Evaluate what a sweep has, and write ``results.json``, ``results.csv``, ``samples.npz`` and ``detections/``.

    Only images that every condition has a result for are counted, so that all rows, also of a sweep that is half
    done, are of the same images. Evaluators of clips are asked where the data set has sequences.

    Args:
        folder: the sweep's.
        records: its database.
        truth: the ground truth.
        clean: take what clean features gave for the truth, whatever that says.
        judges: evaluators, COCO's first; default: every registered one.

    Returns:
        One row per condition; none while no image is complete.

    Raises:
        CommandError: something cannot be written, or an evaluator fails.
    """
    images = records.complete()
    runs = iter(records.runs)
    conditions = by_condition(records.plan)
    names = file_names(list(conditions))
    if clean:  # the first run is that of clean features
        of_clean = _collect(records, records.runs[0], images).detections
        truth = clean_truth(truth, [one for found in of_clean.values() for one in found])
    judges = [*evaluators(), *clip_evaluators()] if judges is None else judges
    judges = [one.against_clean() for one in judges] if clean else judges
    there = items(truth)
    sequences = clips(truth)
    found: list[tuple[PlannedRun, list[SeedResult]]] = []
    by_image: dict[str, list[RunSamples]] = {}
    for id, seeds in conditions.items() if images else ():
        of_seeds: list[SeedResult] = []
        for seed in (planned.condition.seed for planned in seeds):
            run = next(runs)
            collected = _collect(records, run, images)
            scores, resamplers = _evaluate(judges, collected, there, sequences)
            of_seeds.append(_seed_result(seed, run, collected, scores, there))
            by_image.setdefault(id, []).append(_samples(collected, resamplers))
            suffix = f".seed{seed}" if len(seeds) > 1 else ""
            target = folder / "detections" / f"{names[id]}{suffix}.json"
            replace(target, msgspec.json.encode([one for found in collected.detections.values() for one in found]))
        found.append((seeds[0], of_seeds))
    if not found:
        return []
    for one, other in equal_bits(
        {id: seeds[0].condition for id, seeds in conditions.items()},
        {id: made[0].bits for id, made in by_image.items()},
    ):
        _log.warning("%s and %s have the same bits for every image: what tells them apart changes nothing", one, other)
    sampled = sample(sorted(images), by_image)
    samples.save(sampled, folder)
    made = [_row(row, of_seeds, sampled, sequences) for row, of_seeds in found]
    results.save(made, folder)
    return made


def equal_bits(conditions: Mapping[str, Condition], bits: Mapping[str, npt.NDArray[np.int64]]) -> list[tuple[str, str]]:
    """Conditions whose codec made as much of every image as that of another: a parameter has no effect on it.

    Args:
        conditions: by name.
        bits: of each image, by name. What all images have alike is left out, as headers name the condition.

    Returns:
        The first name with those bits, and a later one.
    """
    first: dict[tuple[object, ...], str] = {}
    pairs = []
    for name, condition in conditions.items():
        steps = chain(condition)
        counted = bits.get(name, np.empty(0, np.int64))
        if len(counted) < _LEAST_IMAGES or not any(step.kind == "codec" for step in steps):
            continue
        key = (condition.domain, *(step.type for step in steps), (counted - counted[0]).tobytes())
        if (known := first.setdefault(key, name)) != name:
            pairs.append((known, name))
    return pairs


@dataclass
class _Pool:
    """A run's results, pooled; detections by image."""

    detections: dict[int, list[Detection]] = field(default_factory=dict)
    bits: list[int] = field(default_factory=list)
    fidelity: list[_Numbers] = field(default_factory=list)
    timings: list[_Numbers] = field(default_factory=list)
    keys: list[bool | None] = field(default_factory=list)
    held: list[int | None] = field(default_factory=list)


def _collect(records: Records, run: str, images: set[int]) -> _Pool:
    pooled = _Pool()
    for result in records.store.results(run):
        if result.image_id in images:
            pooled.detections[result.image_id] = result.detections
            pooled.bits.append(result.bits)
            pooled.fidelity.append(result.fidelity)
            pooled.timings.append(result.timings)
            pooled.keys.append(result.key)
            pooled.held.append(result.held)
    return pooled


def _evaluate(
    judges: Sequence[Evaluator[Any] | ClipEvaluator[Any]],
    collected: _Pool,
    there: Mapping[int, ItemTruth],
    sequences: Sequence[Clip],
) -> tuple[dict[str, Scores], dict[str, Resampler]]:
    """Every evaluator's figures of a run, by group and name, and what draws each group's first one anew."""
    scores: dict[str, Scores] = {}
    resamplers: dict[str, Resampler] = {}
    of_clips = clip_results(sequences, there, collected.detections)
    first = np.searchsorted(list(collected.detections), [clip.frames[0].truth.image.id for clip in of_clips])
    for judge in judges:
        try:
            if isinstance(judge, ClipEvaluator):
                sampled = [judge.update_clip(clip) for clip in of_clips]
            else:
                sampled = [
                    judge.update(there[id].image.item, there[id], one) for id, one in collected.detections.items()
                ]
            named = grouped(judge.compute(sampled)) if sampled else {}
            drawn = {group: one for group, one in judge.resamplers(sampled).items() if group in named} if named else {}
            of_images = {group: OfClips(one, first) for group, one in drawn.items()}
            resamplers |= of_images if isinstance(judge, ClipEvaluator) else drawn
        except Exception as error:  # an evaluator may be anyone's
            raise CommandError(f"evaluator {type(judge).__name__}: {type(error).__name__}: {error}") from error
        scores |= named
    return scores, resamplers


def _samples(collected: _Pool, resamplers: Mapping[str, Resampler]) -> RunSamples:
    stages = dict.fromkeys(stage for one in collected.timings for stage in one)
    nothing = float("nan")
    timings = {
        stage: np.array([nothing if (ms := one.get(stage)) is None else ms for one in collected.timings])
        for stage in stages
    }
    pools = {group: one for group, one in resamplers.items() if isinstance(one, Pool)}
    others = {group: one for group, one in resamplers.items() if not isinstance(one, Pool)}
    said = None not in collected.keys and None not in collected.held
    return RunSamples(
        np.array(collected.bits, np.int64),
        timings,
        pools,
        others,
        np.array(collected.keys, np.bool_) if said else None,
        np.array(collected.held, np.int64) if said else None,
    )


def _seed_result(
    seed: int, run: str, collected: _Pool, scores: Mapping[str, Scores], there: Mapping[int, ItemTruth]
) -> SeedResult:
    images = [there[image_id].image for image_id in collected.detections]
    return SeedResult(
        seed=seed,
        run=run,
        **results.fields(scores),
        bits_per_image=sum(collected.bits) / len(images),
        bpp=sum(collected.bits) / sum(image.width * image.height for image in images),
        fidelity=pool_each(collected.fidelity),
        timings=pool_each(collected.timings),
    )


def _sequences(sequences: Sequence[Clip], images: set[int], bits: float) -> results.Sequences | None:
    """What the clips of some images have, at so many bits an image; None where all are stills."""
    found = [(clip.video, len(images.intersection(one.id for one in clip.images))) for clip in sequences]
    found = [(video, count) for video, count in found if count]
    if all(video is None for video, _ in found):
        return None
    rates = [None if video is None else video.fps for video, _ in found]
    known = [fps for fps in rates if fps is not None]
    if len(known) < len(rates):
        return results.Sequences(len(found), len(images))
    seconds = sum(count / fps for (_, count), fps in zip(found, known, strict=True))
    fps = known[0] if len(set(known)) == 1 else len(images) / seconds
    return results.Sequences(len(found), len(images), fps, bits * fps / 1e3)


def _row(row: PlannedRun, seeds: list[SeedResult], sampled: Samples, sequences: Sequence[Clip]) -> results.Row:
    groups = dict.fromkeys(group for one in seeds for group in one.scores)
    of_seeds = {group: [one.scores[group] for one in seeds if group in one.scores] for group in groups}
    bits = statistics.median(one.bits_per_image for one in seeds)
    return results.Row(
        id=row.id,
        condition=str(row.condition),
        domain=row.condition.domain,
        images=len(sampled.images),
        **results.fields({group: pool_each(scores, statistics.median) for group, scores in of_seeds.items()}),
        bits_per_image=bits,
        bpp=statistics.median(one.bpp for one in seeds),
        fidelity=pool_each([one.fidelity for one in seeds], statistics.median),
        timings=pool_each([one.timings for one in seeds], statistics.median),
        seeds=seeds,
        intervals={kind: interval(by_row[row.id]) for kind, by_row in sampled.ap.items() if row.id in by_row},
        sequences=_sequences(sequences, set(sampled.images.tolist()), bits),
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
