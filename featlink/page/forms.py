"""Forms from JSON schema: which control sets which parameter of a step, of a condition or of the link."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Value = bool | int | float | str | None

_INSIDE = 1000
"""Of a range, this part lies between a bound that is not allowed itself and the slider's end."""
_DECADES = 2
"""A range over more powers of ten than these is travelled by powers of ten."""


@dataclass(frozen=True)
class Control:
    """One parameter.

    Attributes:
        name: as the schema has it.
        help: its description.
        kind: ``number``, ``choice`` or ``switch``.
        start: the default, or what a form starts with where there is none.
        default: what the service takes if nothing is given; :attr:`required` if that is an error.
        required: whether there is no default.
        low, high: the slider's ends.
        step: between values that are allowed, which begin at ``low``; 0 where every one is.
        integer: whole numbers only.
        logarithmic: the slider moves by powers of ten.
        choices: of a ``choice``.
        optional: whether it may be empty.
    """

    name: str
    help: str
    kind: Literal["number", "choice", "switch"]
    start: Value
    default: Value = None
    required: bool = False
    low: float = 0
    high: float = 1
    step: float = 0
    integer: bool = False
    logarithmic: bool = False
    choices: tuple[Value, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class StepForm:
    """A step's form.

    Attributes:
        type: its name in conditions.
        kind: ``distortion``, ``codec``, …
        help: its description's first paragraph.
        domains: where it may be used.
        controls: its parameters, the strength first.
    """

    type: str
    kind: str
    help: str
    domains: tuple[str, ...]
    controls: tuple[Control, ...]


def step_forms(schema: Mapping[str, Any]) -> dict[str, StepForm]:
    """The form of every step in a condition's JSON schema, by name and in the schema's order.

    Args:
        schema: of ``GET /v1/conditions``.
    """
    definitions = schema["$defs"]
    forms = {}
    for option in definitions["Step"].get("oneOf", [definitions["Step"]]):
        step = _resolved(option, definitions)
        facts = step["x-featlink"]
        required = set(step.get("required", []))
        controls = [
            control(name, field, definitions, name in required)
            for name, field in step["properties"].items()
            if name != "type"
        ]
        controls.sort(key=lambda one: one.name != facts["strength"])  # stable
        name = step["properties"]["type"]["const"]
        text = " ".join(step.get("description", "").partition("\n\n")[0].split()).replace("``", "")
        forms[name] = StepForm(name, facts["kind"], text, tuple(facts["domains"]), tuple(controls))
    return forms


def controls(schema: Mapping[str, Any], leave_out: tuple[str, ...] = ()) -> tuple[Control, ...]:
    """The controls of a schema's properties that are numbers, choices or switches.

    Args:
        schema: of an object.
        leave_out: names that get none.
    """
    definitions = schema.get("$defs", {})
    return tuple(
        control(name, field, definitions)
        for name, field in schema["properties"].items()
        if name not in leave_out and "additionalProperties" not in field and field.get("type") != "array"
    )


def control(name: str, field: Mapping[str, Any], definitions: Mapping[str, Any], required: bool = False) -> Control:
    """One parameter's control.

    Args:
        name: of the parameter.
        field: its schema.
        definitions: what its ``$ref`` refer to.
        required: whether it must be given.

    Example:
        >>> one = control("bits", {"type": "integer", "minimum": 1, "maximum": 16, "examples": [4]}, {}, True)
        >>> one.start, one.low, one.high, one.integer
        (4, 1.0, 16.0, True)
        >>> odd = control("side", {"type": "integer", "minimum": 2, "maximum": 9, "not": {"multipleOf": 2}}, {})
        >>> odd.low, odd.high, odd.step
        (3.0, 9.0, 2.0)
    """
    field = _resolved(field, definitions)
    optional = False
    if "anyOf" in field:
        kinds = [_resolved(kind, definitions) for kind in field["anyOf"]]
        optional = any(kind.get("type") == "null" for kind in kinds)
        field = {**next((kind for kind in kinds if kind.get("type") != "null"), {}), **field}
    text = str(field.get("description", ""))
    default = field.get("default")
    examples = [one for one in field.get("examples", []) if one is not None]
    start = default if not required else examples[0] if examples else None
    common: dict[str, Any] = {"default": default, "required": required, "optional": optional}
    if "enum" in field:
        choices = tuple(field["enum"])
        return Control(
            name, text, "choice", choices[0] if required and start is None else start, choices=choices, **common
        )
    if field.get("type") == "boolean":
        return Control(name, text, "switch", bool(start), **common)
    numbers = [one for one in (*examples, default) if isinstance(one, int | float) and not isinstance(one, bool)]
    integer = field.get("type") == "integer"
    low, high, step = _stepped(field, *_ends(field, numbers))
    if required and start is None:
        start = round((low + high) / 2) if integer else (low + high) / 2
    logarithmic = low > 0 and math.log10(high / low) > _DECADES
    scale: dict[str, Any] = {"low": low, "high": high, "step": step, "logarithmic": logarithmic}
    return Control(name, text, "number", start, integer=integer, **scale, **common)


def _ends(field: Mapping[str, Any], numbers: list[float]) -> tuple[float, float]:
    """A slider's ends: those of the examples where there are several, else the bounds, else around the numbers."""
    if len(field.get("examples", [])) > 1:
        return min(numbers), max(numbers)
    largest = max((abs(one) for one in numbers), default=1) or 1
    low = float(field.get("minimum", field.get("exclusiveMinimum", 0)))
    high = float(field.get("maximum", field.get("exclusiveMaximum", 10 * largest)))
    inside = 1 if field.get("type") == "integer" else (high - low) / _INSIDE
    return (
        low + inside if "exclusiveMinimum" in field else low,
        high - inside if "exclusiveMaximum" in field else high,
    )


def _stepped(field: Mapping[str, Any], low: float, high: float) -> tuple[float, float, float]:
    """The ends moved inwards to multiples or odd numbers where only these are allowed, and the step between them."""
    first = 0.0
    step = float(field.get("multipleOf", 0))
    if field.get("not") == {"multipleOf": 2}:
        first, step = 1.0, 2.0
    if not step:
        return low, high, 0.0
    least, most = (round((end - first) / step, 9) for end in (low, high))  # 0.3 / 0.1 is a little less than 3
    return first + math.ceil(least) * step, first + math.floor(most) * step, step


def _resolved(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    while "$ref" in field:
        rest = {name: value for name, value in field.items() if name != "$ref"}
        field = {**definitions[str(field["$ref"]).rpartition("/")[2]], **rest}
    return dict(field)
