"""Send feature maps or an image through a condition, as the channel does; the result is a :class:`Delivery`."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash
from pydantic import ValidationError

from featlink.api.pictures import checked
from featlink.channel.codecs.base import Tools
from featlink.channel.packets import PacketReport
from featlink.channel.transmit import Transmission
from featlink.channel.transmit import transmit as through_channel
from featlink.cloud.finish import floats, pyramid
from featlink.edge.prepare import feature_tensors, image_tensors
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import Condition, Domain, from_fields, parse, validation_line
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import ConditionError, FeatlinkError
from featlink.shared.features import FeatureMaps, FeatureSpec, Image, Sizes
from featlink.shared.fpn import FPN
from featlink.shared.frames.wire import IMAGE, Frame, Meta
from featlink.shared.metrics.fidelity import Fidelity
from featlink.shared.result import Telemetry

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.api.model import Model
    from featlink.shared.models.protocol import SplitModel


@dataclass(frozen=True)
class ModelPyramid(FeatureMaps):
    """A pyramid with what a frame's header says of its origin.

    ``dataclasses.replace(pyramid, levels=...)`` keeps the origin.

    Attributes:
        model: architecture that made it.
        weights: identity of its weights.
        key: content hash of the picture.
        spec: what its features are.
    """

    model: str = ""
    weights: str = ""
    key: str = ""
    spec: FeatureSpec = FPN


def domain_of(signal: FeatureMaps | Image) -> Domain:
    """The domain of a signal."""
    return "feature" if isinstance(signal, FeatureMaps) else "image"


def frame_of(signal: FeatureMaps | Image, model: SplitModel | None, image_id: int | None = None) -> Frame:
    """The frame that the edge would send.

    Args:
        signal: a pyramid, or uint8 RGB (H, W, 3).
        model: the network, for what the signal does not say of itself. Without one the header names none, and an
            image's network input is taken to be its original size.
        image_id: the picture's id in its data set, if it has one.

    Raises:
        ImageError: the signal is neither.
    """
    name, weights, spec = ("", "", FPN) if model is None else (model.name, model.weights, model.spec)
    if isinstance(signal, FeatureMaps):
        sizes, tensors = signal.sizes, feature_tensors(signal)
        if isinstance(signal, ModelPyramid):
            name, weights, key, spec = signal.model, signal.weights, signal.key, signal.spec
        else:
            key = key_of(signal.levels.values())
    else:
        image = checked(signal)
        height, width = image.shape[:2]
        sizes = Sizes((height, width), (height, width), (height, width))
        if model is not None:
            sizes = model.image_sizes(height, width)
        tensors, key = image_tensors(image), key_of([image])
    number = None if image_id is None else operator.index(image_id)  # NumPy's integers are ids too
    return Frame(Meta(domain_of(signal), name, weights, sizes, number, key, features=spec), tensors)


def key_of(arrays: Iterable[npt.NDArray[np.generic]]) -> str:
    """Content hash of arrays: it names the random streams of a picture without an id.

    Example:
        >>> len(key_of([np.zeros((2, 2), np.uint8)]))
        32
    """
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()


@dataclass(frozen=True, eq=False, repr=False)
class Delivery:
    """What came over the link, and what it cost.

    Attributes:
        condition: that it was sent through.
        bits: that crossed the link: bitstreams or samples, with packet headers, side information and frame header.
        timings: milliseconds: ``distort``, ``serialize``, ``fidelity``; where there is such a step ``reduce``,
            ``compress``, ``decompress`` and ``restore``.
        bitstreams: what a codec made, by plane: ``p2``..``p6``, ``pyramid`` if stacked, ``latent`` if
            reduced, or ``image``.
        extension: of a file with such a bitstream.
        frame: as it left the channel.
        measured: the fidelity, or None where it was not asked for.
        key: whether it can be decoded without the frames before it in its stream.
        packets: what became of the packets of a codec's units; None where there are none.
    """

    condition: Condition
    bits: int
    timings: Mapping[str, float]
    measured: Fidelity | None
    bitstreams: Mapping[str, bytes]
    extension: str
    frame: Frame
    key: bool = True
    packets: PacketReport | None = None

    @property
    def bpp(self) -> float:
        """Bits per pixel of the original picture."""
        height, width = self.frame.meta.sizes.original
        return self.bits / (height * width)

    @property
    def fidelity(self) -> Fidelity:
        """How near it is to what was sent: ``psnr``, ``ssim`` and, of features, ``spearman`` and ``levels``.

        Of an image, of the pixels; for its features see :func:`featlink.compare`.

        Raises:
            FeatlinkError: it was not measured.
        """
        if self.measured is None:
            raise FeatlinkError("fidelity was not measured: transmit with fidelity=True")
        return self.measured

    @cached_property
    def pyramid(self) -> FeatureMaps:
        """The features that came, as floats.

        Raises:
            FeatlinkError: an image was sent.
        """
        meta = self.frame.meta
        if meta.domain != "feature":
            raise FeatlinkError("an image was sent: see .image, or ask the model for .pyramid(sent)")
        received = pyramid(self.frame)
        return ModelPyramid(received.levels, received.sizes, meta.model, meta.weights, meta.key, meta.features)

    @cached_property
    def image(self) -> Image:
        """The image that came, uint8 RGB: the network input (h, w, 3), or (H, W, 3) with ``at=original``.

        Raises:
            FeatlinkError: features were sent.
        """
        if self.frame.meta.domain != "image":
            raise FeatlinkError("features were sent: see .pyramid")
        tensor = self.frame.tensor(IMAGE)
        pixels = tensor.data if tensor.bits is None else np.rint(floats(tensor))
        return np.ascontiguousarray(pixels.astype(np.uint8).transpose(1, 2, 0))

    def __repr__(self) -> str:
        return f"<delivery of '{self.condition}', {self.bits:,} bits, {self.bpp:.3f} bpp>"


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
    frame = frame_of(signal, None if model is None else model.split, image_id)
    chosen = resolved(condition, domain_of(signal), seed, model)
    return delivery(through_channel(frame, chosen, Telemetry(), fidelity, tools), chosen, fidelity)


def delivery(sent: Transmission, condition: Condition, fidelity: bool) -> Delivery:
    """What left the channel, as the API gives it."""
    return Delivery(
        condition=condition,
        bits=sent.telemetry.bits or 0,
        timings=sent.telemetry.timings,
        measured=sent.fidelity if fidelity else None,
        bitstreams=sent.bitstreams,
        extension=sent.extension,
        frame=sent.frame,
        key=sent.key,
        packets=sent.packets,
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


def resolved(given: Condition | str | Step, domain: Domain, seed: int | None, model: Model | None) -> Condition:
    """A condition in the domain of what is sent, if it names none itself.

    Raises:
        ConditionError: it cannot be read, or acts on an image's network input, whose size needs a model.
    """
    condition = parse(given, domain) if isinstance(given, str) else as_condition(given)
    fields = condition.model_dump(exclude_unset=True)
    chosen = from_fields({"domain": domain, **fields, **({} if seed is None else {"seed": seed})})
    if model is None and chosen.domain == domain == "image" and chosen.steps and chosen.at == "input":
        raise ConditionError(
            f"'{chosen}' acts on the network's input, whose size a model knows: give model=, or say @ at=original"
        )
    return chosen
