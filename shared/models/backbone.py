"""A ResNet with a feature pyramid, cut at one of :data:`featlink.shared.fpn.SPLITS`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from featlink.shared.fpn import PYRAMID, SPLITS

_STAGES = 4
"""Of a ResNet; what comes before them is its stem."""


MaskBranch = Callable[[dict[str, Tensor], Tensor, Tensor, tuple[int, int]], Tensor]
"""From features, boxes, labels and the resized size to masks (K, 1, M, M) in 0..1."""


class Parts(NamedTuple):
    """A network's parts as they run.

    Attributes:
        front: from the padded network input to what crosses the link.
        back: from that to the pyramid's levels; None where it is them, and of an edge's half.
        mask_branch: makes the masks in the place of the network's own; None where that stays or there is none.
    """

    front: Callable[[Tensor], Sequence[Tensor]]
    back: Callable[..., dict[str, Tensor]] | None
    mask_branch: MaskBranch | None


class Front(nn.Module):
    """The edge's part of a backbone: from the padded network input to what crosses the link.

    Args:
        backbone: torchvision's ``BackboneWithFPN``, whose modules are used, not copied.
        split: one of :data:`featlink.shared.fpn.SPLITS`.
    """

    def __init__(self, backbone: Any, split: str) -> None:
        super().__init__()
        self._backbone = backbone if split == PYRAMID else None
        front, stages = ([], []) if split == PYRAMID else _parts(backbone, split)
        self._stem, self._stages = nn.Sequential(*front), nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Float32 (1, 3, H, W) to the spec's tensors."""
        if self._backbone is not None:
            return tuple(self._backbone(x).values())
        x = self._stem(x)
        tensors = []
        for stage in self._stages:
            x = stage(x)
            tensors.append(x)
        return tuple(tensors) or (x,)


class Back(nn.Module):
    """The cloud's part of a backbone: from what crossed the link to the levels of the pyramid.

    Args:
        backbone: as for :class:`Front`.
        split: as for :class:`Front`, before the pyramid.
    """

    def __init__(self, backbone: Any, split: str) -> None:
        super().__init__()
        stages = _stages(backbone)
        self._names = [backbone.body.return_layers[name] for name, _ in stages]
        self._sent = len(_parts(backbone, split)[1])
        self._stages = nn.ModuleList(stage for _, stage in stages[self._sent :])
        self.fpn = backbone.fpn

    def forward(self, *tensors: Tensor) -> OrderedDict[str, Tensor]:
        """The spec's tensors to levels by torchvision's names."""
        x, levels = tensors[-1], list(tensors[: self._sent])
        for stage in self._stages:
            x = stage(x)
            levels.append(x)
        pyramid: OrderedDict[str, Tensor] = self.fpn(OrderedDict(zip(self._names, levels, strict=True)))
        return pyramid


def _parts(backbone: Any, split: str) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
    """The modules before the first stage, and the stages whose outputs cross the link."""
    count = sum(tensor.name.startswith("c") for tensor in SPLITS[split].tensors)
    return list(backbone.body.values())[:-_STAGES], [stage for _, stage in _stages(backbone)[:count]]


def _stages(backbone: Any) -> list[tuple[str, nn.Module]]:
    return list(backbone.body.items())[-_STAGES:]


# What reads a tensor that crosses the link.

Taps = npt.NDArray[np.float64]
"""Weights (O, C, h, w) of a layer."""


def readers(network: Any, split: str) -> dict[str, list[Taps]]:
    """The layers that read each tensor of a split, see :meth:`featlink.shared.models.protocol.SplitModel.readers`.

    Args:
        network: torchvision's R-CNN, with its heads.
        split: one of :data:`featlink.shared.fpn.SPLITS`.
    """
    if split == PYRAMID:
        heads, (height, width) = network.roi_heads, network.roi_heads.box_roi_pool.output_size
        parts = [(network.rpn.head, 1, 1), (heads.box_head, height, width), (heads.mask_head, 1, 1)]
        layers = [first_taps(*part) for part in parts if part[0] is not None]  # Faster R-CNN has no masks
        return dict.fromkeys(SPLITS[split].required, layers)
    backbone, names = network.backbone, SPLITS[split].names
    stages = [stage for _, stage in _stages(backbone)]
    sent = len(_parts(backbone, split)[1])
    found = {
        name: [first_taps(lateral)] for name, lateral in zip(names[:sent], backbone.fpn.inner_blocks, strict=False)
    }
    if sent < len(stages):  # the last tensor goes on through the next stage
        block = next(stages[sent].children(), stages[sent])
        parallel = [getattr(block, name) for name in ("conv1", "downsample") if hasattr(block, name)] or [stages[sent]]
        found[names[-1]] = [*found.get(names[-1], ()), *map(first_taps, parallel)]
    return found


def first_taps(module: nn.Module, height: int = 1, width: int = 1) -> Taps:
    """Weights of a module's first layer; of a matrix, over (height, width) positions."""
    layer = next(one for one in module.modules() if isinstance(one, nn.Conv2d | nn.Linear))
    weight: Taps = layer.weight.detach().cpu().double().numpy()
    return weight if weight.ndim == 4 else weight.reshape(len(weight), -1, height, width)
