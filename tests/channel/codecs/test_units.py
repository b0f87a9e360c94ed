"""Units of a coded picture: undamaged they decode to what they did, and one that is lost harms its own rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from featlink.channel.codecs.base import (
    AccessUnit,
    Codec,
    CodecError,
    PictureFormat,
    PlaneCoder,
    Tools,
    code,
    decode_still,
)
from featlink.channel.codecs.entropy import Entropy
from featlink.channel.codecs.h264 import H264
from featlink.channel.codecs.jpeg import Jpeg
from featlink.channel.codecs.vvenc import Vvenc

Picture = Callable[..., np.ndarray]


def rgb(natural: Picture) -> np.ndarray:
    return np.stack([natural(100, 136, seed=seed) for seed in range(3)])


def losing(lost: set[int], picture: np.ndarray, codec: Codec, bits: int = 8) -> tuple[np.ndarray, np.ndarray | None]:
    """A picture of which units are lost, by their number behind the parameters, and which of its rows are missing."""

    def carry(item: Mapping[str, AccessUnit]) -> Mapping[str, AccessUnit]:
        unit = item[""]
        units = [b"" if i - unit.parameters in lost else part for i, part in enumerate(unit.units)]
        return {"": replace(unit, units=tuple(units))}

    channels, height, width = picture.shape
    with PlaneCoder(codec, {"": PictureFormat((channels, height, width), bits)}, carry=carry) as coder:
        (coded,) = [*coder.push({"": picture}), *coder.close()]
    return coded.pictures[""].decoded, coded.pictures[""].missing


@pytest.mark.parametrize(
    ("codec", "whole"),
    [(Jpeg(stripes=5), Jpeg()), (Entropy(stripes=4), Entropy()), (H264(slice_bytes=300), H264(slice_bytes=65535))],
)
def test_undamaged_units_decode_to_the_picture_and_cost_little(natural: Picture, codec: Codec, whole: Codec) -> None:
    picture = rgb(natural)
    cut, alone = code(picture, codec), code(picture, whole)
    assert len(cut.coded.units) - cut.coded.parameters > 3
    assert len(alone.coded.units) - alone.coded.parameters == 1
    assert alone.bits < cut.bits < 1.3 * alone.bits
    form = PictureFormat(picture.shape)
    assert np.array_equal(decode_still(cut.coded.units, codec, form), cut.decoded)
    assert np.array_equal(decode_still((cut.coded.data,), codec, form), cut.decoded)
    if not isinstance(codec, H264):  # whose slices end prediction, so that samples are others
        assert np.array_equal(cut.decoded, alone.decoded)


@pytest.mark.parametrize(("codec", "rows"), [(Entropy(stripes=4), (25, 50)), (Jpeg(stripes=5), (32, 64))])
def test_a_lost_stripe_harms_its_rows_alone(natural: Picture, codec: Codec, rows: tuple[int, int]) -> None:
    picture = rgb(natural)
    clean, (damaged, missing) = code(picture, codec).decoded, losing({1}, picture, codec)
    top, end = rows
    assert missing is not None
    assert np.flatnonzero(missing).tolist() == list(range(top, end))
    assert np.array_equal(np.delete(damaged, range(top - 1, end + 1), 1), np.delete(clean, range(top - 1, end + 1), 1))


def test_stripes_of_levels_cover_the_same_part() -> None:
    missing = [
        Entropy(stripes=3).missing_rows(AccessUnit((b"x", b"", b"x")), PictureFormat((256, height, 8)))
        for height in (48, 24, 12, 6)
    ]
    assert [(np.flatnonzero(rows)[[0, -1]] + [0, 1]).tolist() for rows in missing] == [
        [16, 32],
        [8, 16],
        [4, 8],
        [2, 4],
    ]


@pytest.mark.parametrize("scale", [1, 0.5])
def test_slices_of_h264_say_where_they_begin(natural: Picture, scale: float) -> None:
    picture, codec = rgb(natural), H264(qp=30, slice_bytes=300, scale=scale)
    sent = code(picture, codec).coded
    rows = codec.unit_rows(sent, PictureFormat((3, *picture.shape[1:])))
    assert len(rows) == len(sent.units) - sent.parameters > 2
    assert (rows[0][0], rows[-1][1]) == (0, 100)
    assert all(top < end for top, end in rows)
    assert all(0 <= end - top <= 16 / scale for (_, end), (top, _) in pairwise(rows))  # a row of blocks in common
    top, end = rows[2]
    damaged, _ = losing({2}, picture, codec)
    harmed = np.flatnonzero((damaged != code(picture, codec).decoded).any((0, 2)))
    margin = 6 / scale  # of the deblocking filter, and of chroma and all that is scaled up
    assert harmed.size
    assert top - margin <= harmed[0] <= harmed[-1] < end + margin


def test_the_decoder_of_h264_conceals_slices(natural: Picture) -> None:
    picture, codec = rgb(natural), H264(qp=30, slice_bytes=300)
    clean = code(picture, codec).decoded.astype(int)
    damaged, missing = losing({2}, picture, codec)
    assert missing is None
    errors = np.abs(damaged - clean).mean((0, 2))
    assert 0 < np.count_nonzero(errors > 4) < 60
    assert errors.max() < 60  # and not black
    assert np.array_equal(damaged, losing({2}, picture, codec)[0])


@pytest.mark.parametrize("codec", [H264(slice_bytes=300), Jpeg(stripes=4), Entropy(stripes=4), Vvenc(qp=37)])
def test_a_picture_of_which_nothing_came_is_missing(natural: Picture, codec: Codec) -> None:
    _, missing = losing(set(range(99)), rgb(natural), codec)
    assert missing is not None
    assert missing.all()


def test_a_codec_without_units_loses_the_picture(natural: Picture) -> None:
    assert losing(set(), rgb(natural), Vvenc(qp=37))[1] is None


@pytest.mark.parametrize("codec", [Entropy(), Jpeg()])
def test_one_stripe_is_what_it_always_was(natural: Picture, codec: Entropy | Jpeg) -> None:
    picture = rgb(natural)
    expected = codec.encode(picture, 8) if isinstance(codec, Entropy) else codec.encode(picture)
    assert code(picture, codec, Tools()).data == expected


@pytest.mark.extended
@pytest.mark.parametrize("codec", [Entropy(), Entropy(stripes=4), Jpeg(), Jpeg(stripes=4)])
def test_mutants_give_a_picture_or_an_error(natural: Picture, codec: Codec) -> None:
    picture = np.stack([natural(24, 40, seed=seed) for seed in range(3)])
    coded, form = code(picture, codec).coded, PictureFormat(picture.shape)
    rng, refused = np.random.default_rng(0), 0
    for _ in range(3000):
        units = [bytearray(unit) for unit in coded.units]
        for _ in range(int(rng.integers(1, 6))):
            unit = units[int(rng.integers(len(units)))]
            if unit and rng.random() < 0.8:
                unit[int(rng.integers(len(unit)))] = int(rng.integers(256))
            else:
                del unit[int(rng.integers(len(unit) + 1)) :]
        try:
            (decoded,) = codec.open_decoder(form, Tools()).push(tuple(map(bytes, units)))
            assert decoded.shape == picture.shape
        except CodecError:
            refused += 1
    assert 0 < refused < 3000


def test_a_jpeg_of_another_size_is_refused_before_it_is_decoded(natural: Picture) -> None:
    data = bytearray(code(rgb(natural), Jpeg()).data)
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    with pytest.raises(CodecError, match="65500"):
        Jpeg().decode(bytes(data), (3, 100, 136))
