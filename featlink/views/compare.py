"""One picture through a running deployment, clean and received, as pictures to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image as Pictures

from featlink.client import Client
from featlink.shared.conditions.language import Domain, parse
from featlink.shared.detector.overlay import paint
from featlink.shared.errors import ConditionError
from featlink.shared.frames.pyramid import LEVELS, Image
from featlink.shared.frames.visualisation import plane, png
from featlink.views.marks import difference, received_overlay
from featlink.views.matching import match
from featlink.views.sheets import sheet


def compared(picture: Image, clean: Mapping[str, Any], answer: Mapping[str, Any]) -> bytes:
    """Clean | received | difference, as a PNG file's bytes.

    Args:
        picture: what was sent, uint8 RGB (H, W, 3).
        clean: the edge's answer without distortion.
        answer: the edge's answer; with ``received``, the image that arrived is shown in the place of the clean one.
    """
    names = {**clean["categories"], **answer["categories"]}
    arrived = received_picture(answer, picture.shape[:2])
    matching = match(clean["detections"], answer["detections"])
    cells = [
        (f"clean: {len(matching.kept) + len(matching.lost)} found", paint(picture, clean["detections"], names)),
        (
            f"received: {len(matching.kept)} kept, {len(matching.lost)} lost, {len(matching.new)} new",
            received_overlay(picture if arrived is None else arrived, matching, names),
        ),
        (
            "difference" if arrived is None else "difference, pixels times 4",
            difference(picture, arrived, matching, names),
        ),
    ]
    return png(sheet([cells]))


def received_picture(answer: Mapping[str, Any], size: Sequence[int]) -> Image | None:
    """The image that arrived, at the size of the one that was sent; None where the answer has none."""
    encoded = answer.get("received", {}).get("image")
    if encoded is None:
        return None
    pixels = decoded(encoded)
    if pixels.shape[:2] == tuple(size):
        return pixels
    return cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA).astype(np.uint8)


def decoded(encoded: str) -> Image:
    """A service's picture in base64, uint8: RGB (H, W, 3) or grey (H, W)."""
    with Pictures.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        return np.asarray(picture)


def domain_of(condition: str | None, domain: Domain | None) -> Domain:
    """What crosses the link under these, as the edge decides it.

    Raises:
        ConditionError: the condition cannot be read.
    """
    return domain or (parse(condition).domain if condition else "feature")


def planes_sheet(client: Client, data: bytes, answer: Mapping[str, Any]) -> bytes:
    """The planes of each level before and after the link, as a PNG file's bytes.

    Args:
        client: of the deployment.
        data: the picture file.
        answer: the edge's, with the levels that were ``received``.

    Raises:
        ConditionError: no features were received.
    """
    arrived = answer.get("received", {})
    if not any(level in arrived for level in LEVELS):
        raise ConditionError("planes are of features; an image crossed the link")
    sent = {tensor.name: tensor for tensor in client.features(data, "feature").tensors}
    rows = [
        ((f"{level} sent", plane(sent[level])), (f"{level} received", decoded(arrived[level])))
        for level in LEVELS
        if level in arrived and level in sent
    ]
    return png(sheet(rows))
