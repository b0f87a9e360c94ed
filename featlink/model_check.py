"""Prove that a split model's halves are its whole: what ``featlink check-model`` does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featlink.channel.reduction.base import Reduction
from featlink.channel.reduction.pca import Grid
from featlink.channel.transmit import transmit
from featlink.cloud.finish import checked, finish, pyramid, run_network
from featlink.costs import counted
from featlink.edge.prepare import feature_tensors, image_tensors
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import parse
from featlink.shared.errors import FeatlinkError
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.features import Image, Sizes
from featlink.shared.fitted import key
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame, Meta
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.shared.result import Telemetry

SIZES = ((97, 131), (128, 96), (211, 83), (66, 150))
"""(height, width) of the pictures: odd ones, upright ones, and one that is padded by little."""
_CONDITIONS = ("quantize(bits=6) | entropy", "gaussian_noise(sigma=2)", "hevc(qp=30)", "image: jpeg(quality=80)")
_SHOWN = 200


@dataclass(frozen=True)
class Crossing:
    """A tensor that crosses the link.

    Attributes:
        name: of it.
        shape: (C, H, W), of the first picture.
        stride: as the spec says.
        source: that it can be made of again; None for one of its own.
        needed: whether the detections are others without its values; None where there are no detections.
    """

    name: str
    shape: tuple[int, ...]
    stride: int
    source: str | None
    needed: bool | None


@dataclass(frozen=True)
class ModelCheck:
    """What was found.

    Attributes:
        name, weights: of the model.
        picture: (height, width) of the first one, which the figures are of.
        crossing: the tensors, finest first.
        multiply_adds: of edge and cloud for the first picture; None where the halves are not torch's.
        conditions: those that were tried, to what went wrong; empty if nothing.
        reductions: each to why it has no meaning here; empty if it works.
        proven: what holds.
        faults: what does not.
        remarks: what is no fault.
    """

    name: str
    weights: str
    picture: tuple[int, int]
    crossing: Sequence[Crossing]
    multiply_adds: tuple[float, float] | None
    conditions: Mapping[str, str]
    reductions: Mapping[str, str]
    proven: Sequence[str]
    faults: Sequence[str]
    remarks: Sequence[str]


def check_model(config: ModelConfig) -> ModelCheck:
    """Check a model's halves on pictures of odd sizes, alone and two at a time.

    An edge and a cloud are built apart, as services build them, and features go through the wire format; so what the
    cloud's half knows otherwise, such as a skip connection that the edge's half has kept in the object, does not reach
    it. The detections are compared bit for bit with those of a third model, by :meth:`SplitModel.detect_image`.

    Args:
        config: the model.

    Raises:
        ModelError: it cannot be built.
    """
    whole, edge, cloud = build(config), build(config, heads=False), build(config)
    pictures = [_picture(seed, *size) for seed, size in enumerate(SIZES)]
    faults, sent, expected = [], [], []
    for picture in pictures:
        try:
            made = _sent(edge, picture)
            wanted = checked(whole, whole.detect_image(picture))
        except Exception as error:  # another's code
            faults.append(f"a picture of {_size(picture)} pixels fails: {_told(error)}")
            continue
        faults += [f"{_size(picture)}: {fault}" for fault in _spec_faults(edge, made)]
        sent.append(made)
        expected.append(wanted)
    proven: list[str] = []
    if len(sent) == len(pictures) and not faults:
        faults += _halves(whole, edge, cloud, pictures, sent, expected, proven)
    remarks = []
    if type(whole).detect_image is SplitModel.detect_image:
        remarks.append(
            "detect_image is not overridden, so the halves are compared with one another in one object, not with your "
            "network's own forward: override it to have them compared with that"
        )
    if expected and not any(map(len, expected)):
        remarks.append("nothing is detected in these pictures of noise, so only features are compared")
    first = sent[0] if sent else None
    crossing = [] if first is None else _crossing(cloud, first, faults)
    remarks += [f"{one.name} is sent, but no detection depends on it" for one in crossing if one.needed is False]
    conditions = (
        {} if first is None or faults else {text: _tried(edge, cloud, pictures[0], text) for text in _CONDITIONS}
    )
    faults += [f"under {text}: {why}" for text, why in conditions.items() if why]
    return ModelCheck(
        whole.name,
        whole.weights,
        SIZES[0],
        crossing,
        None if faults or first is None else _cost(config, pictures[0]),
        conditions,
        {} if faults or first is None else dict(_reductions(cloud, first)),
        proven,
        faults,
        remarks,
    )


def _halves(
    whole: SplitModel,
    edge: SplitModel,
    cloud: SplitModel,
    pictures: Sequence[Image],
    sent: Sequence[Frame],
    expected: Sequence[Detections],
    proven: list[str],
) -> list[str]:
    """Faults of cloud(edge(x)) against the whole, one picture at a time, then two in another order."""
    try:
        for picture, frame, wanted in zip(pictures, sent, expected, strict=True):
            if difference := _difference(run_network(cloud, frame, Telemetry()).detections, wanted):
                return [
                    f"{_size(picture)}: the cloud's half gives other {difference} than the whole network. Does it read "
                    "something that the edge's half has kept, such as a skip connection that is not in spec?"
                ]
        proven.append(f"cloud(edge(x)) equals the whole network bit for bit on {len(sent)} pictures")
        for one, other in zip(range(len(sent)), range(1, len(sent)), strict=False):
            frames = [_sent(edge, pictures[place]) for place in (one, other)]
            for place, frame in ((other, frames[1]), (one, frames[0])):
                if difference := _difference(run_network(cloud, frame, Telemetry()).detections, expected[place]):
                    return [
                        f"with two pictures under way, {_size(pictures[place])} gets other {difference}: "
                        "something is kept from picture to picture"
                    ]
        proven.append("so it does with two pictures under way")
        mixed = [whole.decode(whole.encode(pictures[0])) for _ in range(2)]
        if difference := _difference(*mixed):
            return [f"the same picture twice gives other {difference}"]
    except Exception as error:  # another's code
        return [f"the cloud's half fails on what crossed the link: {_told(error)}"]
    return []


def _sent(edge: SplitModel, picture: Image) -> Frame:
    """A picture's features as the cloud gets them: written into a frame, and read from its bytes."""
    features = edge.encode(picture)
    tensors = feature_tensors(features)
    meta = Meta("feature", edge.name, edge.weights, features.sizes, features=edge.spec)
    return wire.read(b"".join(wire.write(Frame(meta, tensors))))


def _spec_faults(model: SplitModel, frame: Frame) -> Iterator[str]:
    """What of the features is not as the spec says."""
    spec = model.spec
    names = tuple(tensor.name for tensor in frame.tensors)
    if names != spec.names:
        yield f"encode gives {', '.join(names) or 'nothing'}, spec says {', '.join(spec.names)}"
        return
    for name, shape in spec.shapes(frame.meta.sizes.padded).items():
        data = frame.tensor(name).data
        if data.shape != shape or data.dtype != np.float32:
            yield f"{name} is {data.dtype} {data.shape}, spec says float32 {shape}"
        elif not np.isfinite(data).all():
            yield f"{name} is not finite"
    for tensor in spec.tensors:
        if tensor.source is not None:
            step = tensor.stride // spec[tensor.source].stride
            if not np.array_equal(
                frame.tensor(tensor.name).data, frame.tensor(tensor.source).data[..., ::step, ::step]
            ):
                yield f"{tensor.name} is not every {step}th position of {tensor.source}, as spec says"


def _crossing(cloud: SplitModel, frame: Frame, faults: Sequence[str]) -> list[Crossing]:
    maps = pyramid(frame) if not faults else None
    found = None if maps is None else cloud.decode(maps)
    made = []
    for tensor in cloud.spec.tensors:
        needed = None
        if maps is not None and found is not None and len(found):
            without = {**maps.levels, tensor.name: np.zeros_like(maps.levels[tensor.name])}
            try:
                needed = bool(_difference(cloud.decode(replace(maps, levels=without)), found))
            except Exception:  # another's code may do without zeros
                needed = True
        shape = frame.tensor(tensor.name).data.shape if tensor.name in {one.name for one in frame.tensors} else ()
        made.append(Crossing(tensor.name, shape, tensor.stride, tensor.source, needed))
    return made


def _difference(one: Detections, other: Detections) -> str:
    """What differs, in a word or two; empty if nothing does."""
    if len(one) != len(other):
        return f"detections ({len(one)} and {len(other)})"
    for name in ("boxes", "scores", "labels"):
        if not np.array_equal(getattr(one, name), getattr(other, name)):
            return name
    results = [to_coco(found, 1) for found in (one, other)]
    for name, field in (("masks", "segmentation"), ("keypoints", "keypoints")):
        if [result.get(field) for result in results[0]] != [result.get(field) for result in results[1]]:
            return name
    return ""


def _tried(edge: SplitModel, cloud: SplitModel, picture: Image, text: str) -> str:
    """What goes wrong under a condition; empty if nothing."""
    condition = parse(text)
    try:
        if condition.domain == "feature":
            frame = _sent(edge, picture)
        else:
            sizes: Sizes = edge.image_sizes(*picture.shape[:2])
            meta = Meta("image", edge.name, edge.weights, sizes, features=edge.spec)
            frame = Frame(meta, image_tensors(picture))
        frame = replace(frame, meta=replace(frame.meta, condition=condition, image_id=1))
        sent = transmit(frame, condition, Telemetry())
        finish(cloud, sent.frame, sent.telemetry)
    except Exception as error:  # another's code
        return _told(error)
    return ""


def _reductions(cloud: SplitModel, frame: Frame) -> Iterator[tuple[str, str]]:
    """Every reduction with its default parameters, and why it does not work."""
    maps = pyramid(frame)
    levels = {name: maps.levels[name] for name in cloud.spec.required}
    known_as = key(cloud.weights, cloud.spec)
    for name in (name for name, kind in registry.steps().items() if kind.kind == "reduction"):
        [step] = registry.chain(parse(name))
        if not isinstance(step, Reduction):
            continue
        try:
            Grid.of(cloud.spec)
            step.restore(step.reduce(levels, known_as), known_as)
        except FeatlinkError as error:
            yield name, str(error)
        else:
            yield name, ""


def _cost(config: ModelConfig, picture: Image) -> tuple[float, float] | None:
    found = counted(config, picture)
    return None if found is None else (found.edge, found.cloud)


def _picture(seed: int, height: int, width: int) -> Image:
    """Blobs of colour on noise: more than noise alone makes a detector say something."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(90, 166, (height, width, 3)).astype(np.uint8)
    for _ in range(4):
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        picture[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    return picture


def _size(picture: Image) -> str:
    return f"{picture.shape[1]}×{picture.shape[0]}"


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:_SHOWN]
