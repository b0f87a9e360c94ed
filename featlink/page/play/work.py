"""From a setting to what is shown: requests to the edge, and pictures drawn of the answers."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from featlink.page.pictures import Pictures, decoded, jpeg
from featlink.page.play.lines import parameters
from featlink.page.play.state import State
from featlink.page.services import Services
from featlink.shared.conditions.language import Condition, Domain
from featlink.shared.features import Image
from featlink.shared.frames.packing import level_range, quantize, tile
from featlink.shared.frames.visualisation import png
from featlink.shared.frames.wire import Frame
from featlink.shared.models.overlay import paint
from featlink.views import Matching, match, received_overlay, received_picture

Answer = dict[str, Any]
_CLEAN = 16
_FRAMES = 2  # of some 30 MB each


@dataclass(frozen=True)
class Clean:
    """A picture without distortion.

    Attributes:
        answer: the edge's.
        overlay: key of the picture with its detections.
        pixels: of the picture.
        found: detections that are shown.
    """

    answer: Answer
    overlay: str
    pixels: Image
    found: int


@dataclass(frozen=True)
class Received:
    """A picture that crossed the link.

    Attributes:
        domain: what was sent.
        answer: the edge's.
        matching: with the clean detections.
        overlay: key of the picture with its detections.
        planes: keys of the level's planes before and after; None where none were asked for.
    """

    domain: Domain
    answer: Answer
    matching: Matching
    overlay: str
    planes: tuple[str, str] | None


class Work:
    """Asks the services and draws; what does not depend on the condition is kept.

    Args:
        services: to ask.
        drawn: where pictures go.
        planes: where planes go, which are large.
    """

    def __init__(self, services: Services, drawn: Pictures, planes: Pictures) -> None:
        self._services = services
        self._drawn = drawn
        self._planes_kept = planes
        self._clean: OrderedDict[bytes, Clean] = OrderedDict()
        self._frames: OrderedDict[bytes, Frame] = OrderedDict()

    async def clean(self, data: bytes) -> Clean:
        """The picture without distortion.

        Raises:
            ServiceError: the deployment cannot answer.
            ImageError: it is no picture.
        """
        if (kept := self._clean.get(data)) is None:
            answer = await self._services.infer(data, condition="feature: identity", link="{}", fidelity=False)
            overlay, pixels = await asyncio.to_thread(self._draw_clean, data, answer)
            kept = Clean(answer, overlay, pixels, len(match(answer["detections"], []).lost))
            _keep(self._clean, data, kept, _CLEAN)
        return kept

    async def received(self, data: bytes, state: State, domain: Domain, clean: Clean) -> Received:
        """The picture through the link, compared with the clean one.

        Raises:
            ServiceError: the deployment cannot answer, or refuses the condition.
        """
        wanted = "image" if domain == "image" else state.planes or None
        answer = await self._services.infer(data, received=wanted, **parameters(state, domain))
        matching = match(clean.answer["detections"], answer["detections"])
        overlay = await asyncio.to_thread(self._draw_received, clean, answer, matching)
        planes = None
        if domain == "feature" and state.planes in answer.get("received", {}):
            planes = await self._planes(data, state.planes, state.condition, answer)
        return Received(domain, answer, matching, overlay, planes)

    def forget(self) -> None:
        """Drop what was kept."""
        self._clean.clear()
        self._frames.clear()

    def _draw_clean(self, data: bytes, answer: Answer) -> tuple[str, Image]:
        picture = decoded(data)
        drawn = paint(picture, answer["detections"], answer["categories"])
        return self._drawn.put(jpeg(drawn)), picture

    def _draw_received(self, clean: Clean, answer: Answer, matching: Matching) -> str:
        arrived = received_picture(answer, clean.pixels.shape[:2])
        names = {**clean.answer["categories"], **answer["categories"]}
        return self._drawn.put(jpeg(received_overlay(clean.pixels if arrived is None else arrived, matching, names)))

    async def _planes(self, data: bytes, level: str, condition: Condition, answer: Answer) -> tuple[str, str]:
        if (frame := self._frames.get(data)) is None:
            frame = await self._services.features(data)
            _keep(self._frames, data, frame, _FRAMES)

        def draw() -> tuple[str, str]:
            features = np.asarray(frame.tensor(level).data, np.float32)
            ranges = level_range(features, "channel" if condition.range == "channel" else "level")
            sent = self._planes_kept.put(png(tile(quantize(features, ranges, 8))))
            return sent, self._planes_kept.put(base64.b64decode(answer["received"][level]))

        return await asyncio.to_thread(draw)


def _keep(kept: OrderedDict[bytes, Any], key: bytes, value: object, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
