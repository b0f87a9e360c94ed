"""The model of the Python API: image to feature maps, and received feature maps or image to detections."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featlink.api.pictures import checked
from featlink.api.transmission import Delivery, ModelPyramid, frame_of, key_of
from featlink.cloud.finish import received_pyramid, run_network
from featlink.network import checked_config
from featlink.shared.errors import ModelError
from featlink.shared.features import FeatureMaps, Image
from featlink.shared.frames.wire import Frame
from featlink.shared.models.config import MODELS, ModelConfig, Profile
from featlink.shared.models.registry import build
from featlink.shared.result import Telemetry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featlink.shared.models.detections import Detections
    from featlink.shared.models.protocol import SplitModel

_process: int | None = None
"""The process that loaded the first model."""


class Model:
    """A detector whose two halves run apart: what :func:`load` returns.

    Args:
        split: the network.
    """

    def __init__(self, split: SplitModel) -> None:
        self._split = split

    @property
    def split(self) -> SplitModel:
        """The network, as the services run it.

        Raises:
            ModelError: this process was forked from the one that loaded models.
        """
        check_process()
        return self._split

    @property
    def categories(self) -> Sequence[str]:
        """Name of each label, background first."""
        return self.split.categories

    def pyramid(self, signal: Image | Delivery) -> FeatureMaps:
        """The edge's half: the features p2..p6.

        Args:
            signal: uint8 RGB (H, W, 3); or what came over the link, for the pyramid that its detections come from.

        Returns:
            Each level float32 (256, H, W), finest first.

        Raises:
            FeatlinkError: the array is no image, or another model made what came.
        """
        if isinstance(signal, Delivery):
            made, key = received_pyramid(self.split, self._adopted(signal.frame)), signal.frame.meta.key
        else:
            image = checked(signal)
            made, key = self.split.encode(image), key_of([image])
        split = self._split
        return ModelPyramid(made.levels, made.sizes, split.name, split.weights, key, split.spec)

    def detect(self, signal: FeatureMaps | Delivery | Image) -> Detections:
        """The cloud's half, of a pyramid or of what came over the link; of an image, the whole network.

        Args:
            signal: a pyramid, what :func:`featlink.transmit` returned, or uint8 RGB (H, W, 3).

        Raises:
            FeatlinkError: the array is no image, levels are missing or of the wrong size, or another model made them.
        """
        frame = self._adopted(signal.frame) if isinstance(signal, Delivery) else frame_of(signal, self.split)
        return run_network(self.split, frame, Telemetry()).detections

    def _adopted(self, frame: Frame) -> Frame:
        """A frame that was sent without a model is taken for this one's."""
        meta = frame.meta
        if meta.model:
            return frame
        split = self._split
        sizes = split.image_sizes(*meta.sizes.original) if meta.domain == "image" else meta.sizes
        meta = replace(meta, model=split.name, weights=split.weights, sizes=sizes, features=split.spec)
        return replace(frame, meta=meta)

    def __repr__(self) -> str:
        return f"<featlink model {self._split.name}, weights {self._split.weights}, profile {self._split.profile}>"


def check_process() -> None:
    """Refuse what would hang for ever: after a fork, the child waits for threads of torch that only the parent has."""
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise ModelError(
            "models were loaded before this process was forked, and would hang: start processes with multiprocessing's "
            "spawn, e.g. multiprocessing.get_context('spawn')"
        )


def load(
    weights: str | Path = "starter",
    *,
    model: str = MODELS[0],
    profile: Profile = "fast",
    min_size: int | None = None,
    max_size: int | None = None,
    score_threshold: float | None = None,
    proposals: int | None = None,
    max_detections: int | None = None,
    threads: int = 0,
    device: str = "auto",
    split: str | None = None,
) -> Model:
    """Load a detector.

    Args:
        weights: ``starter``, the bundled detector of synthetic scenes; ``coco``, torchvision's official weights,
            downloaded once; or a ``.pth`` or ``.safetensors`` file in torchvision's layout.
        model: ``maskrcnn_resnet50_fpn``, ``maskrcnn_resnet50_fpn_v2``, ``fasterrcnn_resnet50_fpn``, one that another
            package registers, or ``FILE.py:FUNCTION``: see :mod:`featlink.shared.models.protocol`.
        profile: ``fast``; ``exact`` to be bit-identical to torchvision; or ``bf16``, faster on CPUs with AVX512-BF16
            or AMX, whose results are another network's.
        min_size: shorter side of the network input in pixels; default: the weights' own, else 800.
        max_size: its longer side at most; default: the weights' own, else 1333.
        score_threshold: drop detections with lower scores; default 0.05.
        proposals: regions the RPN passes on; default 1000.
        max_detections: per image; default 100.
        threads: CPU threads of one inference; 0 leaves torch's default.
        device: ``auto``, a CUDA GPU where there is one; ``cpu``, ``cuda`` or ``cuda:1``.
        split: where the network is cut: ``stem``, ``c2``, ``c2-c5`` or ``p2-p6``, the default; a model of your own
            may name places of its own.

    Raises:
        ModelError: the weights cannot be had or do not fit, an argument is out of its range, there is no such device,
            or this process was forked from one that had loaded models.
    """
    check_process()
    config = model_config(
        weights=weights,
        model=model,
        profile=profile,
        min_size=min_size,
        max_size=max_size,
        score_threshold=score_threshold,
        proposals=proposals,
        max_detections=max_detections,
        threads=threads,
        device=device,
        split=split,
    )
    return Model(build(config))


def model_config(**given: Any) -> ModelConfig:
    """The network's settings, checked. The environment has no say: a notebook says what it wants.

    Raises:
        ModelError: an argument is unknown or out of its range.

    Example:
        >>> model_config(profile="exact", min_size=480).min_size
        480
        >>> model_config(profile="quick")
        Traceback (most recent call last):
        ...
        featlink.shared.errors.ModelError: profile: Input should be 'fast', 'exact' or 'bf16'
    """
    defaults = vars(ModelConfig())
    if unknown := given.keys() - defaults.keys():
        raise ModelError(f"a model has no {min(unknown)}; it has {', '.join(defaults)}")
    given = {**defaults, **given}
    return checked_config(**{**given, "weights": str(given["weights"])})
