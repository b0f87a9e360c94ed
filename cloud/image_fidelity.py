"""Detect; in the image domain also measure [F], the distorted image's pyramid against the clean one's (DESIGN 6).

Only the cloud sees both pyramids: the channel has pixels alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from cloud.heads import received_pyramid
from shared.detections import Detections
from shared.fidelity import compare_pyramids
from shared.pyramid import Pyramid
from shared.report import Report
from shared.timing import timed
from shared.wire import Frame

if TYPE_CHECKING:  # torch takes seconds to import
    from shared.model import SplitModel

UNCHANGED: dict[str, float | None] = {"psnr_f": None, "ssim_f": 1.0, "spearman_f": 1.0}
"""[F] of an image that nothing has changed; its PSNR is infinite."""


def detect(
    model: SplitModel, frame: Frame, report: Report, clean: Pyramid | None = None
) -> tuple[Detections, Pyramid, Report]:
    """Run the network's rest on a frame, and compare an image's pyramid with the clean one.

    Args:
        model: the whole network.
        frame: as the channel left it.
        report: what the channel reported.
        clean: pyramid of the undistorted image; None to measure nothing. Not used in the feature domain.

    Returns:
        The detections; the pyramid they were made from (of an image under identity, the ``clean`` of its other
        conditions); and the report with the timing ``heads`` (an image's backbone included), in the image domain
        also with ``psnr_f``, ``ssim_f`` and ``spearman_f`` and the time that took added to ``fidelity``.

    Raises:
        ModelError: the frame was made by another model or other weights.
        FrameError: tensors are missing, or of a size that does not follow from the image's.
    """
    detections, pyramid, report = run(model, frame, report)
    return detections, pyramid, measure(frame, pyramid, report, clean)


def run(model: SplitModel, frame: Frame, report: Report) -> tuple[Detections, Pyramid, Report]:
    """:func:`detect` without the comparison."""
    pyramid, backbone_ms = timed(lambda: received_pyramid(model, frame))
    detections, heads_ms = timed(lambda: model.detect(pyramid))
    return detections, pyramid, report.with_timings(heads=backbone_ms + heads_ms)


def measure(frame: Frame, pyramid: Pyramid, report: Report, clean: Pyramid | None) -> Report:
    """The comparison of :func:`detect`: the report with an image's [F].

    Args:
        frame: as the channel left it.
        pyramid: what the detections were made from.
        report: to complete.
        clean: pyramid of the undistorted image; None to measure nothing.
    """
    if frame.meta.domain != "image":
        return report
    if untouched(frame):
        return _with_fidelity(report, UNCHANGED)
    if clean is None:
        return report
    measured, fidelity_ms = timed(lambda: compare(clean, pyramid))
    return _with_fidelity(report, measured).with_timings(fidelity=report.timings.get("fidelity", 0) + fidelity_ms)


def untouched(frame: Frame) -> bool:
    """Whether an image's frame has its pixels as they were: not mapped to samples by a condition or a lossy link."""
    return frame.tensor("image").bits is None


def compare(clean: Pyramid, distorted: Pyramid) -> dict[str, float | None]:
    """[F] as reported: PSNR (None where it is infinite), SSIM and rank correlation, in the clean one's range."""
    found = compare_pyramids(clean.levels, distorted.levels)
    psnr = found.psnr if math.isfinite(found.psnr) else None
    return {"psnr_f": psnr, "ssim_f": found.ssim, "spearman_f": found.spearman}


def _with_fidelity(report: Report, measured: dict[str, float | None]) -> Report:
    return msgspec.structs.replace(report, fidelity={**report.fidelity, **measured})
