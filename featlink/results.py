"""The results of a sweep: one row per condition, as ``results.json`` and ``results.csv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from featlink.errors import CommandError
from featlink.shared.evaluation.protocol import Figure, Scores, clip_evaluators, evaluators
from featlink.shared.files import replace

RESULTS = "results.json"
FIGURES = "figures.json"
MANIFEST = "manifest.json"
DATABASE = "runs.sqlite"

T = TypeVar("T")


class SeedResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """A condition's figures under one seed.

    Attributes:
        seed: of the condition's random distortions.
        run: id of the run in the sweep's database, whose detections these are.
        bbox: the 12 COCO numbers of boxes in 0..1, by name (:data:`featlink.shared.evaluation.coco_metrics.METRICS`).
        segm: of masks; None for a box-only model.
        bits_per_image: mean of what crossed the link.
        bpp: all bits over all original pixels.
        fidelity: means by metric: psnr_f, ssim_f, spearman_f, psnr_i, ssim_i; None where infinite (nothing changed).
        timings: mean milliseconds by stage.
        figures: of other evaluators (:mod:`featlink.shared.evaluation.protocol`), by group and name.
    """

    seed: int
    run: str
    bbox: Scores
    segm: Scores | None
    bits_per_image: float
    bpp: float
    fidelity: dict[str, float | None]
    timings: dict[str, float | None]
    figures: dict[str, Scores] = {}

    @property
    def scores(self) -> dict[str, Scores]:
        """Every evaluator's figures, by group and name; without the groups that do not apply to the model."""
        return {"bbox": self.bbox} | ({} if self.segm is None else {"segm": self.segm}) | self.figures


class Sequences(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a row of a data set with sequences has beside.

    Attributes:
        clips: how many were evaluated, in whole or in part; stills are clips of one frame.
        frames: of all of them.
        fps: frames a second, of all frames over all of their time; None where the data set does not say.
        kbps: 10³ bits per second that cross the link at that rate.
    """

    clips: int
    frames: int
    fps: float | None = None
    kbps: float | None = None


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One condition of a sweep; figures over seeds are medians, each for itself.

    Attributes:
        id: the condition's name, ``clean.feature`` or ``clean.image``, or its text where it has no name.
        condition: text form (seed of the first of ``seeds``).
        domain: ``feature`` or ``image``.
        images: how many were evaluated.
        bbox, segm, bits_per_image, bpp, fidelity, timings, figures: as in :class:`SeedResult`.
        seeds: one entry per seed; a condition without random distortions has one.
        intervals: by group of figures, such as ``bbox`` and ``segm``: the 95 % bootstrap interval over images of its
            first figure, as low and high (:mod:`featlink.shared.evaluation.confidence_intervals`); None where there are
            too few images or objects. Of a data set with sequences, it is over clips.
        sequences: of a data set with sequences; None of stills.
    """

    id: str
    condition: str
    domain: str
    images: int
    bbox: Scores
    segm: Scores | None
    bits_per_image: float
    bpp: float
    fidelity: dict[str, float | None]
    timings: dict[str, float | None]
    seeds: list[SeedResult]
    intervals: dict[str, tuple[float, float] | None] = {}
    figures: dict[str, Scores] = {}
    sequences: Sequences | None = None

    @property
    def scores(self) -> dict[str, Scores]:
        """As :attr:`SeedResult.scores`."""
        return {"bbox": self.bbox} | ({} if self.segm is None else {"segm": self.segm}) | self.figures

    @property
    def kbps(self) -> float | None:
        """10³ bits per second, of a data set with sequences; None of stills, or where no frame rate is known."""
        return None if self.sequences is None else self.sequences.kbps

    @property
    def clean(self) -> bool:
        """Whether it is the undistorted run of its domain, which retention is relative to."""
        return self.id == f"clean.{self.domain}"


def fields(scores: Mapping[str, Scores]) -> dict[str, Any]:
    """The fields ``bbox``, ``segm`` and ``figures`` of a row or of a seed's result, from figures by group and name."""
    others = {group: named for group, named in scores.items() if group not in ("bbox", "segm")}
    return {"bbox": scores["bbox"], "segm": scores.get("segm"), "figures": others}


def save(rows: Sequence[Row], folder: Path) -> None:
    """Write ``results.json`` (everything) and ``results.csv`` (one line per row, without the seeds).

    And ``figures.json``, where there are any of other evaluators than the leading one: what they are called, as whoever
    reads the results may not know the evaluator.

    Raises:
        CommandError: they cannot be written.
    """
    replace(folder / RESULTS, msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    groups = {group for row in rows for group in row.scores}.difference(leading_groups())
    described = [figure for figure in figures() if figure.group in groups]
    if described:
        replace(folder / FIGURES, msgspec.json.format(msgspec.json.encode(described), indent=1) + b"\n")
    lines = [flat(row) for row in rows]
    columns = dict.fromkeys(name for line in lines for name in line)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(columns))
    writer.writeheader()
    writer.writerows(lines)
    replace(folder / "results.csv", table.getvalue().encode())


def load(folder: Path) -> list[Row]:
    """Read what :func:`save` wrote.

    Raises:
        CommandError: there is no such file, or it is not a sweep's results.
    """
    return _read(folder / RESULTS, list[Row])


def described_figures(folder: Path) -> dict[str, Figure]:
    """Figures by name: those of this process's evaluators, and those that a sweep's folder describes.

    Raises:
        CommandError: the description cannot be read.
    """
    path = folder / FIGURES
    found = [*figures(), *(_read(path, list[Figure]) if path.exists() else ())]
    return {figure.name: figure for figure in found}


def refuse_without_evaluators(folder: Path) -> None:
    """Refuse to go on with a sweep that has figures which no evaluator of this process computes: it would lose them.

    Raises:
        CommandError: it has; or their description cannot be read.
    """
    path, known = folder / FIGURES, {figure.name for figure in figures()}
    lost = [figure for figure in (_read(path, list[Figure]) if path.exists() else ()) if figure.name not in known]
    if lost:
        names = ", ".join(f"{figure.name} ({figure.label})" for figure in lost)
        raise CommandError(
            f"{folder} has figures that no evaluator here computes: {names}. Register theirs, in Python or as an entry "
            f"point of featlink.evaluators, or delete {path} to go on without them"
        )


def _read(path: Path, type: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise CommandError(f"{path} is not a sweep's: {error}") from None


def load_manifest(folder: Path) -> dict[str, Any]:
    """Read a sweep's ``manifest.json``: what was run, with which versions, weights, data, seeds, machine.

    Raises:
        CommandError: there is no such file, or it is not JSON.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise CommandError(f"{folder / MANIFEST}: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{folder / MANIFEST} is not JSON: {error}") from None
    return manifest


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A manifest's values by dotted key.

    Example:
        >>> flattened({"model": {"name": "x", "sizes": [1, 2]}})
        {'model.name': 'x', 'model.sizes': [1, 2]}
    """
    lines: dict[str, Any] = {}
    for key, item in value.items():
        lines |= flattened(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {prefix + key: item}
    return lines


def flat(row: Row) -> dict[str, Any]:
    """A row's figures side by side, as a line of ``results.csv`` has them: ``bbox_AP``, ``psnr_f``, ``heads_ms``, …"""
    line: dict[str, Any] = {"id": row.id, "condition": row.condition, "domain": row.domain, "images": row.images}
    first = {figure.group: figure.name.partition(".")[2] for figure in reversed(figures())}
    for group, scores in row.scores.items():
        line.update({f"{group}_{name}": value for name, value in scores.items()})
        if group in row.intervals:
            low, high = row.intervals[group] or (None, None)
            name = first.get(group) or next(iter(scores))
            line.update({f"{group}_{name}_low": low, f"{group}_{name}_high": high})
    line.update({"bits_per_image": row.bits_per_image, "bpp": row.bpp, **row.fidelity})
    if row.sequences is not None:
        line.update(msgspec.structs.asdict(row.sequences))
    line.update({f"{stage}_ms": value for stage, value in row.timings.items()})
    return line


def figures() -> list[Figure]:
    """Every figure of every evaluator, those of the leading one first, and of these the primary one."""
    return [
        figure
        for evaluator in (*evaluators(), *clip_evaluators())
        for figure in sorted(evaluator.figures, key=lambda one: one.name != evaluator.primary)
    ]


def leading_groups() -> tuple[str, ...]:
    """Every group of the leading evaluator's figures, that of its primary figure first."""
    leading = evaluators()[0]
    names = sorted((figure.group for figure in leading.figures), key=leading.primary.partition(".")[0].__ne__)
    return tuple(dict.fromkeys(names))
