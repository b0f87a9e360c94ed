"""A form's controls: a number with its slider, a choice, a switch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nicegui import events, ui

from featlink.page.catalogue import Control, Value

Commit = Callable[[Value], None]
"""Called with a new value when it is settled: the slider released, the number typed."""

_STEPS = 100


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

    def value(self, place: float) -> float:
        """The value of a place, rounded as the control allows."""
        control = self._control
        value = float(f"{10**place:.2g}") if control.logarithmic else place
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
