"""The base class of a condition's steps, and their registry. A step registers itself; nothing else lists steps.

Steps are found through the entry-point group ``featlink.steps``, Featlink's own as well as those of other packages. An
entry point names a module, or a package whose modules are all imported::

    [project.entry-points."featlink.steps"]
    mine = "my_package.salt_and_pepper"
"""

from __future__ import annotations

import functools
import importlib
import logging
import pkgutil
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from featlink.shared.conditions.language import Condition, Domain, StepSpec, validation_line
from featlink.shared.errors import ConditionError

GROUP = "featlink.steps"

Kind = Literal["reduction", "distortion", "probe", "loss", "codec"]
KINDS: tuple[Kind, ...] = ("reduction", "distortion", "probe", "loss", "codec")
"""``reduction``: makes fewer planes of the levels, and levels of those again; ``distortion``: damages samples;
``probe``: changes one property of them and keeps another, to learn which matters; ``loss``: damages the payload on its
way; ``codec``: makes the bitstreams that cross the link in the samples' place."""


class Step(BaseModel):
    """A step's parameters.

    A subclass adds ``type: Literal["its_name"] = "its_name"`` and its fields, each bounded and described, and is
    registered by :func:`register`.

    Attributes:
        kind: what it does to the samples.
        strength: the parameter by which it gets stronger or weaker: conditions that differ in it alone are the points
            of one curve. None for a step without one.
        changes_bits: whether its strength trades bits for accuracy, so that a BD-rate is asked of it.
        random: whether another seed gives another result; a sweep then runs several seeds.
        domains: where it may be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: ClassVar[Kind]
    strength: ClassVar[str | None] = None
    changes_bits: ClassVar[bool] = False
    random: ClassVar[bool] = False
    domains: ClassVar[tuple[Domain, ...]] = ("feature", "image")

    type: str

    def for_stills(self) -> Self:
        """The same step for a sequence of one picture; a step that remembers pictures before may do less there."""
        return self

    def misplaced(self, before: Sequence[Step]) -> str | None:
        """Why it cannot stand behind these steps, in one line; None where it can. Order by kind is checked besides."""
        if self.kind == "loss" and any(step.kind == "codec" for step in before):
            return f"{self.type} damages a payload of samples, not a codec's bitstream; packet_loss loses its packets"
        return None

    @property
    def spec(self) -> StepSpec:
        """The step as a condition's text has it: its name and the parameters that were given."""
        given = self.model_dump(exclude={"type"}, exclude_unset=True)
        return StepSpec(type=self.type, params=given)


S = TypeVar("S", bound=Step)

_log = logging.getLogger(__name__)
_registered: dict[str, type[Step]] = {}
_failed: dict[str, str] = {}
"""Why an entry point could not be loaded, by its name."""


def register(step: type[S]) -> type[S]:
    """Class decorator: make a step known under the default of its ``type`` field.

    Registering a class again, as a notebook's cell does when it is run twice, replaces it.

    Raises:
        TypeError: the class has no ``type`` with a default, or its ``strength`` is not one of its parameters.
        ValueError: another class has the name.
    """
    name = step.model_fields["type"].default
    if not isinstance(name, str):
        raise TypeError(f"{step.__name__} needs a name: type: Literal['my_step'] = 'my_step'")
    if step.strength is not None and step.strength not in step.model_fields:
        raise TypeError(f"{step.__name__}'s strength {step.strength!r} is not one of its parameters")
    known = _registered.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (step.__module__, step.__qualname__):
        raise ValueError(f"two steps are called {name!r}: {known.__module__} and {step.__module__} have one each")
    _registered[name] = step
    return step


def steps() -> Mapping[str, type[Step]]:
    """Every registered step by name, sorted by kind and name."""
    _load()
    by_kind = sorted(_registered.items(), key=lambda item: (KINDS.index(item[1].kind), item[0]))
    return MappingProxyType(dict(by_kind))


def failures() -> Mapping[str, str]:
    """Why an entry point of another package could not be loaded, by its name."""
    _load()
    return MappingProxyType(_failed)


def chain(condition: Condition) -> tuple[Step, ...]:
    """The steps a condition names, with their parameters checked.

    Raises:
        ConditionError: an unknown name, a wrong parameter, a step of the other domain, or an order that has no
            meaning, in one line.

    Example:
        >>> from featlink.shared.conditions.language import parse
        >>> chain(parse("quantize:bits=4"))
        (Quantize(type='quantize', bits=4),)
    """
    made = tuple(_step(spec) for spec in condition.steps)
    for step in made:
        if condition.domain not in step.domains:
            raise ConditionError(f"{step.type} is for the {' and the '.join(step.domains)} domain")
        if step.kind == "reduction" and condition.range == "fixed":
            raise ConditionError(f"range=fixed is for levels, and {step.type} sends other planes in their place")
    return checked(made)


def checked(made: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps as they are, if their order has a meaning.

    Raises:
        ConditionError: it has none, in one line.
    """
    for i, step in enumerate(made):
        if step.kind == "reduction" and i > 0:
            raise ConditionError(f"{step.type} reduces the levels themselves, so it comes first, and once")
    coded = [i for i, step in enumerate(made) if step.kind == "codec"]
    if len(coded) > 1:
        raise ConditionError("a chain can code once: two bitstreams do not cross one link")
    for i, step in enumerate(made):
        if (why := step.misplaced(made[:i])) is not None:
            raise ConditionError(why)
    return made


def schema() -> dict[str, Any]:
    """JSON schema of a condition, each step a union of all registered ones, told apart by ``type``.

    A step's definition also has ``x-featlink``: its kind, strength, domains, and whether it changes bits or is random.
    """
    known = steps()
    union: Any = Union[tuple(known.values())]  # noqa: UP007 - classes known at run time only
    step = TypeAdapter(Annotated[union, Field(discriminator="type")]).json_schema()
    condition = Condition.model_json_schema()
    definitions = step.pop("$defs")
    for definition in definitions.values():
        name = definition.get("properties", {}).get("type", {}).get("const")
        if name in known:  # and no type that a step's parameter has
            # pydantic wants the tag, but as it has a default, does not say so
            definition["required"] = ["type", *definition.get("required", [])]
            definition["x-featlink"] = _facts(known[name])
    condition["properties"]["steps"]["items"] = {"$ref": "#/$defs/Step"}
    return {**condition, "$defs": {**definitions, "Step": step}}


def _facts(step: type[Step]) -> dict[str, Any]:
    return {
        "kind": step.kind,
        "strength": step.strength,
        "domains": list(step.domains),
        "changes_bits": step.changes_bits,
        "random": step.random,
    }


def _step(spec: StepSpec) -> Step:
    known = steps()
    if spec.type not in known:
        broken = "".join(f" ({name} could not be loaded: {why})" for name, why in _failed.items())
        raise ConditionError(f"unknown step {spec.type!r}; known are identity, {', '.join(known)}{broken}")
    try:
        return known[spec.type].model_validate(spec.params)
    except ValidationError as error:
        raise ConditionError(f"{spec.type}: {validation_line(error)}") from None


@functools.cache
def _load() -> None:
    # Featlink's own first: another package that claims one of their names must not take it.
    for point in sorted(
        entry_points(group=GROUP), key=lambda point: point.dist is None or point.dist.name != "featlink"
    ):
        try:
            _import(point)
        except Exception as error:  # another package's fault must not stop this one
            _failed[point.name] = " ".join(f"{type(error).__name__}: {error}".split())
            _log.warning("the steps of %s (%s) could not be loaded: %s", point.name, point.value, _failed[point.name])


def _import(point: EntryPoint) -> None:
    module = importlib.import_module(point.module)
    for found in pkgutil.iter_modules(getattr(module, "__path__", [])):
        importlib.import_module(f"{module.__name__}.{found.name}")
