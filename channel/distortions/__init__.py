"""The distortions, by name. To add one: a file, its test, and a line here."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from channel.distortions.base import Distortion
from channel.distortions.quantize import Quantize
from shared.conditions import Condition, validation_line
from shared.errors import ConditionError

DISTORTIONS: dict[str, type[Distortion]] = {
    "quantize": Quantize,
}


def chain(condition: Condition) -> tuple[Distortion, ...]:
    """The distortions a condition names, with their parameters checked.

    Raises:
        ConditionError: an unknown name or a wrong parameter, in one line.

    Example:
        >>> from shared.conditions import parse
        >>> chain(parse("quantize:bits=4"))
        (Quantize(type='quantize', bits=4),)
    """
    steps: list[Distortion] = []
    for step in condition.steps:
        if step.type not in DISTORTIONS:
            raise ConditionError(f"unknown distortion {step.type!r}; known are identity, {', '.join(DISTORTIONS)}")
        try:
            steps.append(DISTORTIONS[step.type].model_validate(step.params))
        except ValidationError as error:
            raise ConditionError(f"{step.type}: {validation_line(error)}") from None
    return tuple(steps)


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schema of each distortion's parameters, by name."""
    return {name: distortion.model_json_schema() for name, distortion in DISTORTIONS.items()}
