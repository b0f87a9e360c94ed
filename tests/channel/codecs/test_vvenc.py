"""VVenC codes what fills FFmpeg's buffer, too: noise at the lowest QPs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featlink.channel.codecs import yuv
from featlink.channel.codecs.base import CodecError, Tools, code
from featlink.channel.codecs.programs import bundled_ffmpeg
from featlink.channel.codecs.vvenc import Vvenc

RNG = np.random.default_rng(0)
PLANE = RNG.integers(0, 256, (1, 40, 56), dtype=np.uint8)
IMAGE = RNG.integers(0, 256, (3, 40, 56), dtype=np.uint8)


@pytest.mark.parametrize("qp", [0, 2, 40])
def test_noise_is_coded_at_any_qp(qp: int) -> None:
    result = code(PLANE, Vvenc(qp=qp), Tools(threads=1))
    assert (result.bits > 8 * PLANE.size) == (qp < 40)
    error = np.abs(result.decoded.astype(int) - PLANE).max()
    assert error <= 1 if qp < 40 else error > 1


def test_noise_of_three_colours_is_coded_at_the_lowest_qp() -> None:
    result = code(IMAGE, Vvenc(qp=0), Tools(threads=1))
    assert result.decoded.shape == IMAGE.shape
    assert result.bits > 8 * 40 * 56


def test_an_encoder_that_fails_otherwise_is_asked_once() -> None:
    with pytest.raises(CodecError, match=r"^false failed"):
        code(PLANE, Vvenc(qp=0), Tools(threads=1, ffmpeg="/bin/false"))


def test_ffmpeg_decodes_on_one_thread(program: Callable[[str], str], tmp_path: Path) -> None:
    log = tmp_path / "calls"
    ffmpeg = program(f'echo "$@" >> {log}\nexec {bundled_ffmpeg()} "$@"')
    code(PLANE, Vvenc(qp=30), Tools(threads=4, ffmpeg=ffmpeg))
    encoding, decoding = log.read_text().splitlines()
    assert "-threads 4" in encoding
    assert "-threads 1" in decoding


@pytest.mark.parametrize("size", [(40, 56), (33, 35), (7, 5)])
@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_taller_frame_holds_the_frame(size: tuple[int, int], times: int) -> None:
    frame = RNG.integers(0, 1024, yuv.frame_bytes(size) // 2).astype("<u2")
    tall = yuv.taller(frame, size, times)
    assert tall.nbytes == times * yuv.frame_bytes(size)
    np.testing.assert_array_equal(yuv.shorter(tall, size, times), frame)
