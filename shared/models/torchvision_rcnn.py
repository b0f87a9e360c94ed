"""torchvision's detectors, split between edge and cloud.

``GeneralizedRCNN.forward`` is transform → backbone → rpn → roi_heads → postprocess. The edge calls
:meth:`TorchvisionRCNN.encode` (the first two), the cloud :meth:`TorchvisionRCNN.decode` (the rest). With an earlier
split point, a part of the backbone is the cloud's.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

from featlink.shared.errors import ImageError, ModelError
from featlink.shared.features import Array, FeatureMaps, FeatureSpec, Image, Sizes
from featlink.shared.fpn import PYRAMID, SPLITS, checked_split
from featlink.shared.metrics.fidelity import Compare, compare_pyramids
from featlink.shared.metrics.on_device import DeviceFidelity
from featlink.shared.models.backbone import Back, Front, MaskBranch, Parts, Taps, readers
from featlink.shared.models.checkpoints import Checkpoint, load_checkpoint, misfit, other_layout
from featlink.shared.models.config import ModelConfig, Profile
from featlink.shared.models.detections import Detections
from featlink.shared.models.device import Gateway, check_surroundings, resolve
from featlink.shared.models.fast.layout import channels_first, channels_last
from featlink.shared.models.interpolation import normalized_and_resized
from featlink.shared.models.masks import PastedMasks
from featlink.shared.models.protocol import SplitModel

_CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"
_KEYS = ("0", "1", "2", "3", "pool")
"""torchvision's names of p2..p6."""
_ROUNDING = 1e-5
"""Relative error of the scale, which torchvision computes in single precision."""
_SHRINK = 10
"""Of the largest input: a picture that is enlarged to it costs little to make."""


class TorchvisionRCNN(SplitModel):
    """A torchvision detector whose two halves can run apart.

    Args:
        network: in eval mode.
        name: as :attr:`featlink.shared.models.config.ModelConfig.name` has it.
        weights: identity of its weights.
        profile: the numerics it was prepared for.
        categories: name of each label, background first.
        device: where the network is. On a GPU, several threads may use the model at a time.
        mask_branch: makes masks in the place of the network's own, which it then has not.
        split: one of :data:`featlink.shared.fpn.SPLITS`.
        spec: of what crosses the link; default: the split's.
        front: from the padded network input to that; default: the network's whole backbone.
        back: from that to the levels; None where it is the levels.
    """

    def __init__(
        self,
        network: GeneralizedRCNN,
        name: str,
        weights: str,
        profile: Profile,
        categories: Sequence[str],
        device: torch.device,
        mask_branch: MaskBranch | None = None,
        split: str = PYRAMID,
        spec: FeatureSpec | None = None,
        front: Callable[[Tensor], Sequence[Tensor]] | None = None,
        back: Callable[..., dict[str, Tensor]] | None = None,
    ) -> None:
        self.network = network
        self._front = front or Front(network.backbone, PYRAMID)
        self.back = back or (lambda *levels: OrderedDict(zip(_KEYS, levels, strict=True)))
        self.name = name
        self.weights = weights
        self.profile = profile
        self.categories = categories
        self.split = split
        self.spec = spec or SPLITS[split]
        self.device = str(device)
        self.gateway = Gateway(device)
        self._mask_branch = mask_branch

    @property
    def _reordered(self) -> bool:
        """Whether modules of our own do the work."""
        return self.profile != "exact" and self.device == "cpu"

    @torch.inference_mode()
    def encode(self, image: Image) -> FeatureMaps:
        """See :class:`SplitModel`."""
        sizes = self.image_sizes(*image.shape[:2])
        with self.gateway.entered():
            return FeatureMaps(self._levels(self._prepare(image, sizes)), sizes)

    @torch.inference_mode()
    def decode(self, features: FeatureMaps) -> Detections:
        """See :class:`SplitModel`."""
        with self.gateway.entered():
            tensors = [self.gateway.bring(features.levels[name])[None] for name in self.spec.names]
            return self._heads(self.back(*tensors), features.sizes)

    @torch.inference_mode()
    def detect_image(self, image: Image) -> Detections:
        """The whole network on an image: equal to :meth:`decode` of its :meth:`encode`.

        Args:
            image: uint8 RGB (H, W, 3).
        """
        sizes = self.image_sizes(*image.shape[:2])
        with self.gateway.entered():
            return self._heads(self.back(*self._front(self._prepare(image, sizes))), sizes)

    @torch.inference_mode()
    def encode_input(self, pixels: Array, sizes: Sizes) -> FeatureMaps:
        """See :class:`SplitModel`."""
        with self.gateway.entered():
            return FeatureMaps(self._levels(self._from_input(pixels)), sizes)

    @torch.inference_mode()
    def image_sizes(self, height: int, width: int) -> Sizes:
        """The sizes torchvision's transform gives an image of (height, width) pixels.

        Raises:
            ImageError: it is too narrow.
        """
        return self._transformed(torch.empty(3, height, width, device="meta"))[1]  # shapes alone: no memory, no time

    def comparison(self) -> Compare:
        """See :class:`SplitModel`."""
        return compare_pyramids if self.device == "cpu" else DeviceFidelity(self.gateway)

    def readers(self) -> dict[str, list[Taps]]:
        """See :class:`SplitModel`; of a network in the profile ``exact``, with its heads."""
        return readers(self.network, self.split)

    def warmup_size(self) -> tuple[int, int]:
        """See :class:`SplitModel`."""
        transform = self.network.transform
        sides = (min(transform.min_size), transform.max_size)
        height, width = (max(1, side // _SHRINK) for side in sides)
        return height, width

    @contextmanager
    def rehearsing(self) -> Iterator[None]:
        """See :class:`SplitModel`."""
        heads = self.network.roi_heads
        threshold, heads.score_thresh = heads.score_thresh, -1.0  # every region counts as an object
        try:
            yield
            # Masks of large pictures are coded in another way than those of a small one.
            PastedMasks(torch.ones(1, 1, 28, 28), torch.tensor([[0.0, 0, 200, 200]]), (200, 200)).runs(0)
        finally:
            heads.score_thresh = threshold

    def _prepare(self, image: Image, sizes: Sizes) -> Tensor:
        transform = self.network.transform
        if self.device == "cpu":
            tensor = normalized_and_resized(transform, image, sizes.resized)
        else:  # as torchvision would there, whose rounding is another; only to_tensor's division is the CPU's
            unit = torch.from_numpy(image).permute(2, 0, 1).contiguous().float().div(255)
            tensor = transform.resize(transform.normalize(unit.to(self.gateway.device)))[0]
        batch: Tensor = transform.batch_images([tensor], transform.size_divisible)
        return batch

    def _transformed(self, image: Tensor) -> tuple[Tensor, Sizes]:
        _, height, width = image.shape
        self._check_shape(height, width)
        images, _ = self.network.transform([image])
        padded_height, padded_width = images.tensors.shape[-2:]
        return images.tensors, Sizes((height, width), images.image_sizes[0], (padded_height, padded_width))

    def _check_shape(self, height: int, width: int) -> None:
        """Refuse a picture whose shorter side torchvision's transform would shrink to nothing."""
        transform = self.network.transform
        short, long = min(height, width), max(height, width)
        scale = min(min(transform.min_size) / short, transform.max_size / long)
        if short * scale < 1 + _ROUNDING:
            raise ImageError(
                f"a picture of {width}×{height} pixels is too narrow: "
                f"resized to {transform.max_size} pixels of length, less than one pixel of its width is left"
            )

    def _from_input(self, pixels: npt.NDArray[np.float32]) -> Tensor:
        transform = self.network.transform
        tensor = transform.normalize(torch.from_numpy(pixels).div(255).to(self.gateway.device))
        batch: Tensor = transform.batch_images([tensor], transform.size_divisible)
        return batch

    def _levels(self, batch: Tensor) -> dict[str, npt.NDArray[np.float32]]:
        tensors = self._front(batch)
        if self._reordered:
            tensors = [channels_first(x) for x in tensors]
        return {name: self.gateway.fetch(x[0]) for name, x in zip(self.spec.names, tensors, strict=True)}

    def _heads(self, features: dict[str, Tensor], sizes: Sizes) -> Detections:
        network = self.network
        if self._reordered:  # RPN and RoIAlign would each bring the levels into this layout
            features = {key: channels_last(x) for key, x in features.items()}
        # The RPN needs the padded input's shape only, so an empty expanded tensor stands in for it.
        images = ImageList(torch.empty(1, device=self.gateway.device).expand(1, 3, *sizes.padded), [sizes.resized])
        proposals, _ = network.rpn(images, features)
        results, _ = network.roi_heads(features, proposals, [sizes.resized])
        [result] = results
        boxes = resize_boxes(result["boxes"], sizes.resized, sizes.original)
        masks = result.get("masks")
        if self._mask_branch is not None:
            masks = self._mask_branch(features, result["boxes"], result["labels"], sizes.resized)
        return Detections(
            boxes.cpu().numpy(),
            result["scores"].cpu().numpy(),
            result["labels"].cpu().numpy(),
            None if masks is None else PastedMasks(masks, boxes, sizes.original),
            self.categories,
        )


def build(config: ModelConfig, heads: bool = True) -> TorchvisionRCNN:
    """Build a network and load its weights.

    Args:
        config: which network.
        heads: False drops everything behind the backbone, which the edge never runs.

    Raises:
        ModelError: the weights cannot be had, or do not fit the architecture; or there is no such device, or
            the profile is not for it.
    """
    config, split, device = resolved(config)
    checkpoint = load_checkpoint(config.weights, config.model)
    network = _network(config, checkpoint).eval()
    if not heads:
        network.rpn = network.roi_heads = None
    else:
        roi_heads = network.roi_heads
        roi_heads.box_roi_pool = StatelessRoIPooler(roi_heads.box_roi_pool)
        roi_heads.mask_roi_pool = roi_heads.mask_roi_pool and StatelessRoIPooler(roi_heads.mask_roi_pool)
    front, back, mask_branch = prepared(network, config, split, device)
    categories = _categories(config.model, checkpoint)
    identity, profile = checkpoint.identity, config.profile
    return TorchvisionRCNN(
        network, config.name, identity, profile, categories, device, mask_branch, split, None, front, back
    )


def resolved(config: ModelConfig) -> tuple[ModelConfig, str, torch.device]:
    """A configuration whose split is None if it is the default; the split; the device. Sets torch's threads.

    Raises:
        ModelError: there is no such split or device, or the profile is not for it.
    """
    check_surroundings()
    device, split = resolve(config.device), checked_split(config.split)
    if config.profile == "bf16" and device.type != "cpu":
        raise ModelError(f"profile: bf16 is for the CPU, not for {device.type}; take 'fast', or device 'cpu'")
    if config.threads:
        torch.set_num_threads(config.threads)
    return config.but(split=None if split == PYRAMID else split), split, device


def prepared(network: GeneralizedRCNN, config: ModelConfig, split: str, device: torch.device) -> Parts:
    """Cut a network, and bring it to its device, or its expensive parts into the profile's arithmetic.

    Raises:
        ModelError: the CPU cannot run the profile.
    """
    if config.profile == "exact" or device.type != "cpu":
        # On a GPU torchvision's own modules in both profiles: their layout is the fastest there, too.
        network.to(device)
        back = None if split == PYRAMID else Back(network.backbone, split)
        return Parts(Front(network.backbone, split), back, None)
    from featlink.shared.models.fast.accelerate import Precision, accelerate  # OpenVINO only where it is used

    precision: Precision = "f32" if config.profile == "fast" else "bf16"
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            parts = accelerate(network, torch.get_num_threads(), precision, split)
            if not all(map(Tensor.numel, parts.front(torch.zeros(1, 3, 200, 300)))):
                raise RuntimeError("OpenVINO makes nothing of a picture")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"profile: this CPU cannot run {config.profile!r}; take 'exact' ({reason})") from None
    return parts


class StatelessRoIPooler(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's pooler, which keeps the scales of the first image it saw, but anew for each image.

    So an answer depends neither on the pictures before nor on those that other threads work on.

    Args:
        pool: to take the place of.
    """

    def __init__(self, pool: MultiScaleRoIAlign) -> None:
        names, scale, level = pool.featmap_names, pool.canonical_scale, pool.canonical_level
        super().__init__(names, pool.output_size, pool.sampling_ratio, canonical_scale=scale, canonical_level=level)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """See the base class."""
        fresh = copy.copy(self)
        fresh.scales = None
        pooled: Tensor = super(StatelessRoIPooler, fresh).forward(x, boxes, image_shapes)
        return pooled


def _categories(model: str, checkpoint: Checkpoint) -> list[str]:
    """COCO's names where the checkpoint has COCO's 91 labels, else their numbers."""
    names: list[str] = get_model_weights(model)["COCO_V1"].meta["categories"]
    count = len(checkpoint.state[_CLASSIFIER])
    if (own := checkpoint.sidecar.categories) is not None:
        if len(own) != count:
            raise ModelError(f"the weights have {count} labels, the file beside them names {len(own)}")
        return list(own)
    return names if count == len(names) else [str(label) for label in range(count)]


def network_options(config: ModelConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    """What torchvision's builders of R-CNNs take of our settings, and else of what lies beside the weights."""
    given = {
        "min_size": config.min_size or checkpoint.size("min_size"),
        "max_size": config.max_size or checkpoint.size("max_size"),
        "box_score_thresh": config.score_threshold,
        "rpn_post_nms_top_n_test": config.proposals,
        "box_detections_per_img": config.max_detections,
        "box_nms_thresh": checkpoint.sidecar.box_nms_thresh,
        "rpn_nms_thresh": checkpoint.sidecar.rpn_nms_thresh,
    }
    return {name: value for name, value in given.items() if value is not None}


def _network(config: ModelConfig, checkpoint: Checkpoint) -> GeneralizedRCNN:
    stated = checkpoint.metadata.get("architecture", config.model)
    if stated != config.model:
        raise ModelError(f"the weights are for {stated}, not {config.model}")
    classifier = checkpoint.state.get(_CLASSIFIER)
    if classifier is None or classifier.ndim != 2:
        first = next(iter(checkpoint.state), "nothing")
        why = other_layout(checkpoint.state) or f"no roi_heads.box_predictor, but {first} and others"
        raise ModelError(f"the weights are not those of a torchvision R-CNN: {why}")
    side = checkpoint.sidecar
    normalisation = {"image_mean": side.image_mean, "image_std": side.image_std}
    network: GeneralizedRCNN = get_model(
        config.model,
        weights=None,
        weights_backbone=None,
        num_classes=len(classifier),
        **{name: value for name, value in normalisation.items() if value is not None},
        **network_options(config, checkpoint),
    )
    if side.anchor_sizes is not None:
        _set_anchors(network, side.anchor_sizes, side.aspect_ratios)
    if not any(name.endswith("num_batches_tracked") for name in checkpoint.state):
        # torchvision freezes batch norm in its pretrained v1 models, and evaluates its own COCO files with eps 0.
        freeze_batch_norm(network.backbone, 0.0 if checkpoint.official else 1e-5)
    wanted = network.state_dict()
    if reason := misfit(checkpoint.state, wanted):
        raise ModelError(f"the weights do not fit {config.model}: {reason}")
    network.load_state_dict(checkpoint.state)
    return network


def _set_anchors(network: GeneralizedRCNN, sizes: tuple[tuple[int, ...], ...], ratios: tuple[float, ...]) -> None:
    if len(sizes) != len(_KEYS) or len({len(level) for level in sizes}) > 1:
        raise ModelError(f"anchor_sizes: {len(_KEYS)} levels with as many sizes each, not {[*map(list, sizes)]}")
    network.rpn.anchor_generator = AnchorGenerator(sizes, (ratios,) * len(sizes))
    count = len(sizes[0]) * len(ratios)
    head = network.rpn.head
    if count != head.cls_logits.out_channels:
        network.rpn.head = RPNHead(network.backbone.out_channels, count, len(head.conv))


def freeze_batch_norm(module: nn.Module, eps: float) -> None:
    """Put layers of frozen statistics in the place of a module's batch norms."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps))
        else:
            freeze_batch_norm(child, eps)
