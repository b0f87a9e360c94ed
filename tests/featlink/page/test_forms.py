"""Forms follow the registry's JSON schema, a third party's step included."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from pydantic import Field

from featlink.channel.link import Link
from featlink.page.forms import Scale, control, controls, step_forms
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import Condition, StepSpec
from featlink.shared.conditions.registry import Kind, Step


def test_every_step_has_a_form_whose_start_is_a_valid_condition() -> None:
    forms = step_forms(registry.schema())
    assert list(forms) == list(dict.fromkeys(forms))
    assert set(forms) == set(registry.steps())
    for form in forms.values():
        params = {one.name: one.start for one in form.controls if one.required}
        condition = Condition(domain=form.domains[0], steps=(StepSpec(type=form.type, params=params),))  # type: ignore[arg-type]
        assert registry.chain(condition)[0].type == form.type


def test_free_text_has_no_control() -> None:
    assert "loss_trace" not in {one.name for one in controls(Link.model_json_schema())}
    assert {"loss", "burst", "parity", "deadline_ms"} <= {one.name for one in controls(Link.model_json_schema())}
    assert "trace" not in {one.name for one in step_forms(registry.schema())["packet_loss"].controls}


def test_sliders_stay_within_what_a_step_allows() -> None:
    for form in step_forms(registry.schema()).values():
        step = registry.steps()[form.type]
        given = {one.name: one.start for one in form.controls if one.required}
        for each in (one for one in form.controls if one.kind == "number"):
            scale = Scale(each)
            for place in (scale.low, scale.low + scale.step, (scale.low + scale.high) / 2, scale.high):
                value = scale.value(place)
                assert each.low * 0.99 <= value <= each.high * 1.01
                if each.name != "burst":  # not below what independent losses have
                    step(**{**given, each.name: value})


@pytest.mark.parametrize(
    ("schema", "allowed"),
    [
        ({"type": "integer", "minimum": 2, "maximum": 10, "not": {"multipleOf": 2}}, [3, 5, 7, 9]),
        ({"type": "integer", "minimum": 1, "maximum": 40, "multipleOf": 16}, [16, 32]),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 4}, [1, 2, 3]),
        ({"type": "number", "minimum": 0.1, "maximum": 1, "multipleOf": 0.25}, [0.25, 0.5, 0.75, 1]),
        ({"type": "number", "minimum": 0.1, "maximum": 0.3, "multipleOf": 0.1}, [0.1, 0.2, 0.3]),
    ],
)
def test_a_slider_stops_at_every_value_that_is_allowed_and_at_no_other(
    schema: dict[str, Any], allowed: list[float]
) -> None:
    scale = Scale(control("side", schema, {}))
    stops = np.arange(scale.low, scale.high + scale.step / 2, scale.step)
    assert [scale.value(stop) for stop in stops] == allowed
    assert {scale.value(stop) for stop in np.linspace(scale.low, scale.high, 57)} == set(allowed)


def test_a_new_step_appears_by_itself() -> None:
    @registry.register
    class Dusty(Step):
        """Specks of dust.

        More of it.
        """

        kind: ClassVar[Kind] = "distortion"
        strength: ClassVar[str | None] = "share"
        type: Literal["dusty"] = "dusty"
        colour: Literal["grey", "black"] = "grey"
        share: float = Field(ge=0, le=1, description="how much is covered", examples=[0.1, 0.001, 0.5])

    try:
        form = step_forms(registry.schema())["dusty"]
    finally:
        registry._registered.pop("dusty")
    share, colour = form.controls
    assert (form.kind, form.help) == ("distortion", "Specks of dust.")
    assert (share.name, share.start, share.low, share.high) == ("share", 0.1, 0.001, 0.5)
    assert share.logarithmic
    assert (colour.kind, colour.start, colour.choices) == ("choice", "grey", ("grey", "black"))


def test_the_links_form() -> None:
    form = {one.name: one for one in controls(Link.model_json_schema())}
    assert form["rate_mbps"].optional
    assert form["rate_mbps"].start is None
    assert form["rate_mbps"].logarithmic
    assert form["on_loss"].choices == ("retransmit", "erase")
    assert form["wait"].kind == "switch"
