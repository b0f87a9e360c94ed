"""Multiply-adds against sums by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import TINY
from torchvision.models import resnet50

from featlink.api.pictures import read_image
from featlink.channel.reduction.bottleneck import Bottleneck, read_learned
from featlink.channel.reduction.pca import Basis, Pca
from featlink.costs import multiply_adds, network_cost, of_picture, of_row, padded_sizes
from featlink.dataset import open_dataset
from featlink.shared.models.config import ModelConfig
from featlink.starter.bundle import DATA
from featlink.sweeps.plan import make_plan


def by_hand(network: torch.nn.Module, picture: torch.Tensor) -> float:
    """Every convolution's multiply-adds, from the sizes of its output."""
    total = 0.0

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, torch.nn.Conv2d):
            total += out.numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    with torch.inference_mode():
        network(picture)
    for hook in hooks:
        hook.remove()
    return total


def test_the_backbone_is_resnet_and_its_pyramid() -> None:
    with torch.device("meta"):
        body = torch.nn.Sequential(*list(resnet50().children())[:-2])
        body_cost = by_hand(body, torch.empty(1, 3, 256, 256)) / 256**2
    lateral = sum(c * 256 / s**2 for c, s in ((256, 4), (512, 8), (1024, 16), (2048, 32)))
    smooth = sum(256 * 256 * 9 / s**2 for s in (4, 8, 16, 32))
    assert network_cost("maskrcnn_resnet50_fpn").front == pytest.approx(body_cost + lateral + smooth, rel=1e-6)


def test_the_heads() -> None:
    cost = network_cost("maskrcnn_resnet50_fpn")
    assert cost.proposal == 256 * 49 * 1024 + 1024 * 1024 + 1024 * 91 * 5
    mask = 4 * 14 * 14 * 256 * 256 * 9 + 14 * 14 * 256 * 256 * 4 + 28 * 28 * 256 * 91
    assert cost.detection == mask
    per_cell = 256 * 256 * 9 + 256 * 3 + 256 * 12
    assert cost.rpn == pytest.approx(per_cell * sum(1 / s**2 for s in (4, 8, 16, 32, 64)), rel=1e-6)
    assert network_cost("fasterrcnn_resnet50_fpn").detection == 0


def test_sizes_are_those_of_torchvision() -> None:
    config = ModelConfig(min_size=800, max_size=1333)
    assert padded_sizes(config, [(480, 640), (427, 640), (640, 300)]) == [(800, 1088), (800, 1216), (1344, 640)]


def test_reductions_count_their_products() -> None:
    shapes = {"p2": (256, 32, 48), "p3": (256, 16, 24), "p4": (256, 8, 12), "p5": (256, 4, 6)}
    kept = {"p2": 3, "p3": 4, "p4": 5, "p5": 6}
    width = 16 * 3 + 4 * 4 + 5 + 6
    rng = np.random.default_rng(0)
    basis = Basis(
        forward={name: rng.random((count, 256), np.float32) for name, count in kept.items()},
        inverse={name: rng.random((256, count), np.float32) for name, count in kept.items()},
        mean={name: np.zeros(count, np.float32) for name, count in kept.items()},
        worth=dict.fromkeys(kept, 1.0),
        cell=rng.random((width, 10), np.float32),
        group=rng.random((40, 20), np.float32),
        deviation=np.ones(20, np.float32),
        weights="w",
        architecture="a",
    )
    levels = sum(kept[name] * 256 * h * w for name, (_, h, w) in shapes.items())
    assert basis.multiply_adds(shapes, 7) == levels + width * 10 * 8 * 12 + 40 * 7 * 4 * 6


def test_the_learned_reduction_adds_its_networks_at_every_position() -> None:
    identity = _starter_identity()
    shapes = {name: (256, 320 // s, 448 // s) for name, s in (("p2", 4), ("p3", 8), ("p4", 16), ("p5", 32))}
    layers = read_learned(DATA / "bottleneck.safetensors").layers
    linear = Pca(components=1024).multiply_adds(shapes, identity)
    both = Bottleneck().multiply_adds(shapes, identity)
    for part, network, alone in zip(both, ("gains.", "refine."), linear, strict=True):
        weights = sum(w.size for name, w in layers.items() if name.startswith(network) and name.endswith("weight"))
        assert part - alone == weights * 10 * 14


def test_an_image_costs_the_sum_and_reductions_come_on_top() -> None:
    rows = make_plan(["pca(components=64) | vvenc(qp=30)", "image: jpeg"], [0])
    config = ModelConfig(weights="starter", proposals=100)
    identity = _starter_identity()
    found = multiply_adds(config, [(320, 448), (320, 448)], 5.0, rows, identity)
    cost = network_cost(config.model)
    area = 320 * 448
    assert found["backbone"] == cost.front * area
    assert found["heads"] == pytest.approx(cost.rpn * area + 100 * cost.proposal + 5 * cost.detection)
    reduced = "feature: pca(components=64) | vvenc(qp=30)"
    shapes = {name: (256, 320 // s, 448 // s) for name, s in (("p2", 4), ("p3", 8), ("p4", 16), ("p5", 32))}
    assert found["reductions"] == {reduced: Pca(components=64).multiply_adds(shapes, identity)}
    edge, cloud = of_row(found, reduced, "feature") or (0, 0)
    assert edge > found["backbone"] > 0
    assert cloud > found["heads"]
    assert of_row(found, "image: jpeg", "image") == (0.0, found["backbone"] + found["heads"])
    assert of_row(found, "clean.feature", "feature") == (found["backbone"], found["heads"])
    assert of_row({}, "clean.feature", "feature") is None


def test_another_model_is_counted_on_a_picture(tiny: Path) -> None:
    config, runs = ModelConfig(model=TINY), make_plan(["quantize(bits=8)"], [0])
    picture = read_image(next(iter(open_dataset(tiny).images.values())))
    whole = of_picture(config, picture, runs)
    earlier = of_picture(config.but(split="c2"), picture, runs)
    assert whole["backbone"] > earlier["backbone"] > 0
    assert whole["backbone"] + whole["heads"] == pytest.approx(earlier["backbone"] + earlier["heads"])
    assert of_row(whole, "clean.feature", "feature") == (whole["backbone"], whole["heads"])


def _starter_identity() -> str:
    from featlink.shared.models.checkpoints import load_checkpoint

    return load_checkpoint("starter", "maskrcnn_resnet50_fpn").identity
