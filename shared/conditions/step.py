"""What every step of a condition is: its parameters, and what sweeps, reports and pages have to know of it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from featlink.shared.conditions.language import Domain, StepSpec

Kind = Literal["reduction", "distortion", "probe", "loss", "codec"]
KINDS: tuple[Kind, ...] = ("reduction", "distortion", "probe", "loss", "codec")
"""``reduction``: makes fewer planes of the levels, and levels of those again; ``distortion``: damages samples;
``probe``: changes one property of them and keeps another, to learn which matters; ``loss``: damages the payload on its
way; ``codec``: makes the bitstreams that cross the link in the samples' place."""


class Step(BaseModel):
    """A step's parameters.

    A subclass adds ``type: Literal["its_name"] = "its_name"`` and its fields, each bounded and described, and is
    registered by :func:`featlink.shared.conditions.registry.register`.

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

    @property
    def spec(self) -> StepSpec:
        """The step as a condition's text has it: its name and the parameters that were given."""
        given = self.model_dump(exclude={"type"}, exclude_unset=True)
        return StepSpec(type=self.type, params=given)
