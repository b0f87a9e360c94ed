"""Every step a condition can name: distortions and codecs, their parameters checked."""

from __future__ import annotations

from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

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
    return checked(tuple(steps))


def checked(steps: tuple[ChainStep, ...]) -> tuple[ChainStep, ...]:
    """The steps as they are, if their order has a meaning.

    Raises:
        ConditionError: it has none, in one line.
    """
    coded = [i for i, step in enumerate(steps) if isinstance(step, Codec)]
    if len(coded) > 1:
        raise ConditionError("a chain can code once: two bitstreams do not cross one link")
    for step in steps[coded[0] :] if coded else ():
        if isinstance(step, Distortion) and step.on_payload:
            raise ConditionError(f"{step.type} damages a payload of samples, not a codec's bitstream")
    return steps


def schema() -> dict[str, Any]:
    """JSON schema of a condition, each step a union of all distortions and codecs, told apart by ``type``."""
    union: Any = Union[tuple(STEPS.values())]  # noqa: UP007 - classes known at run time only
    step = TypeAdapter(Annotated[union, Field(discriminator="type")]).json_schema()
    condition = Condition.model_json_schema()
    steps = step.pop("$defs")
    for definition in steps.values():  # pydantic wants the tag, but as it has a default, does not say so
        definition["required"] = ["type", *definition.get("required", [])]
    return {**condition, "$defs": {**condition["$defs"], **steps, "Step": step}}
