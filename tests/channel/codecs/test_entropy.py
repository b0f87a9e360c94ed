"""Entropy coding: exact at every depth, the same bytes everywhere, harmless when damaged, and shorter."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from sent_by_hand import feature_frame, image_frame, pixels, send, uniform

from featlink.channel.codecs.base import CodecError, CodedPicture, PictureFormat, PlaneCoder, Tools
from featlink.channel.codecs.context_model import LEVELS, RATES, SQUASH, STRETCH, code_samples, dense_model
from featlink.channel.codecs.entropy import Entropy, similar_channels
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ConditionError
from featlink.shared.frames import bitstream, wire
from featlink.shared.frames.bitstream import Samples, dtype_for, nbytes

CODEC = Entropy()
DIGESTS = ["3cde83e6c336252a", "6d139c7faf3dc252", "757087fda02c6851", "29ca0e40e244420b"]
CODED = "bd98a3e84658fc15"


def waves(channels: int, height: int, width: int, bits: int, seed: int = 0) -> Samples:
    """Smooth channels, each a mixture of three, as features are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    parts = np.stack([np.sin(x / 3) + np.cos(y / 5), np.sin((x + y) / 4), np.cos((x - 2 * y) / 7)])
    mixed = np.tensordot(rng.standard_normal((channels, 3)), parts, 1) + 0.02 * rng.standard_normal((channels, 1, 1))
    unit = (mixed - mixed.min()) / (mixed.max() - mixed.min())
    return np.rint(unit * ((1 << bits) - 1)).astype(dtype_for(bits))


def noise(channels: int, height: int, width: int, bits: int) -> Samples:
    return np.random.default_rng(1).integers(0, 1 << bits, (channels, height, width)).astype(dtype_for(bits))


def extremes(channels: int, height: int, width: int, bits: int) -> Samples:
    """As far from any prediction as can be."""
    return noise(channels, height, width, 1).astype(dtype_for(bits)) * dtype_for(bits).type((1 << bits) - 1)


def ends(channels: int, height: int, width: int, bits: int) -> Samples:
    return np.full((channels, height, width), (1 << bits) - 1, dtype_for(bits))


def zeros(channels: int, height: int, width: int, bits: int) -> Samples:
    return np.zeros((channels, height, width), dtype_for(bits))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (2, 1, 7), (2, 7, 1), (3, 9, 11), (256, 2, 3)])
@pytest.mark.parametrize("content", [waves, noise, extremes, ends, zeros])
def test_decoding_gives_what_was_encoded(
    content: Callable[[int, int, int, int], Samples], shape: tuple[int, int, int]
) -> None:
    for bits in (1, 2, 3, 5, 8, 9, 12, 16):
        samples = content(*shape, bits) if shape != (1, 1, 1) or content is not waves else ends(*shape, bits)
        samples.flags.writeable = False
        decoded = CODEC.decode(CODEC.encode(samples, bits), shape, bits)
        np.testing.assert_array_equal(decoded, samples)
        assert decoded.dtype == samples.dtype


def test_more_channels_than_a_byte_counts() -> None:
    samples = waves(300, 4, 5, 6)
    np.testing.assert_array_equal(CODEC.decode(CODEC.encode(samples, 6), samples.shape, 6), samples)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_noise_takes_little_more_than_its_bits(bits: int) -> None:
    samples = noise(8, 64, 64, bits)
    assert len(CODEC.encode(samples, bits)) < 1.12 * nbytes(samples.size, bits)


@pytest.mark.parametrize("bits", [2, 4, 8, 10])
def test_channels_that_are_alike_take_few_bits(bits: int) -> None:
    samples = waves(64, 24, 32, bits)
    coded = 8 * len(CODEC.encode(samples, bits))
    counts = [np.bincount(channel.ravel()) for channel in samples]
    entropy = -sum(float((n[n > 0] * np.log2(n[n > 0] / n.sum())).sum()) for n in counts)
    assert coded < 0.6 * entropy


def test_a_constant_takes_next_to_nothing() -> None:
    assert len(CODEC.encode(zeros(4, 64, 64, 8), 8)) < 8 + 40


def test_samples_that_are_longer_than_the_first_buffer() -> None:
    """The kernel must not write behind it; one that is too small is met by coding again."""
    rng = np.random.default_rng(0)
    samples = np.repeat(rng.integers(0, 2, (40, 1, 1)), 900, axis=2).astype(np.uint8)
    alike = similar_channels(samples)
    x = np.concatenate([samples, np.zeros_like(samples[:1])]).astype(np.uint16)
    guarded = np.full(64, 7, np.uint8)
    errors = np.zeros((41, 3, 902), np.int32)
    size = code_samples(dense_model(40, guarded[:8], decoding=False), x, 1, alike, errors)
    assert size > 8
    assert (guarded[8:] == 7).all()


def test_the_tables_are_these() -> None:
    """Another table reads other samples from the same bytes."""
    digests = [
        hashlib.sha256(table.astype("<i4").tobytes()).hexdigest()[:16] for table in (STRETCH, SQUASH, RATES, LEVELS)
    ]
    assert digests == DIGESTS


def test_the_bytes_are_these() -> None:
    """What was kept stays readable: a change of the model is a change of the format."""
    coded = CODEC.encode(np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8) ** 2 % 16, 4)
    assert hashlib.sha256(coded).hexdigest()[:16] == CODED


@pytest.mark.slow
def test_the_same_bytes_on_any_number_of_threads_and_in_another_process() -> None:
    levels = {f"p{k}": waves(64, 24 >> k, 32 >> k, 4, k) for k in range(3)}
    forms = {name: PictureFormat(level.shape, 4) for name, level in levels.items()}
    one, two = ([p.data for p in coded(levels, forms, Tools(threads=n)).values()] for n in (1, 2))
    assert one == two
    program = (
        "import sys, numpy as np\n"
        "from featlink.channel.codecs.entropy import Entropy\n"
        "data = sys.stdin.buffer.read()\n"
        "sys.stdout.buffer.write(Entropy().decode(data, (64, 24, 32), 4).tobytes())"
    )
    done = subprocess.run([sys.executable, "-c", program], input=one[0], capture_output=True, check=True)
    assert done.stdout == levels["p0"].tobytes()


def coded(levels: dict[str, Samples], forms: dict[str, PictureFormat], tools: Tools) -> dict[str, CodedPicture]:
    with PlaneCoder(CODEC, forms, tools) as coder:
        (item,) = coder.push(levels)
    return item.pictures


def test_what_is_damaged_ends_and_stays_in_bounds() -> None:
    shape, bits = (8, 9, 11), 5
    coded = CODEC.encode(waves(*shape, bits), bits)
    rng = np.random.default_rng(2)
    for _ in range(200):
        damaged = bytearray(coded)
        for at in rng.integers(0, len(coded), 3):
            damaged[at] = rng.integers(256)
        try:
            decoded = CODEC.decode(bytes(damaged[: rng.integers(len(coded) + 1)]), shape, bits)
        except CodecError:
            continue
        assert decoded.shape == shape
        assert decoded.max() < 1 << bits


def test_what_cannot_be_a_bitstream_is_refused() -> None:
    with pytest.raises(CodecError, match="5 bytes are too few for 8 channels"):
        CODEC.decode(b"\x0012345", (8, 9, 11), 5)
    with pytest.raises(CodecError, match="a channel refers to one behind it"):
        CODEC.decode(bytes([0, 2, *[0] * 40]), (8, 9, 11), 5)
    with pytest.raises(CodecError, match="not a bitstream of the entropy coder"):
        CODEC.decode(b"\x02", (8, 9, 11), 5)
    with pytest.raises(CodecError, match="a code of 9 channels, not of 8 at most"):
        CODEC.decode(b"\x01\x09\x00", (8, 9, 11), 5)
    with pytest.raises(CodecError, match="1 bytes are too few"):
        CODEC.decode(b"\x01\x09", (8, 9, 11), 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("domain", "steps"),
    [
        ("feature", "quantize(bits=4)"),
        ("feature", "clip(sigmas=2) | quantize(bits=2)"),
        ("feature", "identity"),
        ("image", "quantize(bits=4)"),
        ("image", "monotone(gamma=2)"),
    ],
)
def test_the_samples_are_those_without_it_and_the_bits_those_of_the_bitstreams(domain: str, steps: str) -> None:
    frame = feature_frame(uniform()) if domain == "feature" else image_frame(pixels(30, 40), (60, 80))
    before = "bit_error(ber=0)" if steps == "identity" else steps  # samples of the condition's depth
    plain, coded = (send(frame, text) for text in (before, f"{steps} | entropy"))
    dense = 0
    for expected, tensor in zip(plain.frame.tensors, coded.frame.tensors, strict=True):
        shape, bits = tensor.data.shape, tensor.bits or 0
        np.testing.assert_array_equal(tensor.data, expected.data)
        np.testing.assert_array_equal(tensor.ranges, expected.ranges)
        assert bits == expected.bits
        decoded = CODEC.decode(coded.bitstreams[tensor.name], (shape[0], shape[1], shape[2]), bits)
        np.testing.assert_array_equal(decoded, expected.data)
        dense += bitstream.nbytes(tensor.data.size, bits)
    assert len(coded.bitstreams) == len(coded.frame.tensors)
    frame_bytes = wire.nbytes(coded.parts) - dense
    assert coded.telemetry.bits == 8 * (frame_bytes + sum(map(len, coded.bitstreams.values())))
    assert coded.telemetry.fidelity == plain.telemetry.fidelity


def test_nothing_is_coded_behind_it() -> None:
    for text in ("entropy | vvenc", "jpeg | entropy"):
        with pytest.raises(ConditionError):
            chain(parse(text))
