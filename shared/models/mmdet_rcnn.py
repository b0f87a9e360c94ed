"""mmdetection's R50-FPN Faster and Mask R-CNN, from its checkpoints of 2.0 and later, with its numerics.

They are detectron2's but for what is here: names; RGB input with ImageNet's mean and deviation; OpenCV's resize;
proposals ranked by scores; the margin by which a region's level is chosen. Networks of Caffe's style, with the stride
in the 1×1 convolutions, take BGR without a deviation, as detectron2's do. mmdetection itself is not needed.

Source: the documentation and configuration of mmdetection's ``mask-rcnn_r50_fpn`` and ``mask-rcnn_r50-caffe_fpn``. No
output of mmdetection was at hand to compare with.
"""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featlink.shared.features import Image, Sizes
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.detectron2_rcnn import AlignedPool, Detectron2RCNN, Layout, build_from

_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of R, G and B in 0..255."""
_FINEST = 56
"""Pixels of a region's side, below twice which it is pooled from the finest level."""

_NAMES = (
    (r"backbone\.", "backbone.body."),
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn.layer_blocks.\1.0."),
    (r"rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
    (r"roi_head\.bbox_head\.shared_fcs\.0\.", "roi_heads.box_head.fc6."),
    (r"roi_head\.bbox_head\.shared_fcs\.1\.", "roi_heads.box_head.fc7."),
    (r"roi_head\.bbox_head\.fc_cls\.", "roi_heads.box_predictor.cls_score."),
    (r"roi_head\.bbox_head\.fc_reg\.", "roi_heads.box_predictor.bbox_pred."),
    (r"roi_head\.mask_head\.convs\.(\d)\.conv\.", r"roi_heads.mask_head.\1.0."),
    (r"roi_head\.mask_head\.upsample\.", "roi_heads.mask_predictor.conv5_mask."),
    (r"roi_head\.mask_head\.conv_logits\.", "roi_heads.mask_predictor.mask_fcn_logits."),
)
"""mmdetection's names to torchvision's. Of its classes, too, the background is the last."""
_IGNORED = re.compile(r"data_preprocessor\..*|.*\.num_batches_tracked")


class Pool(AlignedPool):
    """mmdetection's choice of a level."""

    def levels(self, sides: Tensor) -> Tensor:
        """See the base class."""
        return torch.floor(torch.log2(sides / _FINEST + 1e-6)).clamp(0, 3)


class MMDetRCNN(Detectron2RCNN):
    """See the module. Arguments are those of the base class."""

    def _scaled(self, height: int, width: int, shorter: int, longer: int) -> tuple[float, float]:
        scale = min(longer / max(height, width), shorter / min(height, width))
        return height * scale, width * scale

    def _prepare(self, image: Image, sizes: Sizes) -> Tensor:
        height, width = sizes.resized
        if image.shape[:2] != sizes.resized:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        return self._from_input(image.transpose(2, 0, 1))

    def _from_input(self, pixels: npt.NDArray[Any]) -> Tensor:
        if self.stride_in_1x1:
            return super()._from_input(pixels)
        tensor = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(self.gateway.device)
        mean, deviation = (torch.tensor(one, device=tensor.device)[:, None, None] for one in (_MEAN, _DEVIATION))
        transform = self.network.transform
        batch: Tensor = transform.batch_images([(tensor - mean) / deviation], transform.size_divisible)
        return batch

    def _ranks(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


LAYOUT = Layout("mmdetection", "", _NAMES, _IGNORED, False, Pool, MMDetRCNN)


def build(config: ModelConfig, heads: bool = True) -> Detectron2RCNN:
    """Build a network from a checkpoint of mmdetection: see :func:`build_from`."""
    return build_from(LAYOUT, config, heads)
