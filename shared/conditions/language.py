"""Conditions: parse and write their text, which gives domain, steps, mapping to samples, and seed.

A condition is data. It names its steps but does not know them: the channel looks each one up among the registered
steps (:mod:`featlink.shared.conditions.registry`), so a new step changes nothing here.

Text form, as typed at the command line::

    identity
    quantize:bits=4
    feature: gaussian_blur(sigma=1.5, window=21) | gaussian_noise(sigma=3)
    image: quantize(bits=2) @ seed=7, at=original
    paper.table5.feature.qp32 @ packing=stacked          (a named condition)

The JSON form is the model's own dump; both forms round-trip.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_serializer, model_validator

from featlink.shared.conditions.names import NAMED
from featlink.shared.errors import ConditionError
from featlink.shared.features import FeatureSpec

Domain = Literal["feature", "image"]
Scalar = bool | int | float | str

MOST_TEXT = 8192
"""Characters of a condition's text or JSON form."""

_MAX_STEPS = 16
_MAX_PARAMS = 32
_LONGEST_LINE = 2000
_LONGEST = 256  # characters of a name or a value
_LARGEST = 1e30  # what a float32's arithmetic bears
_NAME = r"[a-z][a-z0-9_]*"
_STEP = re.compile(rf"(?P<type>{_NAME})\s*(?:\((?P<paren>[^()]*)\)|:(?P<colon>[^()]*))?")
_DOMAIN = re.compile(r"(?P<domain>feature|image)\s*:(?P<rest>.*)", re.DOTALL)
_ARGUMENT = re.compile(rf"(?P<name>{_NAME})\s*=\s*(?P<value>[A-Za-z0-9_.:+-]+)")


class StepSpec(BaseModel):
    """One step of a chain as text has it: its registered name and its parameters, whose meaning is not checked here.

    In JSON the parameters stand beside the type.

    Example:
        >>> str(StepSpec(type="quantize", params={"bits": 4}))
        'quantize(bits=4)'
        >>> StepSpec.model_validate({"type": "quantize", "bits": 4}).model_dump()
        {'type': 'quantize', 'bits': 4}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(pattern=rf"^{_NAME}$", max_length=64)
    params: dict[str, Scalar] = Field({}, max_length=_MAX_PARAMS)

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, fields: object) -> object:
        if not isinstance(fields, dict) or "params" in fields:
            return fields
        given = {name: value for name, value in fields.items() if name == "type"}
        return given | {"params": {name: value for name, value in fields.items() if name != "type"}}

    @model_serializer
    def _flat(self) -> dict[str, Scalar]:
        return {"type": self.type, **self.params}

    @field_validator("params")
    @classmethod
    def _as_text_can_say(cls, params: dict[str, Scalar]) -> dict[str, Scalar]:
        for name, value in params.items():
            if name in ("type", "params"):
                raise ValueError(f"a parameter cannot be called {name}")
            if max(len(name), len(value) if isinstance(value, str) else 0) > _LONGEST:
                raise ValueError(f"{name[:_LONGEST]!r} or its value has more than {_LONGEST} characters")
            if isinstance(value, int | float) and not abs(value) < 2**63:  # NaN too
                raise ValueError(f"{name!r} is not a finite 64-bit number")
            match = _ARGUMENT.fullmatch(_arguments({name: value}))
            if match is None or (match["name"], _parse_scalar(match["value"])) != (name, value):
                raise ValueError(f"cannot be written as parameter=value: {name!r}, {value!r}")
        return params

    def __str__(self) -> str:
        return f"{self.type}({_arguments(self.params)})" if self.params else self.type


class Condition(BaseModel):
    """A condition: a domain, a chain of steps, how floats become samples, and a seed.

    Attributes:
        domain: ``feature`` distorts p2..p6, ``image`` the network input.
        steps: distortions in order; empty is identity.
        bit_depth: bits per sample that floats are mapped to before the first distortion, 1..16.
        range: what (m, M) is taken over: each ``level`` (the paper), each ``channel``, or ``fixed``: not taken but
            given in ``ranges``, and values beyond are clipped.
        ranges: level name to (m, M), for ``fixed``; a derived level's may be left out, and is then its source's.
        layout: what a spatial distortion sees: ``tiled`` 16×16 planes (the paper) or each ``channel``.
        packing: planes for a codec: one per ``level`` (the paper) or all ``stacked`` in one.
        at: image domain only: distort the resized network ``input`` or the ``original`` pixels.
        seed: of every random distortion.

    Example:
        >>> str(parse("quantize:bits=4"))
        'feature: quantize(bits=4)'
        >>> parse(str(parse("image: identity @ seed=3"))).seed
        3
        >>> str(parse("paper.table3.image.factor2"))
        'image: resize(factor=2)'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    domain: Domain = "feature"
    steps: tuple[StepSpec, ...] = Field(default=(), max_length=_MAX_STEPS)
    bit_depth: int = Field(default=8, ge=1, le=16)
    range: Literal["level", "channel", "fixed"] = "level"
    ranges: dict[str, tuple[float, float]] = {}
    layout: Literal["tiled", "channel"] = "tiled"
    packing: Literal["level", "stacked"] = "level"
    at: Literal["input", "original"] = "input"
    seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator("steps")
    @classmethod
    def _without_identity(cls, steps: tuple[StepSpec, ...]) -> tuple[StepSpec, ...]:
        for step in steps:
            if step.type == "identity" and step.params:
                raise ValueError("identity takes no parameters")
        return tuple(step for step in steps if step.type != "identity")

    @field_validator("ranges", mode="before")
    @classmethod
    def _as_pairs(cls, ranges: object) -> object:
        """The text form's ``m:M``."""
        if not isinstance(ranges, dict):
            return ranges
        return {name: value.split(":") if isinstance(value, str) else value for name, value in ranges.items()}

    @model_validator(mode="after")
    def _ranges_where_fixed(self) -> Condition:
        given = set(self.ranges)
        if self.range != "fixed":
            if given:
                raise ValueError("ranges are given, but range is not fixed")
            return self
        if self.domain == "image":
            raise ValueError("range=fixed is for features; an image's range is 0..255")
        if not given:
            raise ValueError("range=fixed needs the range of each level, e.g. p2=-4:5")
        for name, (low, high) in self.ranges.items():
            if not (abs(low) < _LARGEST and abs(high) < _LARGEST and low < high):
                raise ValueError(f"the range of {name} is not m:M with finite m < M")
        return self

    def __str__(self) -> str:
        chain = " | ".join(map(str, self.steps)) or "identity"
        options: dict[str, Scalar] = self.model_dump(exclude={"domain", "steps", "ranges"}, exclude_defaults=True)
        options |= {name: ":".join(map(json.dumps, pair)) for name, pair in self.ranges.items()}
        return f"{self.domain}: {chain}" + (f" @ {_arguments(options)}" if options else "")


def parse(text: str, domain: Domain | None = None) -> Condition:
    """Read a condition from its text form or, if it starts with ``{``, its JSON form.

    Args:
        text: see the module's examples.
        domain: the domain when the text names none (default ``feature``).

    Raises:
        ConditionError: with one line that says what is wrong where.
    """
    if len(text) > MOST_TEXT:
        raise ConditionError(f"a condition of {len(text)} characters; {MOST_TEXT} are the most")
    text = text.strip()
    if not text:
        raise ConditionError("empty condition")
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConditionError(f"condition is not JSON: {error}") from None
    else:
        fields = _fields(text)
    if domain is not None:
        fields.setdefault("domain", domain)
    return from_fields(fields)


def from_fields(fields: object) -> Condition:
    """Validate a condition's JSON form.

    Raises:
        ConditionError: with one line that says what is wrong where.
    """
    try:
        condition = Condition.model_validate(fields)
        if len(str(condition)) > MOST_TEXT:
            raise ConditionError(f"a condition of more than {MOST_TEXT} characters")
        return condition
    except ValidationError as error:
        raise ConditionError(validation_line(error)) from None


def with_ranges(condition: Condition, spec: FeatureSpec) -> Condition:
    """A condition with the range of every level of a model's features; as it is, unless its ranges are fixed.

    Raises:
        ConditionError: a range is missing, or is that of no level.
    """
    given = condition.ranges
    if condition.range != "fixed":
        return condition
    if set(given) not in (set(spec.names), set(spec.required)):
        first = spec.names[0]
        raise ConditionError(f"range=fixed needs the range of each of {', '.join(spec.names)}, e.g. {first}=-4:5")
    ranges: dict[str, tuple[float, float]] = {}
    for tensor in spec.tensors:  # a source, which may be derived itself, stands before what is made of it
        ranges[tensor.name] = given.get(tensor.name) or ranges[str(tensor.source)]
    return condition.model_copy(update={"ranges": ranges})


def in_domain(condition: Condition, domain: Domain) -> Condition:
    """The same condition in a domain.

    Raises:
        ConditionError: it has no meaning there.
    """
    if condition.domain == domain:
        return condition
    return from_fields({**condition.model_dump(mode="json"), "domain": domain})


def validation_line(error: ValidationError) -> str:
    """A pydantic error as one line: ``field.path: message; ...``."""
    text = "; ".join(
        ": ".join(filter(None, [".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, ")]))
        for item in error.errors()
    )
    line = " ".join(text.split())  # a path holds the caller's names, line breaks included
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} ..."


def _fields(text: str) -> dict[str, object]:
    fields: dict[str, object] = {}
    name, at, options = text.partition("@")
    if name.strip() in NAMED:
        text = f"{NAMED[name.strip()]} {at}{options}"
    if match := _DOMAIN.fullmatch(text):
        fields["domain"] = match["domain"]
        text = match["rest"]
    chain, _, options = text.partition("@")
    fields["steps"] = [_parse_step(part.strip()) for part in chain.split("|")]
    ranges: dict[str, Scalar] = {}
    given = _parse_arguments(options)
    for name, value in given.items():
        if name in fields:
            raise ConditionError(f"{name} is given twice")
        is_range = ":" in str(value) or given.get("range") == "fixed"
        (ranges if is_range and name not in Condition.model_fields else fields)[name] = value
    return {**fields, "ranges": ranges} if ranges else fields


def _parse_step(text: str) -> dict[str, object]:
    match = _STEP.fullmatch(text)
    if match is None:
        raise ConditionError(f"cannot read step {text!r}: expected name(parameter=value, ...)")
    return {"type": match["type"], "params": _parse_arguments(match["paren"] or match["colon"] or "")}


def _parse_arguments(text: str) -> dict[str, Scalar]:
    params: dict[str, Scalar] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _ARGUMENT.fullmatch(part)
        if match is None:
            raise ConditionError(f"cannot read {part!r}: expected parameter=value")
        if match["name"] in params:
            raise ConditionError(f"{match['name']} is given twice")
        params[match["name"]] = _parse_scalar(match["value"])
    return params


def _parse_scalar(text: str) -> Scalar:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text


def _arguments(params: dict[str, Scalar]) -> str:
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in params.items()
    )
