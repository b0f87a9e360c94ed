"""The configuration of a model: network, weights, numerics; free of torch, so that settings are cheap to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Profile = Literal["fast", "exact", "bf16"]

MODELS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn")
"""torchvision builders whose networks can be split."""

DETECTORS = (
    *("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
    *("ssd300_vgg16", "ssdlite320_mobilenet_v3_large", "keypointrcnn_resnet50_fpn"),
)
"""Other builders of torchvision, which are split behind their backbones alone and give boxes alone."""


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
        split: where the network is cut, by the model's own name of the place; None for its default.
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
    split: str | None = None

    @property
    def name(self) -> str:
        """What frames and runs call the network: split at another place or in other arithmetic, it is another one.

        Example:
            >>> ModelConfig(split="c2", profile="bf16").name
            'maskrcnn_resnet50_fpn@c2+bf16'
        """
        split = f"@{self.split}" if self.split else ""
        return self.model + split + ("+bf16" if self.profile == "bf16" else "")


class NameParts(NamedTuple):
    """What :attr:`ModelConfig.name` is made of; empty where it is the default."""

    model: str
    split: str
    arithmetic: str


def name_parts(name: str) -> NameParts:
    """Take a network's name apart.

    Example:
        >>> name_parts("maskrcnn_resnet50_fpn@c2+bf16")
        NameParts(model='maskrcnn_resnet50_fpn', split='c2', arithmetic='bf16')
    """
    rest, _, arithmetic = name.partition("+")
    model, _, split = rest.partition("@")
    return NameParts(model, split, arithmetic)


EXPORTED = "onnx-"
"""How the arithmetic of an exported edge begins, e.g. ``onnx-int8``."""


def goes_with(sent: str, network: str) -> bool:
    """Whether features that name one network may be given to another of the same weights.

    An exported edge says its runtime and precision behind ``+``; what it computes differs a little, or more, and a
    receiver takes it all the same, which is what one measures with it.

    Args:
        sent: the network's name in a frame.
        network: the receiver's.

    Example:
        >>> goes_with("maskrcnn_resnet50_fpn+onnx-int8", "maskrcnn_resnet50_fpn")
        True
        >>> goes_with("maskrcnn_resnet50_fpn+bf16", "maskrcnn_resnet50_fpn")
        False
    """
    theirs, ours = name_parts(sent), name_parts(network)
    return sent == network or (theirs.arithmetic.startswith(EXPORTED) and theirs[:2] == ours[:2])
