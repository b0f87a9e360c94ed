"""What an attacker on the link gets: the receiver's tensors of a picture, through the real channel, and the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from featlink.channel.transmit import resized, transmit
from featlink.cloud.finish import floats, pyramid
from featlink.dataset import MAX_PIXELS
from featlink.edge.prepare import Prepared, Request, prepare
from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.errors import ModelError
from featlink.shared.features import Array, FeatureSpec, TensorSpec
from featlink.shared.frames.wire import IMAGE, Frame
from featlink.shared.models.protocol import SplitModel
from featlink.starter.folder import picture_scene

_CELL = 4
"""Pixels a side of a received picture that the attacker takes as one cell's channels."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One picture, as it crossed the link.

    Attributes:
        levels: name to float32 (C, h, w), after decoding and restoring; of an image 4×4 pixels in each cell.
        truth: float32 RGB (3, H, W) in 0..255, at the size of the network's input, not padded.
        bits: that crossed.
        original: (height, width) of the picture before the edge resized it.
    """

    levels: Mapping[str, Array]
    truth: Array
    bits: int
    original: tuple[int, int]


def tensors(spec: FeatureSpec, domain: Domain, names: Sequence[str] = ()) -> tuple[TensorSpec, ...]:
    """The tensors that an attacker looks at, finest first.

    Args:
        spec: of the network.
        domain: that crosses the link.
        names: some of the spec's; none for all that are not derived of others.

    Raises:
        ModelError: the spec has no such tensor, or levels are named of an image.
    """
    if domain == "image":
        if names:
            raise ModelError("an image has no levels to choose from")
        return (TensorSpec(IMAGE, 3 * _CELL**2, _CELL),)
    if unknown := sorted({*names} - {*spec.names}):
        raise ModelError(f"there is no level {unknown[0]!r}; there are {', '.join(spec.names)}")
    return tuple(tensor for tensor in spec.tensors if tensor.name in (names or spec.required))


class Tap:
    """A place on the link: it sends a picture through conditions, and sees what the receiver sees.

    Args:
        model: its backbone half is enough.
        data: a picture file's bytes.
        image_id: names the random streams, as in a sweep; None takes the picture's content instead, so that an attacker
            does not learn from the very noise that it is judged on.
    """

    def __init__(self, model: SplitModel, data: bytes, image_id: int | None = None) -> None:
        self._model, self._data, self._image_id = model, data, image_id
        self._prepared: dict[Domain, Prepared] = {}
        self._truth: Array | None = None

    def observe(self, condition: Condition) -> Observation:
        """Send the picture through one condition.

        Raises:
            ImageError: the picture cannot be decoded.
            FeatlinkError: as the channel does.
        """
        domain = condition.domain
        if domain not in self._prepared:
            request = Request(self._data, domain, image_id=self._image_id)
            self._prepared[domain] = prepare(self._model, request, max_pixels=MAX_PIXELS)
        prepared = self._prepared[domain]
        sizes = prepared.frame.meta.sizes
        if self._truth is None:
            self._truth = resized(prepared.image.transpose(2, 0, 1), sizes.resized)
        sent = transmit(prepared.frame, condition, prepared.telemetry, fidelity=False)
        levels = pyramid(sent.frame).levels if domain == "feature" else {IMAGE: _cells(received_pixels(sent.frame))}
        return Observation(levels, self._truth, sent.telemetry.bits or 0, sizes.original)


def received_pixels(frame: Frame) -> Array:
    """The picture that a frame carries, float32 (3, h, w) in 0..255, at the size of the network's input."""
    tensor, size = frame.tensor(IMAGE), frame.meta.sizes.resized
    pixels = floats(tensor) if tensor.bits is not None else tensor.data
    return pixels.astype(np.float32) if pixels.shape[1:] == size else resized(pixels, size)


def _cells(pixels: Array) -> Array:
    """(48, h, w) of (3, H, W): each cell's pixels as channels, the borders repeated to whole cells."""
    _, height, width = pixels.shape
    whole = np.pad(pixels, ((0, 0), (0, -height % _CELL), (0, -width % _CELL)), "edge")
    rows, columns = whole.shape[1] // _CELL, whole.shape[2] // _CELL
    split = whole.reshape(3, rows, _CELL, columns, _CELL).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(split.reshape(3 * _CELL**2, rows, columns))


MARKS = 6
"""Written marks in each scene that is drawn to learn from."""


def drawn_pictures(seed: int, count: int) -> Iterator[bytes]:
    """Scenes with marks, drawn from what the starter's detector learned from: PNG files.

    Args:
        seed: as of :func:`featlink.starter.folder.write_folder`.
        count: how many.
    """
    for index in range(count):
        pixels = np.ascontiguousarray(picture_scene(seed, "train", index, MARKS).image[..., ::-1])
        yield cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
