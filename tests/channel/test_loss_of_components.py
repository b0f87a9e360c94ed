"""Predicted components on a lossy link: what is lost stays as it was, until the next item that is sent alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featlink.channel.codecs.base import AccessUnit
from featlink.channel.distortions.packet_loss import PacketLoss
from featlink.channel.packets import PacketPath
from featlink.channel.reduction.pca import FORMAT
from featlink.channel.transmit import Stream, Transmission
from featlink.shared import fitted
from featlink.shared.conditions.language import parse
from featlink.shared.features import Sizes
from featlink.shared.fpn import FPN
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.result import Telemetry
from featlink.starter.bundle import DATA

SIZES = Sizes((64, 64), (64, 64), (64, 64))
CHAIN = "pca(components=16, step=0.5, gop=low_delay, period={period}) | entropy(stripes=2)"


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """A picture's levels that change from frame to frame, of the bundled weights."""
    _, facts = fitted.read(DATA / "pca.safetensors", FORMAT, "")
    rng = np.random.default_rng(0)
    first, change = (
        {f"p{k}": 3 * rng.normal(size=(256, 64 >> k, 64 >> k)).astype(np.float32) for k in range(2, 6)}
        for _ in range(2)
    )
    made = []
    for number in range(6):
        levels = FPN.complete({name: first[name] + number * change[name] / 2 for name in first})
        meta = Meta("feature", "m", facts["weights"], SIZES, image_id=number)
        made.append(Frame(meta, tuple(Tensor(*one) for one in levels.items())))
    return made


def sent(frames: list[Frame], loss: str, seed: int = 0, period: int = 32) -> list[Transmission]:
    text = f"{CHAIN.format(period=period)}{loss} @ bit_depth=10, seed={seed}"
    with Stream(parse(text), fidelity=False) as stream:
        return [one for frame in frames for one in stream.push(frame, Telemetry())]


def differ(mine: list[Transmission], clean: list[Transmission]) -> list[bool]:
    return [
        any(not np.array_equal(a.data, b.data) for a, b in zip(x.frame.tensors, y.frame.tensors, strict=True))
        for x, y in zip(mine, clean, strict=True)
    ]


def seed_of(rate: float, wanted: list[int]) -> int:
    """A seed under which the n-th item loses so many of its two units."""
    dummy = {"latent": AccessUnit((b"x", b"y"))}
    for seed in range(5000):
        path = PacketPath(PacketLoss(rate=rate), seed, place=2)
        if [len(path.carry(number, dummy)[1].missing) for number in range(len(wanted))] == wanted:
            return seed
    raise AssertionError(wanted)


def test_damage_lasts_until_an_item_is_sent_alone(frames: list[Frame]) -> None:
    clean = sent(frames, "", period=4)
    assert not any(differ(sent(frames, " | packet_loss(rate=0)", period=4), clean))
    lossy = sent(frames, " | packet_loss(rate=0.1)", seed_of(0.1, [0, 1, 0, 0, 0, 0]), period=4)
    assert [len(one.packets.missing) for one in lossy if one.packets] == [0, 1, 0, 0, 0, 0]
    assert differ(lossy, clean) == [False, True, True, True, False, False]


def test_a_requested_item_is_sent_alone(frames: list[Frame]) -> None:
    seed = seed_of(0.1, [0, 1, 0, 0, 0, 0])
    lossy = sent(frames, " | packet_loss(rate=0.1, key_request=2)", seed)
    assert [one.key for one in lossy] == [True, False, False, True, False, False]


def test_what_is_lost_whole_repeats_what_was_there(frames: list[Frame]) -> None:
    lossy = sent(frames[:2], " | packet_loss(rate=0.5, conceal=last)", seed_of(0.5, [0, 2]))
    assert not lossy[1].frame.meta.lost
    for was, now in zip(lossy[0].frame.tensors, lossy[1].frame.tensors, strict=True):
        assert np.allclose(was.data, now.data, atol=1e-3)
    assert all(one.frame.meta.lost for one in sent(frames[:2], " | packet_loss(rate=1, conceal=last)"))


def test_stills_are_sent_alone_and_lose_their_stripes(frames: list[Frame]) -> None:
    alone = replace(frames[0].meta, image_id=None, key="a picture")
    (one,) = sent([Frame(alone, frames[0].tensors)], " | packet_loss(rate=0, trace=x.)")
    assert one.packets is not None
    assert len(one.packets.missing) == 1
