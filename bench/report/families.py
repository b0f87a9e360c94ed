"""Conditions that differ in one strength only: the points of one curve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.report.sweep import condition_of
from bench.results import Row
from channel import catalogue

STRENGTHS = {
    "gaussian_blur": "sigma",
    "gaussian_noise": "sigma",
    "resize": "factor",
    "quantize": "bits",
    "vvenc": "qp",
    "hevc": "qp",
    "av1": "qp",
    "jpeg": "quality",
    "packet_loss": "rate",
    "bit_error": "ber",
    "rank_shuffle": "span",
    "monotone": "gamma",
}
"""The parameter by which each distortion gets stronger or weaker."""

RATES = ("vvenc", "hevc", "av1", "jpeg", "quantize", "resize")
"""The distortions whose strength trades bits for accuracy."""


@dataclass(frozen=True)
class Family:
    """Rows of one domain and distortion, alike but for its strength.

    Attributes:
        domain: ``feature`` or ``image``.
        type: the distortion.
        fixed: its other parameters, defaults included.
        options: the condition's options other than the seed, as text.
        rows: by rising strength parameter.
    """

    domain: str
    type: str
    fixed: tuple[tuple[str, object], ...]
    options: str
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """Short text: the distortion, parameters other than the default, and options."""
        fields = catalogue.STEPS[self.type].model_fields
        unusual = [f"{name} {value}" for name, value in self.fixed if value != fields[name].default]
        return ", ".join([self.type, *unusual, *([self.options] if self.options else [])])


def pair_name(feature: Family, image: Family) -> str:
    """Short text for two families of one distortion; the image's options too, where they are others."""
    return (
        feature.name if image.options == feature.options else f"{feature.name}; image: {image.options or 'no options'}"
    )


def families(rows: Iterable[Row]) -> list[Family]:
    """Sort rows into families; rows of no or several distortions belong to none.

    Args:
        rows: of a sweep.

    Raises:
        ConditionError: a condition that this version cannot read.
    """
    grouped: dict[tuple[str, str, tuple[tuple[str, object], ...], str], list[tuple[float, Row]]] = {}
    for row in rows:
        condition = condition_of(row)
        if len(condition.steps) != 1:
            continue
        parameters = catalogue.chain(condition)[0].model_dump()
        kind = parameters.pop("type")
        if kind not in STRENGTHS:
            continue
        strength = parameters.pop(STRENGTHS[kind])
        alike = condition.model_copy(update={"seed": 0, "steps": ()})
        options = str(alike).partition("@")[2].strip()
        fixed = tuple(sorted((name, value) for name, value in parameters.items() if name != "seed"))
        grouped.setdefault((row.domain, kind, fixed, options), []).append((strength, row))
    return [
        Family(*key, rows=tuple(row for _, row in sorted(members, key=lambda member: member[0])))
        for key, members in grouped.items()
    ]


def pairs(found: Iterable[Family]) -> list[tuple[Family, Family]]:
    """Feature families with the image families of the same distortion and parameters; options may differ."""
    found = list(found)
    return [
        (feature, image)
        for feature in found
        if feature.domain == "feature"
        for image in found
        if image.domain == "image" and (image.type, image.fixed) == (feature.type, feature.fixed)
    ]
