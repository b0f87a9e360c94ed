"""A spec against torchvision's network, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from featlink.shared.errors import ModelError
from featlink.shared.features import FeatureMaps, FeatureSpec, Sizes, TensorSpec
from featlink.shared.fpn import FPN


@pytest.mark.parametrize("sides", [(25, 34), (1, 1), (2, 5)])
def test_p6_is_torchvisions(sides: tuple[int, int]) -> None:
    p5 = np.random.default_rng(0).normal(size=(256, *sides)).astype(np.float32)
    levels, _ = LastLevelMaxPool()([torch.from_numpy(p5)[None]], [], [])
    p6 = FPN.complete(dict.fromkeys(FPN.required, p5))["p6"]
    np.testing.assert_array_equal(p6, levels[-1][0].numpy())
    assert p6.flags.c_contiguous


def test_what_was_sent_is_not_made_again() -> None:
    sent = {name: np.full((256, 2, 2), k, np.float32) for k, name in enumerate(FPN.names)}
    complete = FPN.complete(dict(reversed(sent.items())))
    assert list(complete) == list(FPN.names)
    assert all(complete[name] is sent[name] for name in FPN.names)


def test_shapes_follow_from_the_padded_input() -> None:
    assert FPN.shapes((800, 1088)) == {
        "p2": (256, 200, 272),
        "p3": (256, 100, 136),
        "p4": (256, 50, 68),
        "p5": (256, 25, 34),
        "p6": (256, 13, 17),
    }


@pytest.mark.parametrize(
    "tensors",
    [
        (),
        (TensorSpec("a", 0, 1),),
        (TensorSpec("a", 1, 0),),
        (TensorSpec("a", 1, 1), TensorSpec("a", 1, 1)),
        (TensorSpec("A", 1, 1),),
        (TensorSpec("a" * 17, 1, 1),),
        (TensorSpec("b", 1, 2, source="a"), TensorSpec("a", 1, 1)),
        (TensorSpec("a", 1, 2), TensorSpec("b", 1, 3, source="a")),
        (TensorSpec("a", 1, 2), TensorSpec("b", 2, 4, source="a")),
    ],
)
def test_a_spec_that_means_nothing_is_refused(tensors: tuple[TensorSpec, ...]) -> None:
    with pytest.raises(ModelError):
        FeatureSpec(tensors)


def test_feature_maps_know_their_bytes() -> None:
    levels = {"p5": np.zeros((4, 2, 3), np.float32), "p6": np.zeros((4, 1, 2), np.float32)}
    assert FeatureMaps(levels, Sizes((1, 1), (1, 1), (32, 32))).nbytes == 4 * (24 + 8)


@pytest.mark.parametrize(
    ("names", "told"),
    [(("stem.out",), "'stem.out' is no name of a tensor: up to 16"), (("a", "a"), "two tensors .* 'a'")],
)
def test_a_name_that_is_refused_says_what_a_name_is(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        FeatureSpec(tuple(TensorSpec(name, 1, 1) for name in names))
