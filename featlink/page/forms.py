"""Forms from JSON schema: controls of a step's, a condition's and the link's parameters; the editor of a chain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from nicegui import events, ui

from featlink.shared.conditions.language import Condition, StepSpec, parse

Value = bool | int | float | str | None

Commit = Callable[[Value], None]
"""Called with a new value when it is settled: the slider released, the number typed."""

_INSIDE = 1000
"""Of a range, this part lies between a bound that is not allowed itself and the slider's end."""
_DECADES = 2
"""A range over more powers of ten than these is travelled by powers of ten."""
_STEPS = 100
"""Stops of a slider whose parameter says no step."""


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
class Catalogue:
    """What a deployment offers.

    Attributes:
        steps: forms by name.
        options: of a condition.
        link: the link's settings.
        named: conditions by name.
        levels: of the features, by which planes are asked for.
    """

    steps: Mapping[str, StepForm]
    options: tuple[Control, ...]
    link: tuple[Control, ...]
    named: Mapping[str, str]
    levels: tuple[str, ...]


@dataclass(frozen=True)
class StepForm:
    """A step's form.

    Attributes:
        type: its name in conditions.
        kind: ``distortion``, ``codec``, …
        help: its description's first paragraph.
        domains: where it may be used.
        controls: its parameters, the strength first.
        strength: the control that trades bits for accuracy; None where the step has none.
    """

    type: str
    kind: str
    help: str
    domains: tuple[str, ...]
    controls: tuple[Control, ...]
    strength: Control | None = None


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
            if name != "type" and not _is_text(field)
        ]
        controls.sort(key=lambda one: one.name != facts["strength"])  # stable
        name = step["properties"]["type"]["const"]
        text = " ".join(step.get("description", "").partition("\n\n")[0].split()).replace("``", "")
        strength = controls[0] if facts["changes_bits"] and facts["strength"] else None
        forms[name] = StepForm(name, facts["kind"], text, tuple(facts["domains"]), tuple(controls), strength)
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
        if name not in leave_out
        and not _is_text(field)
        and "additionalProperties" not in field
        and field.get("type") != "array"
    )


def _is_text(field: Mapping[str, Any]) -> bool:
    """Whether a value is free text, for which there is no control."""
    return field.get("type") == "string" and "enum" not in field and "const" not in field


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


def field(control: Control, value: Value, commit: Commit) -> None:
    """A labelled control.

    Args:
        control: which.
        value: to show.
        commit: called when the user has set another.
    """
    with (
        ui.element("div").classes("field").tooltip(control.help) if control.help else ui.element("div").classes("field")
    ):
        if control.kind == "choice":
            _choice(control, value, commit)
        elif control.kind == "switch":
            ui.switch(words(control.name), value=bool(value), on_change=lambda e: commit(e.value)).props("dense")
        else:
            _number(control, value, commit)


def words(name: str) -> str:
    """A parameter's name for people.

    Example:
        >>> words("rate_mbps"), words("bit_depth")
        ('rate (Mbit/s)', 'bit depth')
    """
    name = name.replace("rtt_", "round trip_")
    for ending, unit in (("_mbps", " (Mbit/s)"), ("_ms", " (ms)")):
        if name.endswith(ending):
            return name.removesuffix(ending).replace("_", " ") + unit
    return name.replace("_", " ")


def _choice(control: Control, value: Value, commit: Commit) -> None:
    ui.select(
        {choice: str(choice) for choice in control.choices},
        value=value,
        label=words(control.name),
        on_change=lambda e: commit(e.value),
    ).props("dense outlined options-dense").classes("grow")


def _number(control: Control, value: Value, commit: Commit) -> None:
    scale = Scale(control)
    moving = False
    shown = value if isinstance(value, int | float) else None

    def typed(e: events.ValueChangeEventArguments[Any]) -> None:
        if moving or (e.value is None and not control.optional):
            return
        settled = None if e.value is None else scale.clean(float(e.value))
        ui.run_javascript(f"getHtmlElement({slider.id}).value = {scale.place(settled)}")
        commit(settled)

    def moved(e: events.GenericEventArguments) -> None:
        nonlocal moving
        moving = True
        number.value = scale.value(float(e.args))
        moving = False

    def released(e: events.GenericEventArguments) -> None:
        moved(e)
        commit(scale.value(float(e.args)))

    name = words(control.name)
    arrows: Any = control.step or (1 if control.integer else "any")
    number = ui.number(name, value=shown, on_change=typed, step=arrows, min=control.low if control.step else None)
    number.props("dense outlined hide-bottom-space debounce=400").classes("number")
    if control.optional:
        number.props('clearable placeholder="none" stack-label')
    # The browser's own slider: it is what keyboards and screen readers know best.
    slider = ui.element("input").props(f'type=range aria-label="{name}"').classes("grow slider")
    for key, setting in (("min", scale.low), ("max", scale.high), ("step", scale.step)):
        slider.props[key] = setting
    # "^": as an attribute, which the slider starts with; as a property, every update of the page would set it back.
    slider.props["^value"] = scale.place(shown)
    told = "(event) => emit(event.target.value)"
    slider.on("input", moved, throttle=0.05, js_handler=told)
    slider.on("change", released, js_handler=told)


class Scale:
    """Where a value stands on its slider.

    Args:
        control: says the ends.

    Example:
        >>> scale = Scale(Control("rate", "", "number", 0.02, low=0.001, high=0.5, logarithmic=True))
        >>> scale.value(-2), scale.place(0.1)
        (0.01, -1.0)
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        ends = (control.low, control.high)
        if control.logarithmic:
            self.low, self.high = (math.log10(end) for end in ends)
            self.step = 0.01
        else:
            self.low, self.high = ends
            self.step = control.step or (1.0 if control.integer else _round((self.high - self.low) / _STEPS))

    def place(self, value: float | None) -> float:
        """The slider's place of a value; one beyond the ends stands at the end."""
        control = self._control
        if value is None:
            value = control.high if control.optional else control.low
        value = min(max(value, control.low), control.high)
        return math.log10(value) if control.logarithmic else value

    def value(self, place: float, digits: int = 2) -> float:
        """The value of a place, rounded as the control allows.

        Args:
            place: on the slider.
            digits: of a value on a logarithmic slider.
        """
        control = self._control
        value = float(f"{10**place:.{digits}g}") if control.logarithmic else place
        value = min(max(value, control.low), control.high)
        if control.step:
            value = control.low + round((value - control.low) / control.step) * control.step
        return self.clean(value)

    def clean(self, value: float) -> float:
        """Whole where the control wants it, without the noise of binary fractions."""
        return round(value) if self._control.integer else float(f"{value:.6g}")


def _round(step: float) -> float:
    """A step with one digit."""
    return float(f"{step:.0e}")


class ChainEditor:
    """Cards of steps, each with its parameters; adding, moving and removing them; the condition's options.

    Args:
        catalogue: which steps there are.
        condition: read whenever something is changed.
        change: called with the changed condition.
    """

    def __init__(
        self, catalogue: Catalogue, condition: Callable[[], Condition], change: Callable[[Condition], None]
    ) -> None:
        self._catalogue = catalogue
        self._condition = condition
        self._change = change
        self._steps = ui.element("div").classes("steps")
        with ui.element("div").classes("row-tight"):
            self._adding = _select("Add a step", {}, self._add)
            examples = {name: name for name in catalogue.named if ".image." not in name}  # a row stands for its twin
            _select("Take an example", examples, self._take).props("use-input input-debounce=0")
        with ui.expansion("Options").props("dense").classes("options"):
            self._options = ui.element("div")
        self.build()

    def build(self) -> None:
        """Show the condition's chain."""
        condition = self._condition()
        self._steps.clear()
        with self._steps:
            for place, step in enumerate(condition.steps):
                self._card(place, step, len(condition.steps))
            if not condition.steps:
                ui.html("<p class='quiet'>No steps: what is sent arrives as it is.</p>", sanitize=False)
        suitable = [form for form in self._catalogue.steps.values() if condition.domain in form.domains]
        self._adding.set_options({form.type: f"{form.type} – {form.kind}: {_short(form.help)}" for form in suitable})
        self._options.clear()
        values = condition.model_dump()
        with self._options:
            for control in self._catalogue.options:
                field(control, values.get(control.name), partial(self._option, control.name))

    def allows(self, condition: Condition) -> bool:
        """Whether each step may be used in the condition's domain."""
        forms = [self._catalogue.steps.get(step.type) for step in condition.steps]
        return all(form is not None and condition.domain in form.domains for form in forms)

    def _card(self, place: int, step: StepSpec, count: int) -> None:
        form = self._catalogue.steps.get(step.type)
        with ui.element("section").classes("step").props(f'aria-label="Step {place + 1}: {step.type}"'):
            ui.html(f"<b>{step.type}</b> <i>{form.kind if form else 'unknown'}</i>", sanitize=True).classes("step-name")
            first, more = (form.controls[:1], form.controls[1:]) if form is not None else ((), ())
            with ui.element("div").classes("step-strength"):
                for control in first:
                    value = step.params.get(control.name, control.start)
                    field(control, value, partial(self._set, place, control.name))
                if form is None:
                    ui.html("<p class='quiet'>The channel does not know this step.</p>", sanitize=False)
            with ui.element("div").classes("step-buttons"):
                for icon, label, to in (("arrow_upward", "up", place - 1), ("arrow_downward", "down", place + 1)):
                    if 0 <= to < count:
                        ui.button(icon=icon, on_click=lambda to=to: self._move(place, to)).props(
                            f'flat round dense size=sm aria-label="Move {step.type} {label}"'
                        )
                ui.button(icon="close", on_click=lambda: self._remove(place)).props(
                    f'flat round dense size=sm aria-label="Remove {step.type}"'
                )
            if more:
                with ui.expansion("More").props("dense").classes("options"):
                    for control in more:
                        value = step.params.get(control.name, control.start)
                        field(control, value, partial(self._set, place, control.name))

    def _set(self, place: int, name: str, value: Value) -> None:
        self._change(with_parameter(self._condition(), self._catalogue, place, name, value))

    def _add(self, name: str) -> None:
        form = self._catalogue.steps[name]
        params: dict[str, Any] = {one.name: one.start for one in form.controls if one.required}
        for control in form.controls[:1]:  # say it in the text, where one will move it
            if control.start is not None:
                params[control.name] = control.start
        new = StepSpec(type=form.type, params=params)
        steps = self._condition().steps
        self._with((new, *steps) if form.kind == "reduction" else (*steps, new))

    def _move(self, place: int, to: int) -> None:
        steps = list(self._condition().steps)
        steps.insert(to, steps.pop(place))
        self._with(tuple(steps))

    def _remove(self, place: int) -> None:
        steps = self._condition().steps
        self._with(steps[:place] + steps[place + 1 :])

    def _option(self, name: str, value: Value) -> None:
        if value is not None:
            self._change(Condition.model_validate({**self._condition().model_dump(), name: value}))

    def _take(self, name: str) -> None:
        self._change(parse(name))
        self.build()

    def _with(self, steps: tuple[StepSpec, ...]) -> None:
        self._change(self._condition().model_copy(update={"steps": steps}))
        self.build()


def with_parameter(condition: Condition, catalogue: Catalogue, place: int, name: str, value: Value) -> Condition:
    """The condition with another value of a step's parameter; one at its default goes unsaid.

    Args:
        condition: to change.
        catalogue: says the defaults.
        place: of the step in the chain.
        name: of the parameter.
        value: the new one.
    """
    step = condition.steps[place]
    order = [control.name for control in catalogue.steps[step.type].controls]
    control = catalogue.steps[step.type].controls[order.index(name)]
    params = {key: old for key, old in step.params.items() if key != name}
    if value is not None and (control.required or value != control.default):
        params[name] = value
    params = dict(sorted(params.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
    steps = list(condition.steps)
    steps[place] = StepSpec(type=step.type, params=params)
    return condition.model_copy(update={"steps": tuple(steps)})


def strength(condition: Condition, catalogue: Catalogue) -> tuple[int, Control] | None:
    """The place of the last step whose strength trades bits for accuracy, and that parameter's control."""
    for place, step in reversed(list(enumerate(condition.steps))):
        form = catalogue.steps.get(step.type)
        if form is not None and form.strength is not None:
            return place, form.strength
    return None


def _select(label: str, options: dict[str, str], take: Callable[[str], None]) -> ui.select:
    """A list to take from: it shows no choice of its own."""

    def taken(event: events.ValueChangeEventArguments[Any]) -> None:
        if event.value is not None:
            event.sender.set_value(None)  # type: ignore[attr-defined]
            take(event.value)

    return (
        ui.select(options, label=label, on_change=taken)
        .props('dense outlined options-dense hide-bottom-space popup-content-class="choices"')
        .classes("grow take")
    )


def _short(text: str) -> str:
    return text if len(text) <= 90 else text[:88].rsplit(" ", 1)[0] + " …"
