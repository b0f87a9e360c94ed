"""One variable names a program for all: the function, saved bitstreams, every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featlink.channel.bitstream_archive import decode, save
from featlink.channel.codecs.base import CodecError, Tools
from featlink.channel.settings import ChannelSettings
from featlink.channel.transmit import Transmission, transmit
from featlink.shared.conditions.language import parse
from featlink.shared.features import Sizes
from featlink.shared.frames.wire import IMAGE, Frame, Meta, Tensor
from featlink.shared.models.config import ModelConfig
from featlink.shared.result import Telemetry
from featlink.sweeps.cluster import Order

SIZE = (32, 40)
NOWHERE = {"FFMPEG": "/nowhere/ffmpeg", "VVENCAPP": "/nowhere/vvencapp", "VVDECAPP": "/nowhere/vvdecapp"}


def send(condition: str) -> Transmission:
    meta = Meta("image", "m", "w", Sizes(SIZE, SIZE, SIZE))
    frame = Frame(meta, (Tensor(IMAGE, np.zeros((3, *SIZE), np.uint8)),))
    return transmit(frame, parse(condition, "image"), Telemetry(), fidelity=False)


@pytest.mark.parametrize(
    ("name", "condition"), [("FFMPEG", "vvenc"), ("FFMPEG", "hevc"), ("VVENCAPP", "vvenc"), ("VVDECAPP", "vvenc")]
)
def test_a_program_that_is_named_is_used(name: str, condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FEATLINK_{name}", NOWHERE[name])
    with pytest.raises(CodecError, match=f"cannot start {name.lower()}"):
        send(condition)


@pytest.mark.parametrize("name", ["FFMPEG", "VVDECAPP"])
def test_saved_bitstreams_are_decoded_by_the_program_that_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(send("vvenc"), tmp_path)
    assert folder is not None
    monkeypatch.setenv(f"FEATLINK_{name}", NOWHERE[name])
    with pytest.raises(CodecError, match=f"cannot start {name.lower()}"):
        decode(folder)


def test_all_read_the_same_and_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    unset = Tools()
    assert (unset.ffmpeg, unset.vvencapp, unset.vvdecapp) == (None, None, None)
    for name, path in NOWHERE.items():
        monkeypatch.setenv(f"FEATLINK_{name}", path)
    tools = Tools(threads=3)
    assert (tools.ffmpeg, tools.vvencapp, tools.vvdecapp) == tuple(NOWHERE.values())
    assert Tools(ffmpeg=None).ffmpeg is None
    assert ChannelSettings().tools().vvencapp == tools.vvencapp
    assert Order(ModelConfig(), (), fidelity=False).tools.vvdecapp == tools.vvdecapp  # what Ray's workers get
    monkeypatch.setenv("FEATLINK_FFMPEG", "")
    assert Tools().ffmpeg is None
