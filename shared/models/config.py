"""The configuration of a model: network, weights, numerics; free of torch, so that settings are cheap to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Profile = Literal["fast", "exact", "bf16"]

MODELS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn")
"""torchvision builders whose networks can be split."""


@dataclass(frozen=True)
class ModelConfig:
    """Which network, how.

    Attributes:
        model: a name of :data:`MODELS`, of a model of another package, or ``FILE.py:FUNCTION``.
        weights: ``starter``, ``coco`` or a path.
        profile: ``exact`` is torchvision's own arithmetic; ``fast`` may reorder it, ``bf16`` rounds to bfloat16.
        min_size: shorter side of the network input in pixels; default: the checkpoint's metadata, else 800.
        max_size: its longer side at most; default: the checkpoint's metadata, else 1333.
        score_threshold: detections below are dropped; torchvision's 0.05 by default.
        proposals: regions the RPN passes on; torchvision's 1000 by default.
        max_detections: per image; torchvision's 100 by default.
        threads: CPU threads of one inference; 0 leaves torch's default.
        device: ``auto`` (a CUDA GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``.
    """

    model: str = "maskrcnn_resnet50_fpn"
    weights: str = "starter"
    profile: Profile = "fast"
    min_size: int | None = None
    max_size: int | None = None
    score_threshold: float | None = None
    proposals: int | None = None
    max_detections: int | None = None
    threads: int = 0
    device: str = "auto"
