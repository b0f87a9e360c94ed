"""Every step a condition can name: distortions and codecs, their parameters checked."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from channel.codecs import Av1, Codec, Hevc, Jpeg, Vvenc
from channel.distortions import DISTORTIONS
from channel.distortions.base import Distortion
from shared.conditions import Condition, validation_line
from shared.errors import ConditionError

ChainStep = Distortion | Codec

STEPS: dict[str, type[BaseModel]] = {**DISTORTIONS, "vvenc": Vvenc, "hevc": Hevc, "av1": Av1, "jpeg": Jpeg}


def chain(condition: Condition) -> tuple[ChainStep, ...]:
    """The steps a condition names, with their parameters checked.

    Raises:
        ConditionError: an unknown name, a wrong parameter, or an order that has no meaning, in one line.

    Example:
        >>> from shared.conditions import parse
        >>> chain(parse("quantize:bits=4"))
        (Quantize(type='quantize', bits=4),)
    """
    steps: list[Any] = []
    for step in condition.steps:
        if step.type not in STEPS:
            raise ConditionError(f"unknown distortion {step.type!r}; known are identity, {', '.join(STEPS)}")
        try:
            steps.append(STEPS[step.type].model_validate(step.params))
        except ValidationError as error:
            raise ConditionError(f"{step.type}: {validation_line(error)}") from None
    _check_order([step.type for step in condition.steps], steps)
    return tuple(steps)


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schema of each step's parameters, by name."""
    return {name: TypeAdapter(step).json_schema() for name, step in STEPS.items()}


def _check_order(names: list[str], steps: list[ChainStep]) -> None:
    coded = [i for i, step in enumerate(steps) if isinstance(step, Codec)]
    if len(coded) > 1:
        raise ConditionError("a chain can code once: two bitstreams do not cross one link")
    for name, step in zip(names[coded[0] :], steps[coded[0] :], strict=True) if coded else ():
        if isinstance(step, Distortion) and step.on_payload:
            raise ConditionError(f"{name} damages a payload of samples, not a codec's bitstream")
