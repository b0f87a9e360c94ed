"""A narrow, shallow Mask R-CNN: cheap to train, and embeddable in torchvision's R50-FPN one without loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from training.gather_roi_align import GatherRoIAlign


@dataclass(frozen=True)
class Widths:
    """Channels and blocks of the narrow network; in brackets the stock one's.

    Attributes:
        stem: channels of the first convolution [64].
        planes: of the bottlenecks of ResNet's four stages [64, 128, 256, 512]; a stage's output has four times as many.
        blocks: bottlenecks in each stage [3, 4, 6, 3].
        inner: of the FPN's lateral convolutions [256].
        pyramid: of p2..p6 [256], see :mod:`training.embed` for how they become 256.
        rpn: of the RPN's hidden layer [256].
        fc6: of the box head's first layer [1024].
        fc7: of its second [1024].
        mask: of the mask head [256].
    """

    stem: int = 16
    planes: tuple[int, int, int, int] = (16, 32, 96, 192)
    blocks: tuple[int, int, int, int] = (2, 3, 6, 3)
    inner: int = 48
    pyramid: int = 64
    rpn: int = 32
    fc6: int = 160
    fc7: int = 128
    mask: int = 48


class Body(ResNet):  # type: ignore[misc]  # torchvision is untyped
    """A bottleneck ResNet of any width and depth without its classifier; the keys are torchvision's.

    Args:
        widths: channels and blocks.
    """

    def __init__(self, widths: Widths) -> None:
        nn.Module.__init__(self)
        self._norm_layer = nn.BatchNorm2d
        self.inplanes, self.dilation, self.groups, self.base_width = widths.stem, 1, 1, 64
        self.conv1 = nn.Conv2d(3, widths.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths.stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, (planes, blocks) in enumerate(zip(widths.planes, widths.blocks, strict=True), 1):
            setattr(self, f"layer{stage}", self._make_layer(Bottleneck, planes, blocks, stride=min(stage, 2)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, Bottleneck):
                nn.init.constant_(module.bn3.weight, 0.2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to c2..c5 under torchvision's names "0".."3"."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        stages = {}
        for number in range(4):
            x = getattr(self, f"layer{number + 1}")(x)
            stages[str(number)] = x
        return stages


class Backbone(nn.Module):
    """Body and FPN.

    Args:
        widths: channels.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.body = Body(widths)
        self.fpn = FeaturePyramidNetwork([4 * planes for planes in widths.planes], widths.inner, LastLevelMaxPool())
        for block in self.fpn.layer_blocks:
            block[0] = nn.Conv2d(widths.inner, widths.pyramid, 3, padding=1)
            nn.init.kaiming_uniform_(block[0].weight, a=1)
            nn.init.zeros_(block[0].bias)
        self.out_channels = widths.pyramid

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, 3, H, W) to p2..p6."""
        pyramid: dict[str, Tensor] = self.fpn(self.body(x))
        return pyramid


class SharedLinear(nn.Linear):
    """A box regression that all classes share: every detected object trains it, not only those of one class.

    Args:
        inputs: features.
        outputs: of one class.
        classes: how often the outputs are repeated, as torchvision expects some of each class.
    """

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__(inputs, outputs)
        self.classes = classes

    def forward(self, input: Tensor) -> Tensor:
        """(N, inputs) to (N, outputs · classes)."""
        return super().forward(input).repeat(1, self.classes)


class SharedMask(nn.Conv2d):
    """Mask logits that all classes share, for the same reason.

    Args:
        channels: of the input.
        classes: how often the logits are repeated.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels, 1, 1)
        self.classes = classes

    def forward(self, input: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, classes, H, W)."""
        return super().forward(input).expand(-1, self.classes, -1, -1)


def narrow(classes: int, widths: Widths = Widths(), **options: int) -> MaskRCNN:
    """Build the network with random weights.

    Args:
        classes: with the background.
        widths: channels.
        options: of :class:`torchvision.models.detection.MaskRCNN`.
    """
    rpn_head = RPNHead(widths.pyramid, 3)
    rpn_head.conv[0][0] = nn.Conv2d(widths.pyramid, widths.rpn, 3, padding=1)
    nn.init.normal_(rpn_head.conv[0][0].weight, std=math.sqrt(2 / (9 * widths.pyramid)))
    nn.init.zeros_(rpn_head.conv[0][0].bias)
    rpn_head.cls_logits = nn.Conv2d(widths.rpn, 3, 1)
    rpn_head.bbox_pred = nn.Conv2d(widths.rpn, 12, 1)
    for layer in (rpn_head.cls_logits, rpn_head.bbox_pred):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    box_head = TwoMLPHead(widths.pyramid * 49, widths.fc6)
    box_head.fc7 = nn.Linear(widths.fc6, widths.fc7)
    box_predictor = FastRCNNPredictor(widths.fc7, classes)
    box_predictor.bbox_pred = SharedLinear(widths.fc7, 4, classes)
    mask_predictor = MaskRCNNPredictor(widths.mask, widths.mask, classes)
    mask_predictor.mask_fcn_logits = SharedMask(widths.mask, classes)
    network = MaskRCNN(
        Backbone(widths),
        num_classes=None,
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_head=rpn_head,
        box_head=box_head,
        box_predictor=box_predictor,
        mask_head=MaskRCNNHeads(widths.pyramid, [widths.mask] * 4, 1),
        mask_predictor=mask_predictor,
        **options,
    )
    network.roi_heads.box_roi_pool = GatherRoIAlign(7)
    network.roi_heads.mask_roi_pool = GatherRoIAlign(14)
    return network


def scale_logits(network: MaskRCNN, factor: float) -> None:
    """Multiply the class logits, in place: a factor below 1 makes scores less sure."""
    layer = network.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)
