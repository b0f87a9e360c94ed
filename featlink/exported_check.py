"""Compare an exported edge, or the frames that a device wrote with it, with the network that it was exported from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from featlink.channel.reduction.base import REDUCED_BY, Reduction
from featlink.channel.transmit import transmit
from featlink.cloud.finish import floats, run_network
from featlink.dataset import MAX_PIXELS
from featlink.edge.prepare import Prepared, Request, prepare
from featlink.errors import CommandError
from featlink.exporting import FACTS, GRAPH, ExportedEdge, fed, onnx_runtime
from featlink.shared import fitted
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import FrameError
from featlink.shared.evaluation.categories import match
from featlink.shared.evaluation.coco import GroundTruth
from featlink.shared.evaluation.coco_metrics import Metrics, evaluate
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.evaluation.protocol import Scores
from featlink.shared.features import Array
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame, Tensor
from featlink.shared.models.config import goes_with
from featlink.shared.models.protocol import SplitModel
from featlink.shared.result import Detection, Telemetry


@dataclass(frozen=True)
class Deviation:
    """How far a tensor is from the network's own, over all pictures.

    Attributes:
        largest: of all differences, as a share of the tensor's range in that picture.
        rms: root of the mean square, as such a share, over pictures.
    """

    largest: float
    rms: float


@dataclass(frozen=True)
class EdgeCheck:
    """What an exported edge is worth.

    Attributes:
        model: as its frames name it.
        images: how many there were.
        condition: that both went through.
        exported: figures by group of what was detected in its features.
        own: of what was detected in the network's own.
        bytes: sent for a picture, exported and own.
        deviations: by tensor.
    """

    model: str
    images: int
    condition: str
    exported: Mapping[str, Scores]
    own: Mapping[str, Scores]
    bytes: tuple[float, float]
    deviations: Mapping[str, Deviation]


Source = Callable[[Path, bytes, Prepared], Frame]
"""From a picture file, its bytes and what the network's own edge made of it to the exported edge's frame."""


def graph_frames(folder: Path, model: SplitModel) -> tuple[ExportedEdge, Source]:
    """Run an exported graph here.

    Args:
        folder: of the export.
        model: that it was exported from.

    Raises:
        CommandError: it is no export, or that of another network.
    """
    try:
        facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=ExportedEdge)
        graph = (folder / GRAPH).read_bytes()
    except (OSError, msgspec.DecodeError) as error:
        raise CommandError(f"{folder} is no exported edge: {error}") from None
    if hashlib.sha256(graph).hexdigest() != facts.sha256:
        raise CommandError(f"{folder}: {GRAPH} is not the one that {FACTS} describes")
    if facts.weights != model.weights or not goes_with(facts.model, model.name):
        raise CommandError(f"{folder} is of {facts.model} {facts.weights}, not of {model.name} {model.weights}")
    session = onnx_runtime().InferenceSession(graph, providers=["CPUExecutionProvider"])

    def frame(_: Path, __: bytes, own: Prepared) -> Frame:
        picture, sizes = own.image, own.frame.meta.sizes
        if facts.size is not None and picture.shape[:2] != facts.size:
            raise CommandError(f"the export takes pictures of {facts.size}, one has {picture.shape[:2]} pixels")
        arrays = session.run(facts.tensors, fed(picture, None if facts.size else sizes))
        extensions: dict[str, object] = {} if facts.reduced is None else {REDUCED_BY: facts.reduced}
        meta = replace(own.frame.meta, model=facts.model, extensions=extensions)
        tensors = tuple(Tensor(name, array) for name, array in zip(facts.tensors, arrays, strict=True))
        return Frame(meta, tensors)

    return facts, frame


def recorded_frames(folder: Path) -> Source:
    """Take frames from where a device wrote them: those of ``street.jpg`` in ``street.frame``."""

    def frame(file: Path, data: bytes, _: Prepared) -> Frame:
        path = folder / f"{file.stem}.frame"
        try:
            found = wire.read(bytearray(path.read_bytes()))  # of which torch may make tensors
        except OSError as error:
            raise CommandError(f"cannot read {path}: {error.strerror}") from None
        if found.meta.key != hashlib.sha256(data).hexdigest()[:32]:
            raise CommandError(f"{path} was not made of {file}")
        return found

    return frame


def check(
    model: SplitModel,
    frames: Source,
    pictures: Mapping[int, Path],
    truth: GroundTruth,
    condition: Condition,
    advance: Callable[[], None] = lambda: None,
) -> EdgeCheck:
    """Send an exported edge's frames and the network's own through the same condition, and compare.

    Args:
        model: the whole network.
        frames: of the exported edge.
        pictures: image id to picture file.
        truth: of a data set with these images.
        condition: for both; one that begins with the reduction where the export has one.
        advance: called after each picture.

    Raises:
        CommandError: a frame cannot be had.
        FeatlinkError: it is of another network, or cannot be sent under the condition.
    """
    labels = match(truth.categories, model.categories)
    found: tuple[list[Detection], list[Detection]] = ([], [])
    bits, largest, squares = [0, 0], dict[str, float](), dict[str, list[float]]()
    name = ""
    for image_id, file in pictures.items():
        data = file.read_bytes()
        prepared = prepare(model, Request(data, image_id=image_id), max_pixels=MAX_PIXELS)
        ours, theirs = prepared.frame, frames(file, data, prepared)
        theirs = replace(theirs, meta=replace(theirs.meta, image_id=image_id, key=ours.meta.key))
        name = theirs.meta.model
        for tensor in theirs.tensors:
            share, mean = _deviation(tensor, _reference(ours, tensor.name, condition))
            largest[tensor.name] = max(share, largest.get(tensor.name, 0.0))
            squares.setdefault(tensor.name, []).append(mean)
        for place, frame in enumerate((theirs, ours)):
            sent = transmit(frame, condition, Telemetry(), fidelity=False)
            output = run_network(model, sent.frame, sent.telemetry)
            found[place].extend(labels.apply(to_coco(output.detections, image_id)))
            bits[place] += sent.telemetry.bits or 0
        advance()
    exported, own = (evaluate(truth, of_all, pictures) for of_all in found)
    count = max(1, len(pictures))
    deviations = {name: Deviation(largest[name], float(np.sqrt(np.mean(squares[name])))) for name in largest}
    mean_bytes = (bits[0] / 8 / count, bits[1] / 8 / count)
    return EdgeCheck(name, len(pictures), str(condition), _groups(exported), _groups(own), mean_bytes, deviations)


def _reference(ours: Frame, name: str, condition: Condition) -> Array:
    """What a tensor would be in the network's own arithmetic."""
    levels = {tensor.name: floats(tensor) for tensor in ours.tensors}
    if name in levels:
        return levels[name]
    step = chain(condition)[0]
    if not isinstance(step, Reduction):
        raise CommandError(f"the frames carry {name}, which the condition {condition} does not make")
    return step.reduce(levels, fitted.key(ours.meta.weights, ours.meta.features))[name]


def _deviation(tensor: Tensor, reference: Array) -> tuple[float, float]:
    """The largest difference as a share of the reference's range, and the mean square of such shares."""
    if tensor.data.shape != reference.shape:
        raise FrameError(f"{tensor.name} has shape {tensor.data.shape}, the network's own {reference.shape}")
    share = (floats(tensor) - reference) / max(float(np.ptp(reference)), 1e-12)
    return float(np.abs(share).max()), float(np.mean(np.square(share, dtype=np.float64)))


def _groups(metrics: Metrics) -> dict[str, Scores]:
    return {name: scores for name, scores in (("segm", metrics.segm), ("bbox", metrics.bbox)) if scores is not None}
