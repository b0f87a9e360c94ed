"""A finished sweep, as the report's parts query it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featlink import results, samples
from featlink.dataset import Truth
from featlink.results import Row
from featlink.samples import Samples
from featlink.shared.conditions.language import Condition, parse
from featlink.shared.evaluation.confidence_intervals import Interval, interval
from featlink.shared.evaluation.matching import Floats

DOMAINS = ("feature", "image")


@dataclass(frozen=True)
class Sweep:
    """A sweep's rows and manifest.

    Attributes:
        folder: the sweep's output folder.
        rows: one per condition.
        manifest: what was run.
    """

    folder: Path
    rows: list[Row]
    manifest: dict[str, Any]

    @cached_property
    def kind(self) -> str:
        """Which AP the report leads with: ``segm``, as the paper, or ``bbox`` of a box-only model."""
        return "segm" if self.rows and all(row.segm is not None for row in self.rows) else "bbox"

    @cached_property
    def samples(self) -> Samples | None:
        """The sweep by image; None where its folder does not have it.

        Raises:
            CommandError: it is damaged.
        """
        return samples.load(self.folder)

    @property
    def truth(self) -> Truth:
        """``annotations``, or ``clean``: the detections of clean features."""
        return "clean" if self.manifest.get("dataset", {}).get("truth") == "clean" else "annotations"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The APs there are, the leading one first."""
        return ("segm", "bbox") if self.kind == "segm" else ("bbox",)

    @cached_property
    def by_id(self) -> dict[str, Row]:
        """Rows by id."""
        return {row.id: row for row in self.rows}

    @cached_property
    def names(self) -> dict[str, str]:
        """What tables call each row of a domain, by id: its :func:`label`, or its id where another row has that."""
        labels = {row.id: (label(row), row.domain) for row in self.rows}
        shared = Counter(labels.values())
        return {name: found[0] if shared[found] == 1 else name for name, found in labels.items()}

    def clean(self, domain: str) -> Row | None:
        """The undistorted run of a domain, if the sweep has it."""
        return self.by_id.get(f"clean.{domain}")

    def ap(self, row: Row, kind: str | None = None, metric: str = "AP") -> float | None:
        """A row's AP in 0..1.

        Args:
            row: of this sweep.
            kind: ``segm`` or ``bbox``; default: the leading one.
            metric: one of COCO's 12.
        """
        scores = row.segm if (kind or self.kind) == "segm" else row.bbox
        return None if scores is None else scores.get(metric)

    def retention(self, row: Row, kind: str | None = None, metric: str = "AP") -> float | None:
        """AP over the AP of the undistorted run of the same domain; None where there is none or it is 0."""
        clean = self.clean(row.domain)
        reference = None if clean is None else self.ap(clean, kind, metric)
        ap = self.ap(row, kind, metric)
        return None if ap is None or not reference else ap / reference

    def interval(self, row: Row, kind: str | None = None) -> Interval | None:
        """A row's 95 % interval of AP over images; None where there is none."""
        return row.intervals.get(kind or self.kind)

    def draws(self, row: Row, kind: str | None = None) -> Floats | None:
        """A row's AP in each bootstrap draw; None where the folder does not have them."""
        return None if self.samples is None else self.samples.ap.get(kind or self.kind, {}).get(row.id)

    def bits_draws(self, row: Row) -> Floats | None:
        """A row's bits an image in each bootstrap draw; None where the folder does not have them."""
        return self.samples.mean_bits(row.id) if self.samples is not None and row.id in self.samples.runs else None

    def retention_interval(self, row: Row, kind: str | None = None) -> Interval | None:
        """The interval of :meth:`retention`, paired; None where there is none."""
        clean = self.clean(row.domain)
        drawn, reference = self.draws(row, kind), None if clean is None else self.draws(clean, kind)
        if drawn is None or reference is None or row.clean:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = drawn / reference
        return interval(np.where(np.isfinite(kept), kept, np.nan))

    def difference_interval(self, row: Row, other: Row, kind: str | None = None) -> Interval | None:
        """The interval of a row's AP less another's on the same images; None where there is none."""
        one, two = self.draws(row, kind), self.draws(other, kind)
        return None if one is None or two is None else interval(one - two)

    def twins(self) -> list[tuple[Row, Row]]:
        """Pairs of a feature and an image row under the same distortions (options may differ); not the clean ones."""
        by_chain: dict[str, dict[str, Row]] = {domain: {} for domain in DOMAINS}
        for row in self.rows:
            if not row.clean:
                by_chain[row.domain].setdefault(label(row).partition(" @ ")[0], row)
        features, images = by_chain["feature"], by_chain["image"]
        return [(row, images[chain]) for chain, row in features.items() if chain in images]


def open_sweep(folder: Path) -> Sweep:
    """Read a sweep's output folder.

    Raises:
        CommandError: its results or its manifest cannot be read.
    """
    return Sweep(folder, results.load(folder), results.load_manifest(folder))


def condition_of(row: Row) -> Condition:
    """A row's condition."""
    return parse(row.condition, "image" if row.domain == "image" else "feature")


def label(row: Row) -> str:
    """A row's distortions as short text: its condition without domain and seed, or ``clean``.

    Example:
        >>> from featlink.results import Row
        >>> label(Row("x", "image: vvenc(qp=40) @ at=original, seed=2", "image", 1, {}, None, 8, 1, {}, {}, []))
        'vvenc(qp=40) @ at=original'
    """
    if row.clean:
        return "clean"
    condition = condition_of(row)
    return str(condition.model_copy(update={"seed": 0})).partition(":")[2].strip()
