"""Count multiply-adds of the network's halves and of reductions, a cost that is the same on every machine.

Of the dense architecture, as ``torch.utils.flop_counter`` counts its convolutions and matrix products; a fast profile
needs fewer, where Winograd's algorithm or zero channels save some. Two floating-point operations are one multiply-add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from featlink.channel.reduction.base import Reduction
from featlink.shared.conditions import registry
from featlink.shared.features import Image
from featlink.shared.fitted import key
from featlink.shared.fpn import FPN, PYRAMID, SPLITS, checked_split
from featlink.shared.models.config import MODELS, ModelConfig
from featlink.shared.models.registry import build
from featlink.sweeps.plan import PlannedRun

_SIDE = 256
"""Of the input that convolutions are counted on; they are proportional to its area."""
_PROPOSALS, _MIN_SIZE, _MAX_SIZE = 1000, 800, 1333
"""torchvision's."""


@dataclass(frozen=True)
class NetworkCost:
    """Multiply-adds.

    Attributes:
        front: of a pixel of the padded network input, in the edge's part of the backbone.
        back: of the same, in the cloud's part.
        rpn: of the same.
        proposal: of the box head, for each.
        detection: of the mask head, for each; 0 for a box-only model.
    """

    front: float
    back: float
    rpn: float
    proposal: float
    detection: float


@cache
def network_cost(model: str, split: str = PYRAMID) -> NetworkCost:
    """Count an architecture's multiply-adds, without weights and without computing.

    Args:
        model: a name of :data:`featlink.shared.models.config.MODELS`.
        split: one of :data:`featlink.shared.fpn.SPLITS`.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from torchvision.models import get_model

    from featlink.shared.models.backbone import Front

    with torch.device("meta"), torch.inference_mode():
        network: Any = get_model(model, weights=None, weights_backbone=None).eval()

        def count(*jobs: Any) -> float:
            with FlopCounterMode(display=False) as counter:
                for job in jobs:
                    job()
            return float(counter.get_total_flops()) / 2

        picture = torch.empty(1, 3, _SIDE, _SIDE)
        whole = count(lambda: network.backbone(picture)) / _SIDE**2
        front = count(lambda: Front(network.backbone, split)(picture)) / _SIDE**2
        features = list(network.backbone(picture).values())
        heads, channels = network.roi_heads, network.backbone.out_channels
        regions = torch.empty(1, channels, 7, 7)
        detection = 0.0
        if heads.mask_head is not None:
            masks = torch.empty(1, channels, 14, 14)
            detection = count(lambda: heads.mask_predictor(heads.mask_head(masks)))
        return NetworkCost(
            front,
            whole - front,
            count(lambda: network.rpn.head(features)) / _SIDE**2,
            count(lambda: heads.box_predictor(heads.box_head(regions))),
            detection,
        )


def padded_sizes(config: ModelConfig, sizes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The network inputs' heights and widths.

    Args:
        config: the network; sizes it does not name are those that its weights name.
        sizes: heights and widths of the pictures.

    Raises:
        ModelError: the weights cannot be had.
    """
    if config.model not in MODELS:
        return []
    shorter, longer = config.min_size, config.max_size
    if shorter is None or longer is None:
        from featlink.shared.models.checkpoints import load_checkpoint

        checkpoint = load_checkpoint(config.weights, config.model)
        shorter = shorter or checkpoint.size("min_size") or _MIN_SIZE
        longer = longer or checkpoint.size("max_size") or _MAX_SIZE
    padded = []
    for height, width in sizes:
        scale = min(shorter / min(height, width), longer / max(height, width))
        padded.append((_padded(height * scale), _padded(width * scale)))
    return padded


def multiply_adds(
    config: ModelConfig, padded: list[tuple[int, int]], detections: float, runs: Iterable[PlannedRun], weights: str
) -> dict[str, Any]:
    """What an image costs on average.

    Args:
        config: the network.
        padded: heights and widths of the network inputs.
        detections: an image, on average.
        runs: the sweep's.
        weights: identity of the network's weights.

    Returns:
        ``backbone``, the edge's half, ``heads``, the cloud's, whatever is in them, and ``reductions``: row id to what
        reducing and what restoring cost; None where a reduction does not say. Nothing of a model that is not
        torchvision's.
    """
    if config.model not in MODELS:
        return {}
    split = checked_split(config.split)
    cost = network_cost(config.model, split)
    area = sum(height * width for height, width in padded) / len(padded)
    heads = (
        (cost.back + cost.rpn) * area + cost.proposal * (config.proposals or _PROPOSALS) + cost.detection * detections
    )
    reductions: dict[str, tuple[float, float] | None] = {}
    for run in runs:
        for step in registry.chain(run.condition):
            if isinstance(step, Reduction):
                costs = [
                    step.multiply_adds(_levels(split, size), key(weights, SPLITS[split]))
                    for size in sorted(set(padded))
                ]
                counts = [padded.count(size) for size in sorted(set(padded))]
                reductions[run.id] = _mean(costs, counts)
    return {"backbone": cost.front * area, "heads": heads, "reductions": reductions}


@dataclass(frozen=True)
class Counted:
    """Multiply-adds of a picture, of any model.

    Attributes:
        edge, cloud: of its halves.
        levels: shapes (C, H, W) of what crosses the link, without what is derived.
        fitted_to: what reductions are known by, :func:`featlink.shared.fitted.key`.
    """

    edge: float
    cloud: float
    levels: Mapping[str, tuple[int, int, int]]
    fitted_to: str


def counted(config: ModelConfig, picture: Image) -> Counted | None:
    """Count a picture's multiply-adds by running the model on it, in the profile ``exact``.

    Returns:
        None where it computes nothing with torch.

    Raises:
        ModelError: it cannot be built.
    """
    from torch.utils.flop_counter import FlopCounterMode

    model = build(config.but(profile="exact", device="cpu"))
    with FlopCounterMode(display=False) as edge:
        features = model.encode(picture)
    with FlopCounterMode(display=False) as cloud:
        model.decode(features)
    counts = edge.get_total_flops() / 2, cloud.get_total_flops() / 2
    shapes = model.spec.shapes(features.sizes.padded)
    levels = {name: shapes[name] for name in model.spec.required}
    return Counted(*counts, levels, key(model.weights, model.spec)) if any(counts) else None


def of_picture(config: ModelConfig, picture: Image, runs: Iterable[PlannedRun]) -> dict[str, Any]:
    """As :func:`multiply_adds`, of a model that is none of torchvision's R-CNNs: of one picture, not of all.

    Raises:
        ModelError: it cannot be built.
    """
    if (found := counted(config, picture)) is None:
        return {}
    reductions = {
        run.id: step.multiply_adds(found.levels, found.fitted_to)
        for run in runs
        for step in registry.chain(run.condition)
        if isinstance(step, Reduction)
    }
    return {"backbone": found.edge, "heads": found.cloud, "reductions": reductions}


def of_row(found: Mapping[str, Any], row: str, domain: str) -> tuple[float, float] | None:
    """Multiply-adds of edge and cloud in one condition.

    Args:
        found: what :func:`multiply_adds` returned, or a manifest's copy of it.
        row: the condition's id.
        domain: its domain.

    Returns:
        None where it is not known.
    """
    if not found:
        return None
    if domain == "image":
        return 0.0, found["backbone"] + found["heads"]
    if row not in found["reductions"]:
        return found["backbone"], found["heads"]
    more = found["reductions"][row]
    return None if more is None else (found["backbone"] + more[0], found["heads"] + more[1])


def _levels(split: str, size: tuple[int, int]) -> dict[str, tuple[int, int, int]]:
    spec = SPLITS[split]
    shapes = spec.shapes(size)
    return {name: shapes[name] for name in spec.required}


def _mean(costs: list[tuple[float, float] | None], counts: list[int]) -> tuple[float, float] | None:
    known = [(cost, count) for cost, count in zip(costs, counts, strict=True) if cost is not None]
    if len(known) < len(costs):
        return None
    edge, cloud = (sum(cost[i] * count for cost, count in known) / sum(counts) for i in range(2))
    return edge, cloud


def _padded(length: float) -> int:
    return FPN.divisor * math.ceil(math.floor(length) / FPN.divisor)
