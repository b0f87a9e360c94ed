"""vvencapp and vvdecapp, played by scripts that understand the options used and call FFmpeg."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from one_plane import code_plane

from featlink.channel.codecs.base import CodecError, Tools
from featlink.channel.codecs.hevc import Hevc
from featlink.channel.codecs.programs import bundled_ffmpeg
from featlink.channel.codecs.vvenc import Vvenc

Natural = Callable[..., np.ndarray]
Program = Callable[[str], str]

VVENCAPP = """
while [ $# -gt 0 ]; do
  case $1 in
    --input) input=$2;; --size) size=$2;; --format) format=$2;; --framerate) rate=$2;; --qp) qp=$2;;
    --preset) preset=$2;; --qpa) qpa=$2;; --threads) threads=$2;; --output) output=$2;;
    *) echo "unknown option $1" >&2; exit 1;;
  esac
  shift 2
done
[ $format = yuv420_10 ] || exit 1
exec FFMPEG -v error -f rawvideo -pix_fmt yuv420p10le -s $size -r $rate -i $input \
  -c:v libvvenc -qp $qp -preset $preset -qpa $qpa -threads ${threads:-0} $output
"""
VVDECAPP = """
while [ $# -gt 0 ]; do
  case $1 in
    --bitstream) input=$2;; --frames) frames=$2;; --threads) threads=$2;; --output) output=$2;;
    *) echo "unknown option $1" >&2; exit 1;;
  esac
  shift 2
done
exec FFMPEG -v error -threads 1 -i $input -frames:v $frames -f rawvideo $output
"""


@pytest.mark.parametrize("threads", [0, 2])
def test_same_result_as_ffmpeg(threads: int, natural: Natural, program: Program) -> None:
    plane, settings = natural(50, 70), Vvenc(qp=35, preset="fast")
    tools = Tools(
        ffmpeg="/nowhere/ffmpeg",
        vvencapp=program(VVENCAPP.replace("FFMPEG", bundled_ffmpeg())),
        vvdecapp=program(VVDECAPP.replace("FFMPEG", bundled_ffmpeg())),
    )
    coded, expected = code_plane(plane, settings, tools, threads), code_plane(plane, settings, threads=threads)
    assert coded.data == expected.data
    np.testing.assert_array_equal(coded.decoded, expected.decoded)


def test_other_codecs_stay_with_ffmpeg(natural: Natural) -> None:
    apps = Tools(vvencapp="/nowhere/vvencapp", vvdecapp="/nowhere/vvdecapp")
    assert code_plane(natural(16, 16), Hevc(), apps) is not None


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        (lambda program: Tools(vvencapp=program("cat > /dev/null")), "wrote nothing"),
        (lambda program: Tools(vvdecapp=program("exit 0")), "wrote nothing"),
        (lambda program: Tools(vvencapp=program("echo bad size >&2; exit 2")), "failed: bad size"),
        (lambda program: Tools(vvdecapp="/nowhere/vvdecapp"), "cannot start vvdecapp"),
    ],
)
def test_failures(tools: Callable[[Program], Tools], message: str, natural: Natural, program: Program) -> None:
    with pytest.raises(CodecError, match=message):
        code_plane(natural(16, 16), Vvenc(), tools(program))
