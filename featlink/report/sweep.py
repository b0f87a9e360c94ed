"""A finished sweep, as the report's parts query it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featlink import results, samples
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.dataset import Truth
from featlink.report.table import MISSING, Column, Table, percent, with_interval
from featlink.results import Row
from featlink.samples import Samples
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import Condition, parse
from featlink.shared.evaluation.coco_metrics import Floats
from featlink.shared.evaluation.confidence_intervals import Interval, interval
from featlink.shared.evaluation.protocol import Figure as Measure
from featlink.shared.models.config import DETECTORS, MODELS, name_parts

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

    @property
    def kind(self) -> str:
        """Which AP the report leads with: that of masks, as the paper, or of boxes."""
        return self.kinds[0]

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

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The APs there are, as groups of figures, the leading one first."""
        groups = results.leading_groups()
        found = tuple(kind for kind in groups if self.rows and all(kind in row.scores for row in self.rows))
        return found or groups[-1:]

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """First figures of the groups of other evaluators."""
        leading = results.leading_groups()
        known = results.described_figures(self.folder)
        names = dict.fromkeys(
            f"{group}.{next(iter(scores))}"
            for row in self.rows
            for group, scores in row.scores.items()
            if group not in leading and scores
        )
        return tuple(known.get(name) or Measure(name, name) for name in names)

    @property
    def sequences(self) -> bool:
        """Whether it is of a data set with sequences."""
        return any(row.sequences is not None for row in self.rows)

    @property
    def over(self) -> str:
        """What intervals are over."""
        return "clips" if self.sequences else "images"

    @cached_property
    def by_id(self) -> dict[str, Row]:
        """Rows by id."""
        return {row.id: row for row in self.rows}

    @cached_property
    def families(self) -> list[Family]:
        """:func:`families` of its rows."""
        return families(self.rows)

    @cached_property
    def names(self) -> dict[str, str]:
        """What tables call each row of a domain, by id: its :func:`label`, or its id where another row has that."""
        labels = {row.id: (label(row), row.domain) for row in self.rows}
        shared = Counter(labels.values())
        return {name: found[0] if shared[found] == 1 else name for name, found in labels.items()}

    def clean(self, domain: str) -> Row | None:
        """The undistorted run of a domain, if the sweep has it."""
        return self.by_id.get(f"clean.{domain}")

    def ap(self, row: Row, kind: str | None = None, metric: str | None = None) -> float | None:
        """A row's AP in 0..1, or another figure.

        Args:
            row: of this sweep.
            kind: its group of figures; default: the leading one.
            metric: which of the group; default: its first.
        """
        scores = row.scores.get(kind or self.kind, {})
        return scores.get(metric or next(iter(scores), ""))

    def retention(self, row: Row, kind: str | None = None, metric: str | None = None) -> float | None:
        """AP over the AP of the undistorted run of the same domain; None where there is none or it is 0."""
        clean = self.clean(row.domain)
        reference = None if clean is None else self.ap(clean, kind, metric)
        ap = self.ap(row, kind, metric)
        return None if ap is None or not reference else ap / reference

    def interval(self, row: Row, kind: str | None = None) -> Interval | None:
        """A row's 95 % interval of AP, over images or clips; None where there is none."""
        return row.intervals.get(kind or self.kind)

    def ap_text(self, row: Row, kind: str | None = None) -> str:
        """A row's AP in percent, with its interval where there is one."""
        return with_interval(percent(self.ap(row, kind)), self.interval(row, kind))

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


def is_choice(row: Row) -> bool:
    """Whether somebody could choose to send so: a clean run, or one that codes, reduces or quantises.

    Losses, probes and noise happen to a deployment, nobody chooses them.
    """
    steps = registry.chain(condition_of(row))
    if any(step.kind in ("loss", "probe") or step.random for step in steps):
        return False
    return row.clean or any(step.changes_bits or step.kind in ("codec", "reduction") for step in steps)


def unit_loss(row: Row) -> PacketLoss | None:
    """The step of a row's condition that loses packets of a codec's units; None without one."""
    steps = registry.chain(condition_of(row))
    coded = any(step.kind == "codec" for step in steps)
    return next((step for step in steps if isinstance(step, PacketLoss)), None) if coded else None


_CLEAN = (
    "No annotations were used: what clean features detect counts as the truth, so AP and retention say how much of "
    "that answer survives, not how right it is. AP weighs IoU thresholds by 1 − IoU."
)


@dataclass(frozen=True)
class About:
    """The headline of a report: what the manifest says, or nothing.

    Attributes:
        model: architecture.
        split: where it is cut; empty for the model's default.
        weights: ``coco``, ``starter`` or the file's path, as given to the sweep.
        identity: of the weights, first digits of a SHA-256.
        profile: numerics, ``fast``, ``exact`` or ``bf16``.
        device: what the network ran on, ``cpu`` or ``cuda``.
        min_size, max_size: of the network input, where the sweep was given them.
        dataset: its name.
        folder: where it was.
        pictures: where its pictures were, if the sweep was told.
        images: how many were evaluated, of how many.
        clips: how many they are of, and their frame rate; empty of stills.
        date: when the sweep was finished; empty while it is not.
        command: that made it, as it would be typed.
        truth: what counted as right.
    """

    model: str
    split: str
    weights: str
    identity: str
    profile: str
    device: str
    min_size: int | None
    max_size: int | None
    dataset: str
    folder: Path | None
    pictures: Path | None
    images: str
    clips: str
    date: str
    command: str
    truth: Truth

    @property
    def statement(self) -> str:
        """Which model's numbers these are, and what counted as right, in some sentences."""
        return self._whose if self.truth == "annotations" else f"{self._whose} {_CLEAN}"

    @property
    def _foreign(self) -> bool:
        """Whether the model is not one of Featlink's own, to which alone the names of weights belong."""
        return bool(self.model) and self.model not in (*MODELS, *DETECTORS)

    @property
    def _whose(self) -> str:
        if self._foreign:
            return f"These are numbers of the model {self.model}: compare retention and order with the paper, not AP."
        if self.weights == "coco":
            return "Numbers of torchvision's official COCO weights."
        name = Path(self.weights).name or "unnamed weights"
        whose = "starter-model numbers" if "starter" in name.lower() else f"numbers of the weights {name}"
        return (
            f"These are {whose}, not those of the official COCO weights: compare retention and order with the paper, "
            "not AP."
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The headline as (what, value)."""
        default = self._foreign and self.weights == "starter"  # which other models do not have
        name = "" if default else Path(self.weights).name
        weights = f"{name} ({self.identity[:16]})" if name and self.identity else name or self.identity[:16]
        on = "" if self.device in ("", "cpu") else f" on {self.device}"
        cut = f", split at {self.split}" if self.split else ""
        model = f"{self.model}{cut}, {self.profile}{on}" if self.profile else f"{self.model}{cut}"
        date = self.date[:16].replace("T", " ") + " UTC" if self.date else "not finished"
        facts = [("Model", model), ("Weights", weights), ("Data set", self.dataset), ("Images", self.images)]
        facts.append(("Clips", self.clips))
        return [(what, value) for what, value in [*facts, ("Date", date), ("Command", self.command)] if value]


def about(sweep: Sweep) -> About:
    """Read the headline from a manifest; what is not there is empty."""
    flat = {key: value for key, value in results.flattened(sweep.manifest).items() if value is not None}
    done, total = max((row.images for row in sweep.rows), default=0), flat.get("dataset.images")
    model, split, arithmetic = name_parts(str(flat.get("model.name", "")))  # services tell theirs
    found = next((row.sequences for row in sweep.rows if row.sequences is not None), None)
    rate = f" at {found.fps:g} frames a second" if found is not None and found.fps else ""
    return About(
        model=model,
        split=split,
        weights=str(flat.get("model.weights", "")),
        identity=str(flat.get("model.identity", "")),
        profile=arithmetic or str(flat.get("model.profile", "")),
        device=str(flat.get("model.device", "")),
        min_size=flat.get("model.min_size"),
        max_size=flat.get("model.max_size"),
        dataset=str(flat.get("dataset.name", "")),
        folder=Path(flat["dataset.folder"]) if "dataset.folder" in flat else None,
        pictures=Path(flat["dataset.pictures"]) if "dataset.pictures" in flat else None,
        images=f"{done:,}" if total in (None, done) else f"{done:,} of {total:,}",
        clips="" if found is None else f"{found.clips:,}{rate}",
        date=str(flat.get("finished", "")),
        truth=sweep.truth,
        command=shlex.join(["featlink", *sweep.manifest["command"][1:]]) if "command" in sweep.manifest else "",
    )


def manifest_table(sweep: Sweep) -> Table:
    """The manifest as a table, one line per value, without the conditions."""
    columns = [Column("what", number=False), Column("value", number=False)]
    manifest = {key: value for key, value in sweep.manifest.items() if key != "conditions"}
    values = {
        key: " ".join(map(str, value)) if isinstance(value, list) else value
        for key, value in results.flattened(manifest).items()
    }
    lines = [[key, MISSING if value is None else str(value)] for key, value in values.items()]
    return Table("What was run, with what", columns, lines)


@dataclass(frozen=True)
class Family:
    """Rows of one domain and distortion, alike but for its strength.

    Attributes:
        domain: ``feature`` or ``image``.
        type: the distortion.
        fixed: its other parameters, defaults included.
        company: the chain's other steps, which have no strength, as text: ``entropy``.
        options: the condition's options other than the seed, as text.
        rows: by rising strength parameter.
    """

    domain: str
    type: str
    fixed: tuple[tuple[str, object], ...]
    company: str
    options: str
    rows: tuple[Row, ...]

    @property
    def changes_bits(self) -> bool:
        """Whether its strength trades bits for accuracy."""
        return registry.steps()[self.type].changes_bits

    @property
    def name(self) -> str:
        """Short text: the step, parameters other than the default, other steps, and options."""
        fields = registry.steps()[self.type].model_fields
        unusual = [f"{name} {value}" for name, value in self.fixed if value != fields[name].default]
        return ", ".join([self.type, *unusual, *filter(None, [self.company, self.options])])


def pair_name(feature: Family, image: Family) -> str:
    """Short text for two families of one distortion; the image's options too, where they are others."""
    return (
        feature.name if image.options == feature.options else f"{feature.name}; image: {image.options or 'no options'}"
    )


def families(rows: Iterable[Row]) -> list[Family]:
    """Sort rows into families.

    A chain belongs to one if exactly one of its steps has a strength, as ``quantize(bits=4) | entropy`` does.

    Args:
        rows: of a sweep.

    Raises:
        ConditionError: a condition that this version cannot read.
    """
    grouped: dict[tuple[str, str, tuple[tuple[str, object], ...], str, str], list[tuple[float, Row]]] = {}
    for row in rows:
        condition = condition_of(row)
        varied = [
            (place, step, step.strength)
            for place, step in enumerate(registry.chain(condition))
            if step.strength and getattr(step, step.strength) is not None
        ]
        if len(varied) != 1:
            continue
        [(place, step, varying)] = varied
        parameters = step.model_dump()
        kind = parameters.pop("type")
        strength = parameters.pop(varying)
        company = " | ".join(str(spec) for other, spec in enumerate(condition.steps) if other != place)
        alike = condition.model_copy(update={"seed": 0, "steps": ()})
        options = str(alike).partition("@")[2].strip()
        fixed = tuple(sorted((name, value) for name, value in parameters.items() if name != "seed"))
        grouped.setdefault((row.domain, kind, fixed, company, options), []).append((strength, row))
    return [
        Family(*key, rows=tuple(row for _, row in sorted(members, key=lambda member: member[0])))
        for key, members in grouped.items()
    ]


def pairs(found: Iterable[Family]) -> list[tuple[Family, Family]]:
    """Feature families with the image families of the same steps and parameters; options may differ."""
    found = list(found)
    return [
        (feature, image)
        for feature in found
        if feature.domain == "feature"
        for image in found
        if image.domain == "image"
        and (image.type, image.fixed, image.company) == (feature.type, feature.fixed, feature.company)
    ]
