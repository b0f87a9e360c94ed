"""Coding of predicted frames in contexts of those before: exact for any samples, the same everywhere, and smaller."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from featlink.channel.codecs.base import Differences, PictureFormat, Tools
from featlink.channel.codecs.entropy import Entropy
from featlink.shared.frames.bitstream import Samples

HEAD, PERIOD = 3, 4
SHAPE = (HEAD + 60, 9, 11)
FORM = PictureFormat(SHAPE, 10, Differences(HEAD, PERIOD))
CODED = "c48bc6f4b87a5618"


def frame(seed: int, alone: bool) -> Samples:
    """Components, or modes, vectors and a few differences around one thing that moves."""
    rng = np.random.default_rng(seed)
    values = np.zeros(SHAPE, int)
    if alone:
        values[HEAD:] = np.trunc(rng.laplace(size=(60, 9, 11)) * 2)
    else:
        values[0, 3:6, 4:8] = 1
        values[1:3, 3, 4] = rng.integers(-24, 25, 2)
        values[HEAD:, 3:6, 4:8] = rng.choice([-1, 0, 0, 0, 0, 0, 0, 0, 0, 1], (60, 3, 4))
    return (values + 512).astype(np.uint16)


def stream(frames: int) -> list[Samples]:
    return [frame(number, number % PERIOD == 0) for number in range(frames)]


def coded(samples: list[Samples], codec: Entropy, form: PictureFormat = FORM) -> list[bytes]:
    """Encode, and decode to the same."""
    encoder, decoder = codec.open_encoder(form, Tools()), codec.open_decoder(form, Tools())
    found = []
    for number, picture in enumerate(samples):
        (unit,) = encoder.push(picture)
        (decoded,) = decoder.push(unit.units)
        np.testing.assert_array_equal(decoded, picture)
        assert decoded.dtype == picture.dtype
        assert unit.key == (number % PERIOD == 0)
        found.append(unit.data)
    return found


@pytest.mark.parametrize("stripes", [1, 3])
def test_decoding_gives_what_was_encoded(stripes: int) -> None:
    coded(stream(9), Entropy(stripes=stripes))


def test_so_it_does_of_samples_that_are_nothing_of_the_kind() -> None:
    rng = np.random.default_rng(0)
    shape = (7, 4, 5)
    noise = [rng.integers(0, 1024, shape).astype(np.uint16) for _ in range(6)]
    coded(noise, Entropy(), PictureFormat(shape, 10, Differences(HEAD, PERIOD)))
    coded(noise, Entropy(stripes=2), PictureFormat(shape, 10, Differences(9, PERIOD)))


def test_frames_that_are_coded_alone_are_coded_as_stills_and_others_are_smaller() -> None:
    codec, samples = Entropy(), stream(8)
    for number, (code, picture) in enumerate(zip(coded(samples, codec), samples, strict=True)):
        still = codec.encode(picture, 10)
        if number % PERIOD == 0:
            assert code == still
        else:
            assert len(code) < len(still)


def test_nothing_at_all_takes_next_to_nothing() -> None:
    still = np.full(SHAPE, 512, np.uint16)
    assert all(len(code) < 12 for code in coded([still] * PERIOD, Entropy())[1:])


def test_bytes_are_the_same_everywhere() -> None:
    assert hashlib.sha256(b"".join(coded(stream(9), Entropy()))).hexdigest()[:16] == CODED


def test_who_joins_at_a_key_frame_decodes_what_follows() -> None:
    samples, codec = stream(8), Entropy()
    decoder = codec.open_decoder(FORM, Tools())
    for code, picture in [*zip(coded(samples, codec), samples, strict=True)][PERIOD:]:
        np.testing.assert_array_equal(decoder.push((code,))[0], picture)


def test_damage_gives_other_samples() -> None:
    rng, codec = np.random.default_rng(1), Entropy()
    decoder = codec.open_decoder(FORM, Tools())
    decoder.push((codec.encode(frame(0, alone=True), 10),))
    for size in (0, 1, 40):
        (decoded,) = decoder.push((rng.bytes(size),))
        assert decoded.shape == SHAPE
        assert decoded.max() < 1024


DECODE = """
import hashlib, sys
from featlink.channel.codecs.base import Differences, PictureFormat, Tools
from featlink.channel.codecs.entropy import Entropy
head, period, *shape = map(int, sys.argv[1:6])
form = PictureFormat(tuple(shape), 10, Differences(head, period))
decoder, digest = Entropy().open_decoder(form, Tools()), hashlib.sha256()
while size := int.from_bytes(sys.stdin.buffer.read(4), "little"):
    digest.update(decoder.push((sys.stdin.buffer.read(size),))[0].tobytes())
print(digest.hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_another_process_decodes_300_frames_to_the_same_samples(threads: str) -> None:
    period, samples = 300, [frame(number, alone=number == 0) for number in range(300)]
    encoder = Entropy().open_encoder(PictureFormat(SHAPE, 10, Differences(HEAD, period)), Tools())
    codes = [encoder.push(picture)[0].data for picture in samples]
    told = b"".join(len(code).to_bytes(4, "little") + code for code in codes)
    arguments = [sys.executable, "-c", DECODE, *map(str, (HEAD, period, *SHAPE))]
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    done = subprocess.run(arguments, input=told, capture_output=True, check=True, env=environment)
    expected = hashlib.sha256(b"".join(picture.tobytes() for picture in samples)).hexdigest()
    assert done.stdout.decode().strip() == expected
