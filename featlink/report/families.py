"""Conditions that differ in one strength only: the points of one curve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from featlink.report.sweep import condition_of
from featlink.results import Row
from featlink.shared.conditions import registry


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
