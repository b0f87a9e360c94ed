"""The editor of a chain of steps and of a condition's options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from nicegui import events, ui

from featlink.page.catalogue import Value
from featlink.page.context import Catalogue
from featlink.page.fields import field
from featlink.page.play.state import State
from featlink.shared.conditions.language import Condition, StepSpec, parse

Change = Callable[[State], None]


class ChainEditor:
    """Cards of steps, each with its parameters; adding, moving and removing them.

    Args:
        catalogue: which steps there are.
        state: read whenever something is changed.
        change: called with the changed state.
    """

    def __init__(self, catalogue: Catalogue, state: Callable[[], State], change: Change) -> None:
        self._catalogue = catalogue
        self._state = state
        self._change = change
        self._steps = ui.element("div").classes("steps")
        self._adding = _select("Add a step", {}, self._add)
        with ui.element("div").classes("row-tight"):
            named = _examples(catalogue.named)
            _select("Take an example", {name: name for name in named}, self._take).props("use-input input-debounce=0")
        with ui.expansion("Options").props("dense").classes("options"):
            self._options = ui.element("div")
        self.build()

    def build(self) -> None:
        """Show the state's chain."""
        state = self._state()
        self._steps.clear()
        with self._steps:
            for place, step in enumerate(state.condition.steps):
                self._card(place, step, len(state.condition.steps))
            if not state.condition.steps:
                ui.html("<p class='quiet'>No steps: what is sent arrives as it is.</p>", sanitize=False)
        fitting = [one for one in self._catalogue.steps.values() if set(state.domains) <= set(one.domains)]
        self._adding.set_options({one.type: f"{one.type} – {one.kind}: {_short(one.help)}" for one in fitting})
        self._options.clear()
        values = state.condition.model_dump()
        with self._options:
            for control in self._catalogue.options:
                field(control, values.get(control.name), partial(self._option, control.name))

    def _card(self, place: int, step: StepSpec, count: int) -> None:
        form = self._catalogue.steps.get(step.type)
        with ui.element("section").classes("step").props(f'aria-label="Step {place + 1}: {step.type}"'):
            with ui.element("div").classes("step-head"):
                ui.html(f"<b>{step.type}</b> <i>{form.kind if form else 'unknown'}</i>", tag="span", sanitize=True)
                for icon, label, to in (("arrow_upward", "up", place - 1), ("arrow_downward", "down", place + 1)):
                    if 0 <= to < count:
                        ui.button(icon=icon, on_click=lambda to=to: self._move(place, to)).props(
                            f'flat round dense size=sm aria-label="Move {step.type} {label}"'
                        )
                ui.button(icon="close", on_click=lambda: self._remove(place)).props(
                    f'flat round dense size=sm aria-label="Remove {step.type}"'
                )
            if form is None:
                ui.html("<p class='quiet'>The channel does not know this step.</p>", sanitize=False)
                return
            first, more = form.controls[:1], form.controls[1:]
            for control in first:
                field(control, step.params.get(control.name, control.start), partial(self._set, place, control.name))
            if more:
                with ui.expansion("More").props("dense").classes("options"):
                    for control in more:
                        value = step.params.get(control.name, control.start)
                        field(control, value, partial(self._set, place, control.name))

    def _set(self, place: int, name: str, value: Value) -> None:
        steps = list(self._state().condition.steps)
        form = self._catalogue.steps[steps[place].type]
        control = next(one for one in form.controls if one.name == name)
        params: dict[str, Any] = {key: old for key, old in steps[place].params.items() if key != name}
        if value is not None and (control.required or value != control.default):
            params[name] = value
        order = [one.name for one in form.controls]
        params = dict(sorted(params.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))
        steps[place] = StepSpec(type=steps[place].type, params=params)
        self._with(steps, rebuild=False)

    def _add(self, name: str) -> None:
        form = self._catalogue.steps[name]
        params: dict[str, Any] = {one.name: one.start for one in form.controls if one.required}
        strength = form.controls[:1]
        for control in strength:  # say it in the text, where one will move it
            if control.start is not None:
                params[control.name] = control.start
        new = StepSpec(type=form.type, params=params)
        steps = list(self._state().condition.steps)
        self._with([new, *steps] if form.kind == "reduction" else [*steps, new])

    def _move(self, place: int, to: int) -> None:
        steps = list(self._state().condition.steps)
        steps.insert(to, steps.pop(place))
        self._with(steps)

    def _remove(self, place: int) -> None:
        steps = list(self._state().condition.steps)
        del steps[place]
        self._with(steps)

    def _option(self, name: str, value: Value) -> None:
        if value is None:
            return
        changed = {**self._state().condition.model_dump(), name: value}
        self._change(replace(self._state(), condition=Condition.model_validate(changed)))

    def _take(self, name: str) -> None:
        condition = parse(name)
        state = self._state()
        send = state.send if state.send == "both" else condition.domain
        self._change(replace(state, condition=condition.model_copy(update={"domain": "feature"}), send=send))
        self.build()

    def _with(self, steps: list[StepSpec], rebuild: bool = True) -> None:
        condition = self._state().condition.model_copy(update={"steps": tuple(steps)})
        self._change(replace(self._state(), condition=condition))
        if rebuild:
            self.build()


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


def _examples(named: dict[str, str]) -> list[str]:
    """One name for each step and strength: a row of one domain stands for its twin."""
    return [name for name in named if ".image." not in name]
