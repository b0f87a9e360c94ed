"""detectron2's R50-FPN Faster and Mask R-CNN, from its checkpoints, with its numerics rather than torchvision's.

Layers are torchvision's, in other places and with other names. What differs: BGR input in 0..255, resized by Pillow;
where stages halve the size; anchors; proposals are ranked by logits; RoIAlign is aligned and samples every pixel; the
background is the last class; masks are sampled at pixel centres. detectron2 itself is not needed.

Source: the documentation and configuration of detectron2's ``mask_rcnn_R_50_FPN_3x``; He et al., Mask R-CNN (2017).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample
from torchvision.models import get_model, get_model_weights
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from featlink.shared.errors import ImageError, ModelError
from featlink.shared.features import Image, Sizes
from featlink.shared.models.checkpoints import Checkpoint, misfit, read_checkpoint
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detections import Detections, MaskPart, Runs
from featlink.shared.models.masks import HeadMasks
from featlink.shared.models.rle import THRESHOLD, runs_of_part
from featlink.shared.models.torchvision_rcnn import (
    TorchvisionRCNN,
    freeze_batch_norm,
    network_options,
    prepared,
    resolved,
)

_MEAN = (103.53, 116.28, 123.675)
"""Of B, G and R in 0..255; detectron2's ``MODEL.PIXEL_MEAN``. Its ``PIXEL_STD`` is 1."""
_STRIDES = (4, 8, 16, 32, 64)
_SIDES = (32, 64, 128, 256, 512)
_RATIOS = (0.5, 1.0, 2.0)
_BEFORE_NMS = 1000
"""Proposals of a level."""
_LARGEST = math.log(1000 / 16)
"""Of a box's growth, as a logarithm."""
_BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
_LEVELS = ("0", "1", "2", "3")
"""That regions are pooled from."""
_COCO_CLASSES = 80

_NAMES = (
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.", "backbone.body.bn1."),
    (r"backbone\.bottom_up\.stem\.", "backbone.body."),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.norm\.", r"backbone.body.layer\1-.\2.downsample.1."),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.shortcut\.", r"backbone.body.layer\1-.\2.downsample.0."),
    (r"backbone\.bottom_up\.res(\d)\.(\d+)\.conv(\d)\.norm\.", r"backbone.body.layer\1-.\2.bn\3."),
    (r"backbone\.bottom_up\.res(\d)\.", r"backbone.body.layer\1-."),
    (r"backbone\.fpn_lateral(\d)\.", r"backbone.fpn.inner_blocks.\1--.0."),
    (r"backbone\.fpn_output(\d)\.", r"backbone.fpn.layer_blocks.\1--.0."),
    (r"proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"roi_heads\.box_head\.fc1\.", "roi_heads.box_head.fc6."),
    (r"roi_heads\.box_head\.fc2\.", "roi_heads.box_head.fc7."),
    (r"roi_heads\.mask_head\.mask_fcn(\d)\.", r"roi_heads.mask_head.\1-.0."),
    (r"roi_heads\.mask_head\.deconv\.", "roi_heads.mask_predictor.conv5_mask."),
    (r"roi_heads\.mask_head\.predictor\.", "roi_heads.mask_predictor.mask_fcn_logits."),
)
"""detectron2's names to torchvision's, which count from one (-) or two (--) less."""
_IGNORED = re.compile(r"pixel_(mean|std)|proposal_generator\.anchor_generator\..*|.*\.num_batches_tracked")
"""What older releases wrote beside the weights: constants of the configuration."""


class Detectron2RCNN(TorchvisionRCNN):
    """See the module. Arguments are those of the base class.

    Args:
        ids: label of each of the network's classes, background first.
        stride_in_1x1: of its ResNet, as Caffe's were.
    """

    def __init__(self, *given: Any, ids: Sequence[int], stride_in_1x1: bool, **more: Any) -> None:
        super().__init__(*given, **more)
        self.ids, self.stride_in_1x1 = ids, stride_in_1x1

    def image_sizes(self, height: int, width: int) -> Sizes:
        """The sizes that the library's resize gives, the nearest whole numbers.

        Raises:
            ImageError: the picture is too narrow.
        """
        transform = self.network.transform
        longer = transform.max_size
        sides = self._scaled(height, width, min(transform.min_size), longer)
        resized = int(sides[0] + 0.5), int(sides[1] + 0.5)
        if not all(resized):
            raise ImageError(
                f"a picture of {width}×{height} pixels is too narrow: resized to {longer} pixels of length, "
                "less than one pixel of its width is left"
            )
        divisor = self.spec.divisor
        padded = -(-resized[0] // divisor) * divisor, -(-resized[1] // divisor) * divisor
        return Sizes((height, width), resized, padded)

    def _scaled(self, height: int, width: int, shorter: int, longer: int) -> tuple[float, float]:
        """A picture's sides, not rounded, scaled to a shorter one, or so that no side is longer than another."""
        scale = shorter / min(height, width)
        sides = (shorter, scale * width) if height < width else (scale * height, shorter)
        less = min(1, longer / max(sides))
        return sides[0] * less, sides[1] * less

    def _prepare(self, image: Image, sizes: Sizes) -> Tensor:
        height, width = sizes.resized
        picture = PIL.Image.fromarray(image)
        if picture.size != (width, height):
            picture = picture.resize((width, height), PIL.Image.Resampling.BILINEAR)
        return self._from_input(np.asarray(picture).transpose(2, 0, 1))

    def _from_input(self, pixels: npt.NDArray[Any]) -> Tensor:
        blue_first = torch.from_numpy(np.ascontiguousarray(pixels[::-1], np.float32)).to(self.gateway.device)
        tensor = blue_first - torch.tensor(_MEAN, device=blue_first.device)[:, None, None]
        transform = self.network.transform
        batch: Tensor = transform.batch_images([tensor], transform.size_divisible)
        return batch

    def _heads(self, features: dict[str, Tensor], sizes: Sizes) -> Detections:
        network, (height, width) = self.network, sizes.resized
        proposals = self._proposals(features, sizes.resized)
        regions = network.roi_heads.box_roi_pool(features, [proposals], [sizes.resized])
        logits, deltas = network.roi_heads.box_predictor(network.roi_heads.box_head(regions))
        boxes, scores, labels = self._classified(proposals, logits, deltas, sizes.resized)
        branch = self._mask_branch or (self._stock_masks if network.roi_heads.mask_roi_pool is not None else None)
        masks = None if branch is None else branch(features, boxes, labels, sizes.resized)
        scale = torch.tensor(
            [sizes.original[1] / width, sizes.original[0] / height] * 2, dtype=torch.float32, device=boxes.device
        )
        boxes = clip_boxes_to_image(boxes * scale, sizes.original)
        kept = _not_empty(boxes)
        boxes, scores, labels = boxes[kept].cpu(), scores[kept].cpu(), labels[kept].cpu()
        return Detections(
            boxes.numpy(),
            scores.numpy(),
            np.array(self.ids)[labels.numpy()],
            None if masks is None else SampledMasks(masks[kept].cpu(), boxes, sizes.original),
            self.categories,
        )

    def _ranks(self, logits: Tensor) -> Tensor:
        """What proposals are ranked by."""
        return logits

    def _proposals(self, features: dict[str, Tensor], resized: tuple[int, int]) -> Tensor:
        """Regions of the resized picture, the best first, (K, 4)."""
        settings = self.network.rpn
        boxes, logits, numbers = [], [], []
        for number, (found, deltas) in enumerate(zip(*settings.head(list(features.values())), strict=True)):
            height, width = found.shape[-2:]
            ranks = self._ranks(found.permute(0, 2, 3, 1).flatten())
            best, places = ranks.topk(min(_BEFORE_NMS, ranks.numel()))
            moves = deltas.reshape(1, -1, 4, height, width).permute(0, 3, 4, 1, 2).reshape(-1, 4)[places]
            anchors = _anchors(_SIDES[number], _STRIDES[number], height, width).to(found.device)[places]
            boxes.append(_moved(anchors, moves[:, None], (1.0,) * 4)[:, 0])
            logits.append(best)
            numbers.append(torch.full_like(best, number, dtype=torch.int64))
        every, rank, level = clip_boxes_to_image(torch.cat(boxes), resized), torch.cat(logits), torch.cat(numbers)
        kept = _not_empty(every)
        every, rank, level = every[kept], rank[kept], level[kept]
        kept = batched_nms(every, rank, level, settings.nms_thresh)[: settings.post_nms_top_n()]
        best_boxes: Tensor = every[kept]
        return best_boxes

    def _classified(
        self, proposals: Tensor, logits: Tensor, deltas: Tensor, resized: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes of the resized picture, scores, and labels of the network, from 1 on."""
        settings = self.network.roi_heads
        scores = logits.softmax(-1)[:, 1:]
        boxes = clip_boxes_to_image(_moved(proposals, deltas.reshape(len(deltas), -1, 4)[:, 1:], _BOX_WEIGHTS), resized)
        region, kind = (scores > settings.score_thresh).nonzero(as_tuple=True)
        found, sure = boxes[region, kind], scores[region, kind]
        kept = batched_nms(found, sure, kind, settings.nms_thresh)[: settings.detections_per_img]
        return found[kept], sure[kept], kind[kept] + 1

    def _stock_masks(
        self, features: dict[str, Tensor], boxes: Tensor, labels: Tensor, resized: tuple[int, int]
    ) -> Tensor:
        heads = self.network.roi_heads
        logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, [boxes], [resized])))
        chosen: Tensor = logits[torch.arange(len(labels), device=labels.device), labels][:, None].sigmoid()
        return chosen


class AlignedPool(nn.Module):
    """RoIAlign with pixel centres at halves, and as many samples as a bin has pixels.

    Args:
        side: of a pooled region.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.output_size = (side, side)

    def levels(self, sides: Tensor) -> Tensor:
        """Number of the level of boxes with these geometric means of their sides, in pixels."""
        return torch.floor(4 + torch.log2(sides / 224 + 1e-8)).clamp(2, 5) - 2

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool each box from its level, as torchvision's ``MultiScaleRoIAlign`` is called."""
        del image_shapes
        [rois] = boxes
        sides = ((rois[:, 2] - rois[:, 0]) * (rois[:, 3] - rois[:, 1])).sqrt()
        places = self.levels(sides).to(torch.int64)
        first = x[_LEVELS[0]]
        out = first.new_zeros(len(rois), first.shape[1], *self.output_size)
        for place, name in enumerate(_LEVELS):
            chosen = (places == place).nonzero()[:, 0]
            pooled = roi_align(x[name], [rois[chosen]], self.output_size, 1 / _STRIDES[place], 0, aligned=True)
            out[chosen] = pooled
        return out


class SampledMasks(HeadMasks):
    """Masks sampled at the centres of the image's pixels, as detectron2 pastes them."""

    def runs(self, index: int) -> Runs:
        """See :class:`PartialMasks`."""
        return runs_of_part(self.part(index))

    @torch.inference_mode()
    def part(self, index: int) -> MaskPart:
        """What the mask fills of the image."""
        height, width = self.size
        box = self._boxes[index]
        x1, y1, x2, y2 = box.tolist()
        left, top = max(math.floor(x1) - 1, 0), max(math.floor(y1) - 1, 0)
        right, bottom = min(math.ceil(x2) + 1, width), min(math.ceil(y2) + 1, height)
        x = (torch.arange(left, right) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (torch.arange(top, bottom) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
        values = grid_sample(self._masks[index][None], grid[None], align_corners=False)[0, 0].numpy()
        # An object begins at 0.5 in detectron2, above it elsewhere.
        values = np.where(values == THRESHOLD, np.nextafter(np.float32(THRESHOLD), np.float32(1)), values)
        return MaskPart(values, top, left, self.size)


@dataclass(frozen=True)
class Layout:
    """What a library calls the parts of an R-CNN, and how it configures it where a file does not say.

    Attributes:
        library: its name.
        where: a user gets its files.
        names: patterns of its names, to torchvision's.
        ignored: what its files hold beside weights.
        stride_in_1x1: of its default ResNet.
        pool: its RoIAlign, from the side of a pooled region.
        model: the network.
    """

    library: str
    where: str
    names: Sequence[tuple[str, str]]
    ignored: re.Pattern[str]
    stride_in_1x1: bool
    pool: Callable[[int], nn.Module]
    model: type[Detectron2RCNN]


LAYOUT = Layout(
    "detectron2", " (featlink fetch detectron2-r50-3x)", _NAMES, _IGNORED, True, AlignedPool, Detectron2RCNN
)


def build(config: ModelConfig, heads: bool = True) -> Detectron2RCNN:
    """Build a network from a checkpoint of detectron2: see :func:`build_from`."""
    return build_from(LAYOUT, config, heads)


def build_from(layout: Layout, config: ModelConfig, heads: bool) -> Detectron2RCNN:
    """Build a network from a library's checkpoint.

    Args:
        layout: the library's.
        config: ``weights`` is a ``.pkl`` or ``.pth`` of the library; it says how many classes there are, and if masks.
        heads: False drops everything behind the backbone, which the edge never runs.

    Raises:
        ModelError: there is no such file, split or device, or it does not hold such a network.
    """
    config, split, device = resolved(config)
    path = Path(config.weights).expanduser()
    if config.weights in ("starter", "coco") or not path.is_file():
        raise ModelError(
            f"no weights at {config.weights}: {config.model} takes a file of {layout.library}'s{layout.where}"
        )
    checkpoint = read_checkpoint(path)
    state = converted(checkpoint.state, layout)
    own = checkpoint.sidecar.stride_in_1x1
    stride_in_1x1 = layout.stride_in_1x1 if own is None else own
    network = _network(config, checkpoint, state, stride_in_1x1, layout.pool).eval()
    if not heads:
        network.rpn = network.roi_heads = None
    ids, categories = _labels(len(state["roi_heads.box_predictor.cls_score.weight"]), checkpoint)
    front, back, mask_branch = prepared(network, config, split, device)
    return layout.model(
        network,
        config.name,
        checkpoint.identity,
        config.profile,
        categories,
        device,
        mask_branch,
        split,
        front=front,
        back=back,
        ids=ids,
        stride_in_1x1=stride_in_1x1,
    )


def converted(state: Mapping[str, Tensor], layout: Layout = LAYOUT) -> dict[str, Tensor]:
    """A library's state dict in torchvision's names and order of classes.

    Raises:
        ModelError: it is not one of its R-CNNs.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if not layout.ignored.fullmatch(name):
            renamed[_renamed(name, layout.names)] = value
    scores = renamed.get(f"{_PREDICTOR}cls_score.weight")
    if scores is None or scores.ndim != 2 or len(scores) < 2 or "backbone.body.conv1.weight" not in renamed:
        first = next(iter(state), "nothing")
        raise ModelError(
            f"the weights are not those of an R-CNN of {layout.library} with an FPN, but {first} and others"
        )
    for kind in ("weight", "bias"):  # the background from the last row to the first, or a row of zeros for it
        for layer, rows in (("box_predictor.cls_score", 0), ("box_predictor.bbox_pred", 4), (_MASKS, 1)):
            name = f"roi_heads.{layer}.{kind}"
            if name in renamed:
                value = renamed[name]
                background = value.new_zeros((rows, *value.shape[1:])) if rows else value[-1:]
                renamed[name] = torch.cat([background, value if rows else value[:-1]])
    return renamed


_PREDICTOR = "roi_heads.box_predictor."
_MASKS = "mask_predictor.mask_fcn_logits"


def _renamed(name: str, names: Sequence[tuple[str, str]]) -> str:
    for pattern, new in names:
        if match := re.match(pattern, name):
            found = match.expand(new) + name[match.end() :]
            return re.sub(r"(\d)(-+)\.", lambda digit: f"{int(digit[1]) - len(digit[2])}.", found)
    return name


def _network(
    config: ModelConfig,
    checkpoint: Checkpoint,
    state: Mapping[str, Tensor],
    stride_in_1x1: bool,
    pool: Callable[[int], nn.Module],
) -> Any:
    has_masks = f"roi_heads.{_MASKS}.weight" in state
    network = get_model(
        "maskrcnn_resnet50_fpn" if has_masks else "fasterrcnn_resnet50_fpn",
        weights=None,
        weights_backbone=None,
        num_classes=len(state[f"{_PREDICTOR}cls_score.weight"]),
        **network_options(config, checkpoint),
    )
    freeze_batch_norm(network.backbone, 1e-5)
    if stride_in_1x1:
        for stage in (network.backbone.body.layer2, network.backbone.body.layer3, network.backbone.body.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    if reason := misfit(state, network.state_dict()):
        raise ModelError(f"the weights do not fit {config.model}: {reason}")
    network.load_state_dict(dict(state))
    network.roi_heads.box_roi_pool = pool(7)
    network.roi_heads.mask_roi_pool = pool(14) if has_masks else None
    return network


def _labels(count: int, checkpoint: Checkpoint) -> tuple[list[int], list[str]]:
    """Label of each class, background first, and the labels' names: of COCO's 80 classes, its category ids."""
    if (own := checkpoint.sidecar.categories) is not None:
        if len(own) != count:
            raise ModelError(f"the weights have {count} labels, the file beside them names {len(own)}")
        return list(range(count)), list(own)
    if count != _COCO_CLASSES + 1:
        return list(range(count)), [str(label) for label in range(count)]
    names: list[str] = get_model_weights("maskrcnn_resnet50_fpn")["COCO_V1"].meta["categories"]
    return [0, *(label for label, name in enumerate(names) if label and name != "N/A")], names


def _anchors(side: int, stride: int, height: int, width: int) -> Tensor:
    """Boxes around the corners of a level's cells, (height · width · ratios, 4), not rounded."""
    shapes = []
    for ratio in _RATIOS:
        w = math.sqrt(side**2 / ratio)
        h = ratio * w
        shapes.append((-w / 2, -h / 2, w / 2, h / 2))
    y, x = (torch.arange(0, count * stride, stride, dtype=torch.float32) for count in (height, width))
    corners = torch.stack([x.repeat(height), y.repeat_interleave(width)] * 2, dim=1)
    return (corners[:, None] + torch.tensor(shapes)).reshape(-1, 4)


def _moved(boxes: Tensor, deltas: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes (K, 4) by deltas (K, N, 4) of centre and size."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x, y = boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height
    dx, dy, dw, dh = (deltas[..., i] / weights[i] for i in range(4))
    centre_x, centre_y = dx * width[:, None] + x[:, None], dy * height[:, None] + y[:, None]
    half_w = 0.5 * dw.clamp(max=_LARGEST).exp() * width[:, None]
    half_h = 0.5 * dh.clamp(max=_LARGEST).exp() * height[:, None]
    return torch.stack([centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h], dim=-1)


def _not_empty(boxes: Tensor) -> Tensor:
    found: Tensor = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return found
