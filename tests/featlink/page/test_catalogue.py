"""Forms follow the registry's JSON schema, a third party's step included."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from channel.link import Link
from featlink.page.catalogue import controls, step_forms
from featlink.page.fields import Scale
from shared.conditions import registry
from shared.conditions.language import Condition, StepSpec
from shared.conditions.step import Kind, Step


def test_every_step_has_a_form_whose_start_is_a_valid_condition() -> None:
    forms = step_forms(registry.schema())
    assert list(forms) == list(dict.fromkeys(forms))
    assert set(forms) == set(registry.steps())
    for form in forms.values():
        params = {one.name: one.start for one in form.controls if one.required}
        condition = Condition(domain=form.domains[0], steps=(StepSpec(type=form.type, params=params),))  # type: ignore[arg-type]
        assert registry.chain(condition)[0].type == form.type


def test_sliders_stay_within_what_a_step_allows() -> None:
    for form in step_forms(registry.schema()).values():
        step = registry.steps()[form.type]
        given = {one.name: one.start for one in form.controls if one.required}
        for control in (one for one in form.controls if one.kind == "number" and one.low > 0):
            scale = Scale(control)
            for place in (scale.low, (scale.low + scale.high) / 2, scale.high):
                value = scale.value(place)
                assert control.low * 0.99 <= value <= control.high * 1.01
                if control.name not in ("window", "burst"):  # odd; not below what independent losses have
                    step(**{**given, control.name: value})


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
