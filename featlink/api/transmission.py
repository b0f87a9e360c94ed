"""Send a signal through a condition, as the channel does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from featlink.api.delivery import Delivery
from featlink.api.signals import domain_of, frame_of
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import Condition, Domain, from_fields, parse, validation_line
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import ConditionError
from featlink.shared.features import FeatureMaps, Image
from featlink.shared.result import Telemetry

if TYPE_CHECKING:
    from featlink.api.model import Model
    from featlink.channel.codecs.base import Tools


def transmit(
    signal: FeatureMaps | Image,
    condition: Condition | str | Step,
    *,
    model: Model | None = None,
    image_id: int | None = None,
    seed: int | None = None,
    fidelity: bool = True,
    tools: Tools | None = None,
) -> Delivery:
    """Send a pyramid or an image through a condition: the same bits, samples and fidelity as through the services.

    Args:
        signal: a pyramid, or an image, uint8 RGB (H, W, 3).
        condition: its text or name, the condition itself, or one registered step. Without a domain it takes the
            signal's.
        model: needed for an image distorted at the network input's size, which only a model knows. A pyramid made by
            a model knows its own. Without a model the frame's header does not name one, and may be 64 bytes shorter.
        image_id: the picture's id in its data set. With it, random steps draw what services and sweeps draw for that
            picture; without, what follows from the pixels.
        seed: of random steps; default: the condition's.
        fidelity: measure it; it may take longer than the rest.
        tools: the codecs' programs; default: the bundled ones.

    Raises:
        ConditionError: the condition cannot be read, is for the other domain, or names an unknown step.
        FeatlinkError: the array is no image, a codec failed, or a level is not float32 (256, H, W).

    Example:
        >>> import featlink as fl
        >>> image = fl.read_image(fl.open_dataset("starter").images[1])
        >>> sent = fl.transmit(image, "quantize(bits=4) @ at=original")
        >>> sent.image.shape == image.shape, round(sent.fidelity.psnr)
        (True, 35)
    """
    from featlink.channel.transmit import transmit as send

    frame = frame_of(signal, None if model is None else model.split, image_id)
    domain = domain_of(signal)
    chosen = _resolved(condition, domain, seed)
    if model is None and chosen.domain == domain == "image" and chosen.steps and chosen.at == "input":
        raise ConditionError(
            f"'{chosen}' acts on the network's input, whose size a model knows: give model=, or say @ at=original"
        )
    sent = send(frame, chosen, Telemetry(), fidelity, tools)
    return Delivery(
        condition=chosen,
        bits=sent.report.bits or 0,
        timings=sent.report.timings,
        measured=sent.fidelity if fidelity else None,
        bitstreams=sent.bitstreams,
        extension=sent.extension,
        frame=sent.frame,
    )


def as_condition(given: Condition | Step) -> Condition:
    """A condition, or a registered step as a condition that names no domain.

    Raises:
        ConditionError: the step is not registered, or a parameter cannot be written as text.
    """
    if isinstance(given, Condition):
        return given
    if registry.steps().get(given.type) is not type(given):
        name = type(given).__name__
        raise ConditionError(f"{name} is not registered as {given.type!r}: put @fl.register above its class")
    try:
        return Condition(steps=(given.spec,))
    except ValidationError as error:
        raise ConditionError(f"{given.type}: {validation_line(error)}") from None


def _resolved(given: Condition | str | Step, domain: Domain, seed: int | None) -> Condition:
    condition = parse(given, domain) if isinstance(given, str) else as_condition(given)
    fields = condition.model_dump(exclude_unset=True)
    return from_fields({"domain": domain, **fields, **({} if seed is None else {"seed": seed})})
