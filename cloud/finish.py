"""Finish an inference at the cloud: received frame → detections, and fidelity that needs the network, without HTTP.

That fidelity is [F] of a distorted image: its feature maps against the clean image's. The channel has only pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from featlink.shared.conditions.language import Condition
from featlink.shared.errors import FrameError, ModelError, type_name
from featlink.shared.evaluation.coco import KEYPOINTS
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.features import FeatureMaps
from featlink.shared.frames.packing import dequantize
from featlink.shared.frames.wire import IMAGE, Frame, Meta, Tensor
from featlink.shared.lru import CacheEntry, PyramidCache
from featlink.shared.metrics.fidelity import UNCHANGED, Compare, compare_pyramids
from featlink.shared.models.config import goes_with
from featlink.shared.models.detections import Detections
from featlink.shared.result import Detection, Telemetry
from featlink.shared.timing import timed

if TYPE_CHECKING:  # what reads frames without a network needs no torch
    from featlink.shared.models.protocol import SplitModel

_NOTHING = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), None)
"""What is found in an image of which nothing came."""
_PIXEL_RANGE = np.array([[0, 255]], np.float32)


@dataclass(frozen=True)
class NetworkOutput:
    """What the network made of a frame.

    Attributes:
        frame: as the channel left it.
        detections: of its image.
        pyramid: that they were made from.
        telemetry: the channel's, with the timing ``heads`` (an image's backbone included).
    """

    frame: Frame
    detections: Detections
    pyramid: FeatureMaps
    telemetry: Telemetry

    def measured(
        self, clean: FeatureMaps | None = None, compare: Compare = compare_pyramids
    ) -> tuple[list[Detection], Telemetry]:
        """The answer: COCO results, and the telemetry with the timing ``encode`` and, of an image, with [F].

        Args:
            clean: pyramid of the undistorted image; None where there is nothing to compare with, or where the channel
                has compared.
            compare: what measures a pyramid's fidelity.
        """
        results, encode_ms = timed(lambda: to_coco(self.detections, self.frame.meta.image_id))
        return results, self._with_fidelity(clean, compare).with_timings(encode=encode_ms)

    def _with_fidelity(self, clean: FeatureMaps | None, compare: Compare) -> Telemetry:
        telemetry = self.telemetry
        if self.frame.meta.domain == "image" and untouched(self.frame):
            found = UNCHANGED
        elif clean is None:
            return telemetry
        else:
            found, fidelity_ms = timed(lambda: compare(clean.levels, self.pyramid.levels))
            telemetry = telemetry.with_timings(fidelity=telemetry.timings.get("fidelity", 0) + fidelity_ms)
        return msgspec.structs.replace(telemetry, fidelity=telemetry.fidelity | found.figures("feature"))


def finish(
    model: SplitModel,
    frame: Frame,
    telemetry: Telemetry,
    reference: Frame | None = None,
    cache: PyramidCache | None = None,
) -> tuple[list[Detection], Telemetry]:
    """Detect what a frame shows, and measure what only the cloud can.

    Args:
        model: the whole network.
        frame: as the channel left it.
        telemetry: as the channel left it.
        reference: of a distorted image, the clean one's frame; without it, [F] is not measured.
        cache: of clean images' pyramids, by their content. It saves the backbone for the next condition of an image;
            the answer is the same without.

    Returns:
        COCO results, and the telemetry with the timings ``heads`` and ``encode``, and of an image with [F].

    Raises:
        ModelError: the frame was made by another model or other weights.
        FrameError: tensors are missing, or of a size that does not follow from the image's.
    """
    output = run_network(model, frame, telemetry)
    clean: FeatureMaps | None = None
    if frame.meta.domain == "image" and untouched(frame) and cache is not None:
        cache.put(_key(frame.tensor(IMAGE)), CacheEntry(output.pyramid, output.telemetry.timings["heads"]))
    if reference is not None:
        if frame.meta.domain != "image":
            raise FrameError("features have no reference")
        clean, clean_ms = timed(lambda: _clean_pyramid(model, frame, reference, cache))
        known_ms = output.telemetry.timings.get("fidelity", 0)
        output = replace(output, telemetry=output.telemetry.with_timings(fidelity=known_ms + clean_ms))
    return output.measured(clean, model.comparison())


def run_network(
    model: SplitModel, frame: Frame, telemetry: Telemetry, known: CacheEntry | None = None
) -> NetworkOutput:
    """Run the network's rest on a frame: the first part of :func:`finish`.

    Args:
        model: the whole network.
        frame: as the channel left it.
        telemetry: as the channel left it.
        known: the pyramid of the picture that the frame carries, if it is at hand.

    Raises:
        ModelError: the frame was made by another model or other weights, or the model's detections cannot be used.
        FrameError: tensors are missing, or of a size that does not follow from the image's.
    """
    entry = CacheEntry(*timed(lambda: received_pyramid(model, frame))) if known is None else known
    if frame.meta.lost:
        return NetworkOutput(frame, _NOTHING, entry.pyramid, telemetry.with_timings(heads=0.0))
    found, heads_ms = timed(lambda: model.decode(entry.pyramid))
    detections = checked(model, found)
    return NetworkOutput(frame, detections, entry.pyramid, telemetry.with_timings(heads=entry.backbone_ms + heads_ms))


def checked(model: SplitModel, found: object) -> Detections:
    """What a model detected, if it is what :class:`Detections` says: the model may be anyone's.

    Raises:
        ModelError: it is not; says why.
    """

    def wrong(what: str) -> ModelError:
        return ModelError(f"detections: the model {model.name} gave {what}")

    if not isinstance(found, Detections):
        raise wrong(f"{type_name(found)}, not featlink.Detections")
    for name in ("boxes", "scores", "labels"):
        if not isinstance(array := getattr(found, name), np.ndarray):
            raise wrong(f"{name} as {type_name(array)}, not as a NumPy array")
    count, scores, labels = len(found), found.scores, found.labels
    if (found.boxes.shape, scores.shape, labels.shape) != ((count, 4), (count,), (count,)):
        raise wrong(f"boxes, scores, labels of shapes {found.boxes.shape}, {scores.shape}, {labels.shape}")
    if found.masks is not None and len(found.masks) != count:
        raise wrong(f"{len(found.masks)} masks of {count} objects")
    if found.keypoints is not None and found.keypoints.shape != (count, KEYPOINTS, 3):
        raise wrong(f"keypoints of shape {found.keypoints.shape}, not {(count, KEYPOINTS, 3)}")
    if not np.isfinite(scores).all() or (scores[1:] > scores[:-1]).any():
        raise wrong("scores that do not fall; the surest object comes first")
    known = len(model.categories)
    if known and (unknown := labels[(labels < 1) | (labels >= known)]).size:
        raise wrong(f"the label {unknown[0]}, and has labels from 1 to {known - 1}, as 0 is the background")
    return found


def untouched(frame: Frame) -> bool:
    """Whether an image's frame has its pixels as they were: not mapped to samples by a condition or a lossy link."""
    return frame.tensor(IMAGE).bits is None


def _clean_pyramid(model: SplitModel, frame: Frame, reference: Frame, cache: PyramidCache | None) -> FeatureMaps:
    picture = reference.tensor(IMAGE)
    if picture.data.dtype != np.uint8 or picture.data.shape != (3, *frame.meta.sizes.original):
        raise FrameError(f"the reference is {picture.data.dtype} {picture.data.shape}, not the original picture")
    key = _key(picture)
    if cache is not None and (entry := cache.get(key)) is not None:
        return entry.pyramid
    pixels = picture.data.transpose(1, 2, 0).astype(np.uint8, copy=False)
    entry = CacheEntry(*timed(lambda: model.encode(pixels)))
    if cache is not None:
        cache.put(key, entry)
    return entry.pyramid


def _key(picture: Tensor) -> str:
    shape = "x".join(map(str, picture.data.shape))
    return f"{shape} {xxhash.xxh3_128_hexdigest(np.ascontiguousarray(picture.data).data.cast('B'))}"


# Frame → pyramid


def received_pyramid(model: SplitModel, frame: Frame) -> FeatureMaps:
    """What the heads run on: the pyramid that a frame carries, or the backbone's for the image that it carries.

    Args:
        model: the whole network.
        frame: as the channel left it.

    Raises:
        ModelError: the frame was made by another model or other weights.
        FrameError: tensors are missing, or of a size that does not follow from the image's.
    """
    meta = frame.meta
    if meta.weights != model.weights or not goes_with(meta.model, model.name):
        raise ModelError(
            f"the frame is of {meta.model} with weights {meta.weights}, "
            f"this cloud runs {model.name} with {model.weights}"
        )
    if meta.features != model.spec:
        raise ModelError("the frame's features are not those of this cloud's model")
    _check_sizes(meta)
    return pyramid(frame) if meta.domain == "feature" else _pyramid_of_image(model, frame)


def pyramid(frame: Frame) -> FeatureMaps:
    """The float pyramid a frame carries, derived levels rebuilt where they were not sent.

    Raises:
        FrameError: a level is missing, has the wrong shape, or is not finite.
    """
    spec = frame.meta.features
    sent = {*spec.required, *(tensor.name for tensor in frame.tensors)}
    levels = spec.complete({name: floats(frame.tensor(name)) for name in spec.names if name in sent})
    for name, shape in spec.shapes(frame.meta.sizes.padded).items():
        if levels[name].shape != shape:
            raise FrameError(f"{name} has shape {levels[name].shape}, the image's sizes give {shape}")
    return FeatureMaps(levels, frame.meta.sizes)


def floats(tensor: Tensor) -> npt.NDArray[np.float32]:
    """A tensor's values: quantised samples mapped back, half floats widened, float32 as it is.

    Raises:
        FrameError: a value is not finite, or integers come without their range.
    """
    if tensor.bits is not None and tensor.ranges is not None:
        return dequantize(tensor.data, tensor.ranges, tensor.bits)  # type: ignore[arg-type]
    if tensor.data.dtype.kind != "f":
        raise FrameError(f"{tensor.name}: {tensor.data.dtype.name} samples without bits and range")
    values: npt.NDArray[np.float32] = tensor.data.astype(np.float32, copy=False)
    if not np.isfinite(values.sum()):  # one pass; NaN and infinity both carry through a sum
        raise FrameError(f"{tensor.name}: features are not finite")
    return values


def _check_sizes(meta: Meta) -> None:
    sizes, divisor = meta.sizes, meta.features.divisor
    for resized, padded in zip(sizes.resized, sizes.padded, strict=True):
        if padded != -(-resized // divisor) * divisor:
            raise FrameError(f"padded size {sizes.padded} does not follow from resized size {sizes.resized}")


def _pyramid_of_image(model: SplitModel, frame: Frame) -> FeatureMaps:
    sizes, tensor = frame.meta.sizes, frame.tensor(IMAGE)
    expected = model.image_sizes(*sizes.original)
    if sizes != expected:
        raise FrameError(f"the frame says {sizes}, this model makes it {expected}")
    condition = frame.meta.condition or Condition(domain="image")
    at_input = tensor.bits is not None and condition.at == "input"  # untouched pixels come at their original size
    height, width = sizes.resized if at_input else sizes.original
    if tensor.data.shape != (3, height, width):
        raise FrameError(f"image has shape {tensor.data.shape}, its condition asks for {(3, height, width)}")
    if at_input:
        return model.encode_input(floats(tensor), sizes)
    pixels = tensor.data if tensor.bits is None else np.rint(floats(tensor))
    if pixels.dtype.kind not in "uf" or (tensor.bits is None and pixels.dtype != np.uint8):
        raise FrameError(f"image is {pixels.dtype.name}, expected uint8 pixels")
    return model.encode(pixels.astype(np.uint8, copy=False).transpose(1, 2, 0))


# Before the first picture


def warm(model: SplitModel) -> None:
    """Detect in a picture that nobody sent, so that the first real one does not pay for what happens once.

    That is: compiling kernels or reading them from Numba's cache, and OpenVINO's and torch's first inference. A
    distorted image takes backbone, heads, masks and their code, and fidelity; a frame of features a part of that.

    Args:
        model: the whole network.
    """
    height, width = model.warmup_size()
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    sizes = model.image_sizes(height, width)
    meta = Meta(
        "image",
        model.name,
        model.weights,
        sizes,
        condition=Condition(domain="image", at="original"),
        features=model.spec,
    )
    frame, reference = (Frame(meta, (Tensor(IMAGE, pixels, *how),)) for how in ((8, _PIXEL_RANGE), ()))
    with model.rehearsing():
        finish(model, frame, Telemetry(), reference)
