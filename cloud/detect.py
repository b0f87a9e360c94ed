"""Frame → detections: the cloud's half of the network, without any HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from featlink.cloud import image_fidelity
from featlink.cloud.received import received_pyramid
from featlink.shared.errors import FrameError
from featlink.shared.evaluation.coco import Detection
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.features import FeatureMaps
from featlink.shared.frames.cache import CacheEntry, PyramidCache
from featlink.shared.frames.wire import IMAGE, REFERENCE, Frame, Tensor
from featlink.shared.models.detections import Detections
from featlink.shared.result import Telemetry
from featlink.shared.timing import timed

if TYPE_CHECKING:  # torch takes seconds to import
    from featlink.shared.models.protocol import SplitModel


def detect(
    model: SplitModel, frame: Frame, report: Telemetry, known: CacheEntry | None = None
) -> tuple[Detections, FeatureMaps, Telemetry]:
    """Run the network's rest on a frame.

    Args:
        model: the whole network.
        frame: as the channel left it.
        report: what the channel reported.
        known: the pyramid of the picture that the frame carries, if it is at hand.

    Returns:
        The detections; the pyramid they were made from; and the report with the timing ``heads`` (an image's backbone
        included).

    Raises:
        ModelError: the frame was made by another model or other weights.
        FrameError: tensors are missing, or of a size that does not follow from the image's.
    """
    made = CacheEntry(*timed(lambda: received_pyramid(model, frame))) if known is None else known
    detections, heads_ms = timed(lambda: model.decode(made.pyramid))
    return detections, made.pyramid, report.with_timings(heads=made.backbone_ms + heads_ms)


class Detector:
    """Frame → COCO results, with the fidelity that only the cloud can measure: [F] of a distorted image.

    The clean pyramid that [F] compares with comes from the frame itself, which then carries the clean picture as its
    reference. A bounded cache by the picture's content saves the backbone for the next condition of the same picture;
    no answer depends on what is in it.

    Args:
        model: the whole network.
        cache: of clean pyramids.
    """

    def __init__(self, model: SplitModel, cache: PyramidCache) -> None:
        self._model = model
        self._cache = cache
        self._compare = model.comparison()

    def __call__(self, frame: Frame, report: Telemetry) -> tuple[list[Detection], Telemetry]:
        """Detect and measure; see :func:`detect`.

        Returns:
            The detections, and the report with the timings ``heads`` and ``encode``; of an image also with [F].
        """
        detections, pyramid, report = detect(self._model, frame, report)
        if frame.meta.domain == "image" and image_fidelity.untouched(frame):
            self._cache.put(_key(frame.tensor(IMAGE)), CacheEntry(pyramid, report.timings["heads"]))
        clean, clean_ms = timed(lambda: self._clean_pyramid(frame))
        if clean is not None:
            report = report.with_timings(fidelity=report.timings.get("fidelity", 0) + clean_ms)
        report = image_fidelity.measure(frame, pyramid, report, clean, self._compare)
        results, encode_ms = timed(lambda: to_coco(detections, frame.meta.image_id))
        return results, report.with_timings(encode=encode_ms)

    def _clean_pyramid(self, frame: Frame) -> FeatureMaps | None:
        reference = next((tensor for tensor in frame.tensors if tensor.name == REFERENCE), None)
        if reference is None:
            return None
        if reference.data.dtype != np.uint8 or reference.data.shape != (3, *frame.meta.sizes.original):
            raise FrameError(
                f"the reference is {reference.data.dtype} {reference.data.shape}, not the original picture"
            )
        key = _key(reference)
        if (entry := self._cache.get(key)) is None:
            pixels = reference.data.transpose(1, 2, 0).astype(np.uint8, copy=False)
            entry = CacheEntry(*timed(lambda: self._model.encode(pixels)))
            self._cache.put(key, entry)
        return entry.pyramid


def _key(picture: Tensor) -> str:
    shape = "x".join(map(str, picture.data.shape))
    return f"{shape} {xxhash.xxh3_128_hexdigest(np.ascontiguousarray(picture.data).data.cast('B'))}"
