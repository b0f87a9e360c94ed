"""Pictures: the bundled scenes, what visitors sent, and what is drawn of the services' answers."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import xxhash

from featlink import views
from featlink.client import Client
from featlink.page.forms import Scale
from featlink.page.state import Side, State, View
from featlink.shared.conditions.language import Condition
from featlink.shared.features import Image
from featlink.shared.frames.packing import level_range, quantize, tile
from featlink.shared.frames.visualisation import png
from featlink.shared.frames.wire import Frame
from featlink.shared.lru import LRU
from featlink.shared.models.overlay import paint
from featlink.shared.pictures import decode
from featlink.shared.result import InferenceResult
from featlink.starter.bundle import SCENES
from featlink.views import Matching, match, received_overlay, versus

MAX_PIXELS = 50_000_000
_THUMBNAIL = 160
_CLEAN = 16
_FRAMES = 2  # of some 30 MB each
_EQUAL = 0.01
"""Bits within 1 % are equal."""
_ERROR_GAIN = 4
"""An error picture shows a mean error of 255 / 4 as its brightest colour."""


class PictureStore:
    """The most recent picture files, within a number of bytes.

    Args:
        limit: bytes of all together.
    """

    def __init__(self, limit: int) -> None:
        self._files = LRU[bytes](limit, size=len)

    def put(self, data: bytes) -> str:
        """Keep a file; returns its key, the same for the same content."""
        key = xxhash.xxh3_128_hexdigest(data)
        self._files.put(key, data)
        return key

    def get(self, key: str) -> bytes | None:
        """A file; None if it is not kept any more."""
        return self._files.get(key)


def scenes() -> list[str]:
    """File names of the bundled scenes."""
    return sorted(path.name for path in (SCENES / "val").iterdir())


def scene_path(name: str) -> Path | None:
    """A bundled scene; None where there is none of that name."""
    return SCENES / "val" / name if name in scenes() else None


@lru_cache(maxsize=128)
def thumbnail(name: str) -> bytes:
    """A bundled scene made small, as a JPEG file's bytes."""
    pixels = decoded((SCENES / "val" / name).read_bytes())
    height, width = pixels.shape[:2]
    scale = _THUMBNAIL / min(height, width)
    small = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return jpeg(small.astype(np.uint8), 85)


def jpeg(pixels: npt.NDArray[np.uint8], quality: int = 92) -> bytes:
    """A JPEG file's bytes with colours at full resolution, so that thin lines stay sharp.

    Args:
        pixels: RGB (H, W, 3).
        quality: 0..100.
    """
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, quality),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1])


def decoded(data: bytes) -> Image:
    """A picture file's pixels.

    Raises:
        ImageError: it is no picture.
    """
    return decode(data, MAX_PIXELS)


def error_picture(picture: Image, error: npt.NDArray[np.floating]) -> Image:
    """Where the error is: a map of it in false colours over the picture, which is dimmed.

    Args:
        picture: uint8 RGB (H, W, 3).
        error: mean absolute error of the samples at each position, on 0..255, of any height and width.
    """
    height, width = picture.shape[:2]
    bright = cv2.resize((_ERROR_GAIN * error).clip(0, 255).astype(np.uint8), (width, height))
    colours = cv2.cvtColor(cv2.applyColorMap(bright, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
    return np.maximum(colours, (0.3 * grey).astype(np.uint8))


@dataclass(frozen=True)
class Clean:
    """A picture without distortion.

    Attributes:
        result: the edge's answer.
        overlay: key of the picture with its detections.
        pixels: of the picture.
        count: detections that are shown.
    """

    result: InferenceResult
    overlay: str
    pixels: Image
    count: int


@dataclass(frozen=True)
class Received:
    """A picture that crossed the link on one side of the comparison.

    Attributes:
        side: ``a`` or ``b``.
        condition: that it went through.
        result: the edge's answer.
        matching: with the clean detections.
        overlay: key of the picture with its detections.
        error: key of the picture of its errors; None where none was asked for.
        planes: keys of the level's planes before and after; None where none were asked for.
    """

    side: Side
    condition: Condition
    result: InferenceResult
    matching: Matching
    overlay: str
    error: str | None = None
    planes: tuple[str, str] | None = None


class Inference:
    """Asks the services and draws what they answer; what does not depend on the condition is kept.

    Args:
        client: of the services.
        ask: makes a request beside the event loop.
        drawn: where pictures go.
        planes: where planes go, which are large.
    """

    def __init__(
        self, client: Client, ask: Callable[..., Awaitable[Any]], drawn: PictureStore, planes: PictureStore
    ) -> None:
        self._client = client
        self._ask = ask
        self._drawn = drawn
        self._planes = planes
        self._clean = LRU[Clean](_CLEAN)
        self._frames = LRU[Frame](_FRAMES)

    async def clean(self, data: bytes) -> Clean:
        """The picture without distortion.

        Raises:
            CommandError: the deployment cannot answer.
            ImageError: it is no picture.
        """
        key = xxhash.xxh3_128_hexdigest(data)
        if (clean := self._clean.get(key)) is None:
            result = await self._infer(data, condition="feature: identity", link="{}", fidelity=False)
            clean = await asyncio.to_thread(self._draw_clean, data, result)
            self._clean.put(key, clean)
        return clean

    async def received(self, data: bytes, state: State, side: Side, clean: Clean) -> Received:
        """The picture through the link, compared with the clean one.

        Raises:
            CommandError: the deployment cannot answer, or refuses the condition.
        """
        condition = state.sides[side]
        frame, level = None, state.planes
        if condition.domain == "feature" and (level or state.view == "difference"):
            frame = await self._frame(data)
            names = [tensor.name for tensor in frame.tensors]
            level = level if level in names else names[len(names) // 2]
        wanted = "image" if condition.domain == "image" else level or None
        result = await self._infer(data, received=wanted, condition=str(condition), link=state.link_text())
        matching = match(clean.result.detections, result.detections)

        def draw() -> Received:
            names = {**clean.result.categories, **result.categories}
            arrived = views.received_picture(result, clean.pixels.shape[:2])
            lost = views.lost_rows(result)
            overlay = received_overlay(clean.pixels if arrived is None else arrived, matching, names, lost)
            received = Received(side, condition, result, matching, self._drawn.put(jpeg(overlay)))
            return self._with_errors(received, state.view, clean.pixels, arrived, frame, level)

        return await asyncio.to_thread(draw)

    async def versus(self, clean: Clean, received: list[Received]) -> str:
        """Key of the picture that shows which side kept which detection."""
        matchings = {one.side.upper(): one.matching for one in received}
        names = dict(clean.result.categories)
        for one in received:
            names |= one.result.categories
        return await asyncio.to_thread(lambda: self._drawn.put(jpeg(versus(clean.pixels, matchings, names))))

    async def bits(self, data: bytes, condition: Condition) -> int:
        """How many bits cross the link."""
        result = await self._infer(data, condition=str(condition), link="{}", fidelity=False)
        return result.bits or 0

    def forget(self) -> None:
        """Drop what was kept."""
        self._clean.clear()
        self._frames.clear()

    async def _infer(self, data: bytes, **params: str | bool | None) -> InferenceResult:
        return InferenceResult.model_validate(await self._ask(self._client.infer, data, **params))

    async def _frame(self, data: bytes) -> Frame:
        key = xxhash.xxh3_128_hexdigest(data)
        if (frame := self._frames.get(key)) is None:
            frame = await self._ask(self._client.features, data, "feature")
            self._frames.put(key, frame)
        return frame

    def _draw_clean(self, data: bytes, result: InferenceResult) -> Clean:
        pixels = decoded(data)
        overlay = self._drawn.put(jpeg(paint(pixels, result.detections, result.categories)))
        return Clean(result, overlay, pixels, len(match(result.detections, []).lost))

    def _with_errors(
        self, received: Received, view: View, pixels: Image, arrived: Image | None, frame: Frame | None, level: str
    ) -> Received:
        """The same with the pictures of errors and planes that the view needs."""
        error, planes = None, None
        if arrived is not None:
            if view == "difference":
                difference = cv2.absdiff(pixels, arrived).mean(axis=2)
                error = self._drawn.put(jpeg(error_picture(pixels, difference)))
        elif frame is not None and level in received.result.received:
            features = np.asarray(frame.tensor(level).data, np.float32)
            ranges = level_range(features, "channel" if received.condition.range == "channel" else "level")
            sent = tile(quantize(features, ranges, 8))
            encoded = received.result.received[level]
            planes = self._planes.put(png(sent)), self._planes.put(base64.b64decode(encoded))
            if view == "difference":
                difference = cv2.absdiff(sent, views.decoded(encoded))
                height, width = features.shape[1:]
                tiles = difference.reshape(sent.shape[0] // height, height, sent.shape[1] // width, width)
                error = self._drawn.put(jpeg(error_picture(pixels, tiles.mean(axis=(0, 2)))))
        return replace(received, error=error, planes=planes)


async def equal_bits(
    bits: Callable[[float], Awaitable[int]], scale: Scale, start: float, target: int, tries: int = 10
) -> tuple[float, int]:
    """The strength that makes about as many bits as another condition: the secant method on their logarithm.

    Args:
        bits: how many a strength makes; falls or rises with it.
        scale: of the strength.
        start: a strength to begin with.
        target: bits to be met.
        tries: most strengths that are tried.

    Returns:
        The strength whose bits are nearest to the target among those tried, and these bits.
    """
    results: dict[float, int] = {}

    async def excess(place: float) -> float:
        """How far a strength's bits are above the target, as a logarithm."""
        value = scale.value(place, digits=3)
        if value not in results:
            results[value] = await bits(value)
        return math.log(max(results[value], 1) / target)

    width = scale.high - scale.low
    step = max(0.15 * width, scale.step)
    old = scale.place(start)
    old_excess = await excess(old)
    place = old + step if old + step <= scale.high else old - step
    for _ in range(tries - 1):
        if abs(old_excess) < _EQUAL or scale.value(place, digits=3) in results:
            break
        new_excess = await excess(place)
        slope = (new_excess - old_excess) / (place - old)
        move = -new_excess / slope if slope else math.copysign(step, place - old)
        move = math.copysign(min(abs(move), 3 * step), move)
        old, old_excess = place, new_excess
        place = min(max(place + move, scale.low), scale.high)
    best = min(results, key=lambda value: abs(math.log(max(results[value], 1) / target)))
    return best, results[best]
