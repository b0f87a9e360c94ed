"""The configuration of a model: network, weights, numerics; free of torch, so that settings are cheap to import."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

Profile = Literal["fast", "exact", "bf16"]

MODELS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2", "fasterrcnn_resnet50_fpn")
"""torchvision builders whose networks can be split."""

DETECTORS = (
    *("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
    *("ssd300_vgg16", "ssdlite320_mobilenet_v3_large", "keypointrcnn_resnet50_fpn"),
)
"""Other builders of torchvision, which are split behind their backbones alone and give boxes, or keypoints, too."""


class ModelConfig(BaseModel, frozen=True, extra="forbid"):
    """Which network, how: what services, command line and Python API have in common, with each value's bounds."""

    model: str = Field(MODELS[0], description=f"{', '.join(MODELS)}, one of another package, or FILE.py:FUNCTION")
    weights: str = Field("starter", description="'starter' (bundled), 'coco' (official, downloaded once), or a path")
    profile: Profile = Field(
        "fast", description="numerics: 'fast', 'exact': bit-identical to torchvision, or 'bf16': rounded to bfloat16"
    )
    min_size: int | None = Field(
        None, ge=32, le=4096, description="shorter side of the network input, pixels; default: the weights' own, or 800"
    )
    max_size: int | None = Field(
        None, ge=32, le=4096, description="its longer side at most, pixels; default: the weights' own, or 1333"
    )
    score_threshold: float | None = Field(None, ge=0, le=1, description="lowest score that is reported; default 0.05")
    proposals: int | None = Field(None, ge=1, le=4000, description="regions the RPN passes on; default 1000")
    max_detections: int | None = Field(None, ge=1, le=1000, description="detections per image; default 100")
    threads: int = Field(0, ge=0, description="CPU threads of one inference; 0 takes all")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$",
        description="where the network runs: 'cpu', 'cuda', 'cuda:1', or 'auto': a GPU where there is one",
    )
    split: str | None = Field(
        None,
        description="where the network is cut: stem, c2, c2-c5, p2-p6 (the default), or a model's own place",
    )

    def but(self, **changes: Any) -> ModelConfig:
        """The same with other values of some fields."""
        return ModelConfig(**{**{name: getattr(self, name) for name in ModelConfig.model_fields}, **changes})

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
