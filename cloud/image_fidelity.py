"""[F] in the image domain: the distorted image's pyramid against the clean one's.

Only the cloud sees both pyramids: the channel has pixels alone.
"""

from __future__ import annotations

import math

import msgspec

from featlink.shared.features import FeatureMaps
from featlink.shared.frames.wire import Frame
from featlink.shared.metrics.fidelity import Compare, compare_pyramids
from featlink.shared.result import Telemetry
from featlink.shared.timing import timed

UNCHANGED: dict[str, float | None] = {"psnr_f": None, "ssim_f": 1.0, "spearman_f": 1.0}
"""[F] of an image that nothing has changed; its PSNR is infinite."""


def measure(
    frame: Frame,
    pyramid: FeatureMaps,
    report: Telemetry,
    clean: FeatureMaps | None,
    compare: Compare = compare_pyramids,
) -> Telemetry:
    """Complete a report with an image's [F]: ``psnr_f``, ``ssim_f``, ``spearman_f``, and the time that took.

    Args:
        frame: as the channel left it.
        pyramid: what the detections were made from.
        report: to complete.
        clean: pyramid of the undistorted image; None to measure nothing.
        compare: what measures.

    Returns:
        The report as it is for a frame of features.
    """
    if frame.meta.domain != "image":
        return report
    if untouched(frame):
        return _with_fidelity(report, UNCHANGED)
    if clean is None:
        return report
    found, fidelity_ms = timed(lambda: compare(clean.levels, pyramid.levels))
    psnr = found.psnr if math.isfinite(found.psnr) else None
    measured = {"psnr_f": psnr, "ssim_f": found.ssim, "spearman_f": found.spearman}
    return _with_fidelity(report, measured).with_timings(fidelity=report.timings.get("fidelity", 0) + fidelity_ms)


def untouched(frame: Frame) -> bool:
    """Whether an image's frame has its pixels as they were: not mapped to samples by a condition or a lossy link."""
    return frame.tensor("image").bits is None


def _with_fidelity(report: Telemetry, measured: dict[str, float | None]) -> Telemetry:
    return msgspec.structs.replace(report, fidelity={**report.fidelity, **measured})
