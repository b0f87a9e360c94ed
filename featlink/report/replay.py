"""Recompute what crossed the link: a sweep keeps detections, not planes and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from channel.apply import apply
from edge.pipeline import EdgePipeline, Request
from featlink.errors import CommandError
from featlink.fetch.weights import cached_path
from featlink.report.about import About
from featlink.report.sweep import condition_of
from featlink.results import Row
from shared.conditions.language import Condition
from shared.detector.config import ModelConfig, Profile
from shared.detector.split import build
from shared.frames.cache import PyramidCache
from shared.frames.packing import level_range, quantize, tile
from shared.frames.pyramid import Image
from shared.frames.report import Report
from shared.frames.wire import Frame

_CACHE_BYTES = 1 << 28
_MAX_PIXELS = 1 << 28


class Replay:
    """Sends pictures through conditions once more.

    Args:
        pipeline: of the sweep's own model.
        categories: category id, as text, to name.
    """

    def __init__(self, pipeline: EdgePipeline, categories: Mapping[str, str]) -> None:
        self._pipeline = pipeline
        self.categories = categories

    def received(self, picture: Path, image_id: int, condition: Condition) -> Frame:
        """What the cloud gets of an image of the data set."""
        request = Request(picture.read_bytes(), condition.domain, image_id=image_id)
        return apply(self._pipeline(request).frame, condition, Report(), fidelity=False).frame

    def pictures(self, picture: Path, image_id: int, rows: Iterable[Row]) -> dict[str, Image]:
        """What the cloud gets of an image under conditions of the image domain, by row id."""
        return {row.id: pixels(self.received(picture, image_id, condition_of(row))) for row in rows}


def open_replay(what: About) -> Replay:
    """Build the sweep's model once more.

    Raises:
        CommandError: the weights would have to be downloaded, or are not the sweep's.
        ModelError: they cannot be read.
    """
    if what.weights == "coco" and not cached_path(what.model).is_file():  # a report fetches nothing
        raise CommandError("the official weights are not on this machine (featlink fetch weights)")
    profile: Profile = "exact" if what.profile == "exact" else "fast"
    config = ModelConfig(what.model, what.weights, profile, min_size=what.min_size, max_size=what.max_size)
    model = build(config, heads=False)
    if what.identity and not what.identity.startswith(model.weights):
        raise CommandError(f"{what.weights} now holds other weights: {model.weights}, not {what.identity[:16]}")
    names = {str(number): name for number, name in enumerate(model.categories)}
    return Replay(EdgePipeline(model, PyramidCache(_CACHE_BYTES), _MAX_PIXELS), names)


def pixels(frame: Frame) -> Image:
    """The picture in an image frame, uint8 RGB (H, W, 3), at the size it was sent."""
    tensor = frame.tensor("image")
    return np.ascontiguousarray(_eight_bits(tensor.data, tensor.bits or 8).transpose(1, 2, 0))


def planes(frame: Frame) -> dict[str, npt.NDArray[np.uint8]]:
    """The levels of a feature frame as 8-bit planes of 16×16 tiles, by name."""
    found = {}
    for tensor in frame.tensors:
        samples: npt.NDArray[Any] = tensor.data
        bits = tensor.bits or 8
        if tensor.bits is None:  # clean features are sent as floats
            levels = tensor.data.astype(np.float32, copy=False)
            samples = quantize(levels, level_range(levels), bits)
        found[tensor.name] = tile(_eight_bits(samples, bits))
    return found


def _eight_bits(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.uint8]:
    return np.rint(samples * (255 / ((1 << bits) - 1))).astype(np.uint8)
