"""Recompute received planes and pictures, since a sweep stores detections only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from featlink.channel.transmit import Stream, transmit
from featlink.dataset import MAX_PIXELS
from featlink.edge.prepare import Request, prepare
from featlink.errors import CommandError
from featlink.fetch.sources import cached_path
from featlink.report.sweep import About, condition_of
from featlink.results import Row
from featlink.shared.conditions.language import Condition
from featlink.shared.features import Image
from featlink.shared.frames.visualisation import pixels
from featlink.shared.frames.wire import Frame
from featlink.shared.lru import PyramidCache
from featlink.shared.models.config import ModelConfig, Profile
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.shared.result import Telemetry

_CACHE_BYTES = 1 << 28


class Replay:
    """Sends pictures through conditions once more.

    Args:
        model: the sweep's own; its backbone half is enough.
        categories: category id, as text, to name.
    """

    def __init__(self, model: SplitModel, categories: Mapping[str, str]) -> None:
        self._model = model
        self.levels = model.spec.required
        self._cache = PyramidCache(_CACHE_BYTES)
        self.categories = categories

    def received(self, picture: Path, image_id: int, condition: Condition) -> Frame:
        """What the cloud gets of an image of the data set."""
        return transmit(self._sent(picture, image_id, condition), condition, Telemetry(), fidelity=False).frame

    def clip(self, frames: Sequence[tuple[int, Path]], row: Row) -> dict[int, Image]:
        """What the cloud gets of a clip under a condition of the image domain, by image id.

        Args:
            frames: image ids and pictures, in the clip's order from its first frame on.
            row: of the image domain.
        """
        condition = condition_of(row)
        with Stream(condition, fidelity=False) as stream:
            out = [stream.push(self._sent(path, id, condition), Telemetry()) for id, path in frames]
            sent = [*chain(*out), *stream.close()]
        return {id: pixels(one.frame) for (id, _), one in zip(frames, sent, strict=True)}

    def _sent(self, picture: Path, image_id: int, condition: Condition) -> Frame:
        request = Request(picture.read_bytes(), condition.domain, image_id=image_id)
        return prepare(self._model, request, max_pixels=MAX_PIXELS, cache=self._cache).frame

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
    profiles: dict[str, Profile] = {"exact": "exact", "bf16": "bf16"}
    profile = profiles.get(what.profile, "fast")
    config = ModelConfig(
        model=what.model,
        weights=what.weights,
        profile=profile,
        min_size=what.min_size,
        max_size=what.max_size,
        split=what.split or None,
    )
    model = build(config, heads=False)
    if what.identity and not what.identity.startswith(model.weights):
        raise CommandError(f"{what.weights} now holds other weights: {model.weights}, not {what.identity[:16]}")
    names = {str(number): name for number, name in enumerate(model.categories)}
    return Replay(model, names)
