"""torchvision's other detectors (RetinaNet, FCOS, SSD, SSDlite, Keypoint R-CNN), split behind their backbones.

Each ``forward`` is transform → backbone → the rest → postprocess. In the cloud, torchvision's own ``forward`` runs, but
with a transform and a backbone that hand it what was received; so all behind the backbone is exactly torchvision's,
whatever the architecture. Both profiles, ``exact`` and ``fast``, are torchvision's own modules.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.image_list import ImageList

from featlink.shared.errors import ImageError, ModelError
from featlink.shared.features import Array, FeatureMaps, FeatureSpec, Image, Sizes, TensorSpec
from featlink.shared.metrics.fidelity import Compare, compare_pyramids
from featlink.shared.metrics.on_device import DeviceFidelity
from featlink.shared.models.backbone import Taps, first_taps
from featlink.shared.models.checkpoints import Checkpoint, load_checkpoint, misfit
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.device import Gateway, check_surroundings, resolve
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.torchvision_rcnn import StatelessRoIPooler, freeze_batch_norm

_UNFROZEN_EPS = ("fcos_resnet50_fpn",)
"""Whose official weights torchvision does not evaluate with eps 0."""
_PROBE = 512
"""Side of the input that strides are found with, of a network that takes any size."""


class _Received:
    """What crossed the link, in the place of the network input's batch.

    Attributes:
        features: by the backbone's names.
        shape: of the batch that they were made of.
    """

    def __init__(self, features: OrderedDict[str, Tensor], padded: tuple[int, int]) -> None:
        self.features = features
        self.shape = (1, 3, *padded)


class _Transform(nn.Module):
    """In the place of a detector's transform: passes what was received; postprocesses as torchvision."""

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.postprocess = transform.postprocess

    def forward(self, images: list[tuple[_Received, Sizes]], targets: None = None) -> tuple[ImageList, None]:
        [(received, sizes)] = images
        return ImageList(received, [sizes.resized]), targets


class _Backbone(nn.Module):
    """In the place of a detector's backbone."""

    def forward(self, received: _Received) -> OrderedDict[str, Tensor]:
        return received.features


class _Picture(tuple[_Received, Sizes]):
    """What ``forward`` is called with: it asks a picture for its shape alone."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, *self[1].original)


class TorchvisionDetector(SplitModel):
    """A detector of torchvision whose two halves can run apart.

    Args:
        network: in eval mode, on its device.
        name: of the architecture.
        checkpoint: its weights.
        profile: as it was asked for.
        device: where it is.
        heads: whether it is to decode, too.
    """

    def __init__(
        self, network: Any, name: str, checkpoint: Checkpoint, profile: str, device: torch.device, heads: bool
    ) -> None:
        self.name, self.weights, self.profile, self.device = name, checkpoint.identity, profile, str(device)
        self.categories = _categories(name, checkpoint)
        self.gateway = Gateway(device)
        self._transform, self._backbone = network.transform, network.backbone
        self.spec, self._keys = self._described()
        network.transform, network.backbone = _Transform(network.transform), _Backbone()
        self.network = network if heads else None

    @torch.inference_mode()
    def _described(self) -> tuple[FeatureSpec, list[str]]:
        """The spec, and the backbone's names: the strides are those that give the sizes it makes."""
        side = self._transform.fixed_size[0] if self._transform.fixed_size else _PROBE
        found = self._backbone(torch.zeros(1, 3, side, side, device=self.gateway.device))
        tensors: list[TensorSpec] = []
        for place, (key, level) in enumerate(found.items()):
            height = level.shape[-2]
            stride = next(one for one in range(1, side + 1) if -(-side // one) == height)
            power = 1 << (stride - 1).bit_length()
            stride = power if -(-side // power) == height else stride
            name = f"p{power.bit_length() - 1}" if not self._transform.fixed_size else f"f{place}"
            source = tensors[-1].name if key == "pool" else None  # every second position of the level before
            tensors.append(TensorSpec(name, level.shape[1], stride, source))
        divisor = 1 if self._transform.fixed_size else self._transform.size_divisible
        return FeatureSpec(tuple(tensors), divisor), list(found)

    @torch.inference_mode()
    def image_sizes(self, height: int, width: int) -> Sizes:
        """See :class:`SplitModel`."""
        try:
            images, _ = self._transform([torch.empty(3, height, width, device="meta")])
        except (RuntimeError, ZeroDivisionError):  # torchvision shrinks a side to nothing
            raise ImageError(f"a picture of {width}×{height} pixels is too narrow") from None
        return Sizes((height, width), images.image_sizes[0], tuple(images.tensors.shape[-2:]))

    @torch.inference_mode()
    def encode(self, image: Image) -> FeatureMaps:
        """See :class:`SplitModel`."""
        sizes = self.image_sizes(*image.shape[:2])
        with self.gateway.entered():
            unit = torch.from_numpy(np.array(image.transpose(2, 0, 1), np.float32)).div(255)  # as to_tensor
            images, _ = self._transform([unit.to(self.gateway.device)])
            return self._levels(images.tensors, sizes)

    @torch.inference_mode()
    def encode_input(self, pixels: Array, sizes: Sizes) -> FeatureMaps:
        """See :class:`SplitModel`."""
        with self.gateway.entered():
            tensor = self._transform.normalize(torch.from_numpy(pixels).div(255).to(self.gateway.device))
            return self._levels(self._transform.batch_images([tensor], self.spec.divisor), sizes)

    def _levels(self, batch: Tensor, sizes: Sizes) -> FeatureMaps:
        levels = self._backbone(batch).values()
        return FeatureMaps(
            {name: self.gateway.fetch(level[0]) for name, level in zip(self.spec.names, levels, strict=True)}, sizes
        )

    @torch.inference_mode()
    def decode(self, features: FeatureMaps) -> Detections:
        """See :class:`SplitModel`."""
        if self.network is None:
            raise ModelError(f"this {self.name} was built without its heads")
        with self.gateway.entered():
            levels = self.back(*(self.gateway.bring(features.levels[name])[None] for name in self.spec.names))
            [found] = self.network([_Picture((_Received(levels, features.sizes.padded), features.sizes))])
            boxes, scores, labels = (found[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
            points = found["keypoints"].cpu().numpy() if "keypoints" in found else None
        order = np.argsort(-scores, kind="stable")  # SSD and RetinaNet keep them by class or level
        points = None if points is None else points[order]
        return Detections(boxes[order], scores[order], labels[order], None, self.categories, points)

    def back(self, *levels: Tensor) -> OrderedDict[str, Tensor]:
        """The spec's tensors by the backbone's names."""
        return OrderedDict(zip(self._keys, levels, strict=True))

    def comparison(self) -> Compare:
        """See :class:`SplitModel`."""
        return compare_pyramids if self.device == "cpu" else DeviceFidelity(self.gateway)

    def readers(self) -> dict[str, list[Taps]]:
        """See :class:`SplitModel`."""
        if self._transform.fixed_size or self.network is None:  # SSD: six tensors of other channels each
            return {}
        if "rcnn" in self.name:
            heads = self.network.roi_heads
            layers = [first_taps(self.network.rpn.head), first_taps(heads.box_head, *heads.box_roi_pool.output_size)]
        else:
            layers = [first_taps(part) for part in self.network.head.children()]
        return dict.fromkeys(self.spec.required, layers)

    def warmup_size(self) -> tuple[int, int]:
        """See :class:`SplitModel`."""
        return 64, 96


def build(config: ModelConfig, heads: bool = True) -> TorchvisionDetector:
    """Build a detector of :data:`featlink.shared.models.config.DETECTORS` and load its weights.

    Args:
        config: which one.
        heads: False drops everything behind the backbone.

    Raises:
        ModelError: the weights cannot be had, or do not fit; there is no such device; or it is asked for what it
            cannot do.
    """
    check_surroundings()
    device = resolve(config.device)
    if config.profile == "bf16":
        raise ModelError(f"profile: {config.model} has no bf16; take 'fast' or 'exact'")
    if config.threads:
        torch.set_num_threads(config.threads)
    checkpoint = load_checkpoint(config.weights, config.model)
    side = checkpoint.sidecar
    given: dict[str, Any] = {
        "num_classes": None if side.categories is None else len(side.categories),
        "min_size": config.min_size or checkpoint.size("min_size"),
        "max_size": config.max_size or checkpoint.size("max_size"),
        "image_mean": side.image_mean,
        "image_std": side.image_std,
    }
    is_rcnn = "rcnn" in config.model
    given |= {
        "box_score_thresh" if is_rcnn else "score_thresh": config.score_threshold,
        "box_detections_per_img" if is_rcnn else "detections_per_img": config.max_detections,
        "box_nms_thresh" if is_rcnn else "nms_thresh": side.box_nms_thresh,
    }
    if is_rcnn:
        given["rpn_post_nms_top_n_test"] = config.proposals
    if "ssd" in config.model:  # its input is of a fixed size
        del given["min_size"], given["max_size"]
    options = {name: value for name, value in given.items() if value is not None}
    network: Any = get_model(config.model, weights=None, weights_backbone=None, **options).eval()
    if not any(name.endswith("num_batches_tracked") for name in checkpoint.state):
        is_exact_zero = checkpoint.official and config.model not in _UNFROZEN_EPS
        freeze_batch_norm(network.backbone, 0.0 if is_exact_zero else 1e-5)
    if reason := misfit(checkpoint.state, network.state_dict()):
        raise ModelError(f"the weights do not fit {config.model}: {reason}")
    network.load_state_dict(checkpoint.state)
    if is_rcnn:
        for pool in ("box_roi_pool", "keypoint_roi_pool"):
            setattr(network.roi_heads, pool, StatelessRoIPooler(getattr(network.roi_heads, pool)))
    return TorchvisionDetector(network.to(device), config.model, checkpoint, config.profile, device, heads)


def _categories(name: str, checkpoint: Checkpoint) -> list[str]:
    if checkpoint.sidecar.categories is not None:
        return list(checkpoint.sidecar.categories)
    names: list[str] = get_model_weights(name)["COCO_V1"].meta["categories"]
    return ["__background__", *names[1:]]
