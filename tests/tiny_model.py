"""A split model for every test that is not about the real network: built in a blink, and 32 times narrower.

It runs the real code: torchvision's Mask R-CNN with a backbone of five convolutions and an FPN of 8 channels, in
:class:`featlink.shared.models.torchvision_rcnn.TorchvisionRCNN`. Its weights are random but the same everywhere; it
detects a few objects with masks in any picture. What takes a model's name takes :data:`TINY`::

    fl.load(model=TINY)          fl.sweep(..., model=TINY)        ["bench", "--model", TINY, ...]
    deploy(model=TINY)           ModelConfig(model=TINY)          FEATLINK_MODEL=TINY

``min_size`` and ``max_size`` are 64 and 96 unless they are given. Profiles are all alike; it can be cut where the real
network can. ``weights`` may be a file of :func:`other_weights`, for tests in which two services or sweeps differ.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
import xxhash
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import get_model_weights
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from featlink.shared.features import FeatureSpec
from featlink.shared.fpn import PYRAMID, SPLITS, checked_split
from featlink.shared.models.backbone import Back, Front
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import StatelessRoIPooler, TorchvisionRCNN

TINY = f"{__file__}:build"
CHANNELS = 8
CLASSES = 91
SPECS = {
    split: FeatureSpec(tuple(replace(tensor, channels=CHANNELS) for tensor in spec.tensors), spec.divisor)
    for split, spec in SPLITS.items()
}
SPEC = SPECS[PYRAMID]


def build(config: ModelConfig, heads: bool = True) -> TorchvisionRCNN:
    """Build it; of ``config``, weights, sizes, thresholds and counts are heeded."""
    network, identity = _seeded(config, 7), "00000000000071e5"
    if config.weights != "starter":
        network.load_state_dict(load_file(config.weights))
        identity = xxhash.xxh64_hexdigest(Path(config.weights).read_bytes())
    if not heads:
        network.rpn = network.roi_heads = None
    categories = get_model_weights("maskrcnn_resnet50_fpn")["COCO_V1"].meta["categories"]
    split = checked_split(config.split)
    back = None if split == PYRAMID else Back(network.backbone, split)
    return TorchvisionRCNN(
        network,
        config.but(model="tiny", profile="exact", split=back and split).name,
        identity,
        "exact",
        categories,
        torch.device("cpu"),
        split=split,
        spec=SPECS[split],
        front=Front(network.backbone, split),
        back=back,
    )


def other_weights(path: Path) -> str:
    """Save weights of another seed; the path."""
    save_file(_seeded(ModelConfig(), 8).state_dict(), path)
    return str(path)


def _seeded(config: ModelConfig, seed: int) -> MaskRCNN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _network(config).eval()


def _network(config: ModelConfig) -> MaskRCNN:
    strides = {"stem": 4, "0": 1, "1": 2, "2": 2, "3": 2}
    widths = [3] + [CHANNELS] * len(strides)
    body = nn.Sequential(
        OrderedDict(
            (name, nn.Sequential(nn.Conv2d(before, after, 4 if stride > 1 else 3, stride, 1), nn.ReLU()))
            for (name, stride), before, after in zip(strides.items(), widths[:-1], widths[1:], strict=True)
        )
    )
    levels = {name: name for name in strides if name != "stem"}
    hidden = 16
    predictor = FastRCNNPredictor(hidden, CLASSES)
    with torch.no_grad():
        predictor.cls_score.weight.mul_(60)  # so that some are sure
    network = MaskRCNN(
        BackboneWithFPN(body, levels, [CHANNELS] * len(levels), CHANNELS),
        min_size=config.min_size or 64,
        max_size=config.max_size or 96,
        box_head=TwoMLPHead(CHANNELS * 7 * 7, hidden),
        box_predictor=predictor,
        mask_head=MaskRCNNHeads(CHANNELS, (CHANNELS,), 1),
        mask_predictor=MaskRCNNPredictor(CHANNELS, CHANNELS, CLASSES),
        box_score_thresh=0.05 if config.score_threshold is None else config.score_threshold,
        rpn_post_nms_top_n_test=config.proposals or 50,
        box_detections_per_img=config.max_detections or 10,
    )
    pooled = network.roi_heads
    pooled.box_roi_pool = StatelessRoIPooler(pooled.box_roi_pool)
    pooled.mask_roi_pool = StatelessRoIPooler(pooled.mask_roi_pool)
    return network
