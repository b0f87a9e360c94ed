"""What the database holds, as values: data sets, runs, results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from featlink.shared.evaluation.coco import Detection


@dataclass(frozen=True)
class Dataset:
    """A stored data set, without its ground truth.

    Attributes:
        name: of the form ``[A-Za-z0-9._-]{1,64}``.
        digest: SHA-256 of the canonical ground truth.
        images: how many it has.
        created: when this content was stored; UTC, ISO 8601.
    """

    name: str
    digest: str
    images: int
    created: str


@dataclass(frozen=True)
class Run:
    """A run: a data set × a condition.

    Attributes:
        id: 32 hexadecimal digits.
        dataset: name of the data set.
        condition: the condition's text, as given.
        domain: ``feature`` or ``image``.
        model: architecture.
        weights: identity of the weights.
        name: a free note.
        created: UTC, ISO 8601.
        done: images with a result.
        total: images of the data set.
    """

    id: str
    dataset: str
    condition: str
    domain: str
    model: str
    weights: str
    name: str
    created: str
    done: int
    total: int


@dataclass(frozen=True)
class Result:
    """A run's result for one image; numbers come back exactly as given.

    Attributes:
        image_id: id in the data set.
        detections: COCO results.
        bits: what crossed the link.
        fidelity: value by metric; None where it is not finite (the PSNR of an undistorted image).
        timings: milliseconds by stage.
        link_bits: the same with packets sent again; None where no link was simulated.
        created: UTC, ISO 8601; set by the store.
    """

    image_id: int
    detections: list[Detection]
    bits: int
    fidelity: Mapping[str, float | None]
    timings: Mapping[str, float]
    link_bits: int | None = None
    created: str = ""
