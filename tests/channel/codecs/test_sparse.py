"""Coding of values that are mostly zero: exact, the same bytes everywhere, and few of them."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from featlink.channel.codecs.context_model import code_sparse, sparse_model
from featlink.channel.codecs.entropy import Entropy
from featlink.shared.frames.bitstream import dtype_for

CODEC = Entropy()
CODED = "85582ba0c229d84d"


def components(bands: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.int32]:
    """Rarer from band to band, and more where the picture is busy, as a transform's quantised components are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    busy = 0.05 + 2 * np.exp(-((y - height / 3) ** 2 + (x - width / 2) ** 2) / height / width * 20)
    scale = 6 / (1 + np.arange(bands))[:, None, None] * busy
    return np.trunc(rng.laplace(size=(bands, height, width)) * scale).astype(np.int32)


def samples(values: npt.NDArray[np.int32], bits: int) -> npt.NDArray[np.generic]:
    half = 1 << (bits - 1)
    return (values.clip(-half, half - 1) + half).astype(dtype_for(bits))


@pytest.mark.parametrize("bits", [1, 2, 8, 10, 16])
@pytest.mark.parametrize("shape", [(64, 9, 11), (300, 4, 5), (5, 1, 40), (5, 40, 1), (40, 1, 1)])
def test_decoding_gives_what_was_encoded(shape: tuple[int, int, int], bits: int) -> None:
    given = samples(components(*shape), bits)
    coded = CODEC.encode(given, bits)
    assert coded[0] == 1
    decoded = CODEC.decode(coded, shape, bits)
    np.testing.assert_array_equal(decoded, given)
    assert decoded.dtype == given.dtype


@pytest.mark.parametrize("bits", [8, 16])
def test_the_largest_magnitudes_come_back(bits: int) -> None:
    values = np.zeros((6, 5, 7), np.int32)
    half = 1 << (bits - 1)
    values[0, 0, 0], values[1, 2, 3], values[5, 4, 6], values[2, 1] = -half, half - 1, 19, np.arange(18, 25)
    given = samples(values, bits)
    np.testing.assert_array_equal(CODEC.decode(CODEC.encode(given, bits), given.shape, bits), given)


def test_all_zero_takes_next_to_nothing() -> None:
    given = samples(np.zeros((512, 20, 27), np.int32), 8)
    coded = CODEC.encode(given, 8)
    assert len(coded) < 8
    np.testing.assert_array_equal(CODEC.decode(coded, given.shape, 8), given)


def test_it_takes_fewer_bytes_than_the_entropy_of_each_band() -> None:
    values = components(128, 40, 54)
    coded = 8 * len(CODEC.encode(samples(values, 8), 8))
    counts = [np.unique(band, return_counts=True)[1] for band in values]
    entropy = -sum(float((n * np.log2(n / n.sum())).sum()) for n in counts)
    assert coded < 0.95 * entropy


def test_it_does_not_write_behind_its_buffer() -> None:
    values = components(16, 9, 11)
    guarded = np.full(64, 7, np.uint8)
    assert code_sparse(sparse_model(16, guarded[:8], decoding=False), values) > 8
    assert (guarded[8:] == 7).all()


def test_what_is_damaged_ends_and_stays_in_bounds() -> None:
    shape = (32, 9, 11)
    coded = CODEC.encode(samples(components(*shape), 8), 8)
    rng = np.random.default_rng(2)
    for _ in range(100):
        damaged = bytearray(coded)
        for at in rng.integers(3, len(coded), 3):
            damaged[at] = rng.integers(256)
        assert CODEC.decode(bytes(damaged[: rng.integers(3, len(coded) + 1)]), shape, 8).shape == shape


def test_the_bytes_are_these() -> None:
    """What was kept stays readable: a change of the model is a change of the format."""
    values = (np.arange(8 * 9 * 11).reshape(8, 9, 11) ** 2 % 23 % 5 - 1).astype(np.int32)
    values[:, ::2] = 0
    coded = CODEC.encode(samples(values, 6), 6)
    assert coded[0] == 1
    assert hashlib.sha256(coded).hexdigest()[:16] == CODED
