"""Frames: padding, bit depth and colour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from featlink.channel.codecs import yuv

SHAPE = array_shapes(min_dims=2, max_dims=2, max_side=40)


@given(arrays(np.uint8, SHAPE))
def test_8_bit_plane_survives(plane: np.ndarray) -> None:
    back = yuv.to_plane(yuv.from_plane(plane, 8), plane.shape, 8)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, plane)


@given(arrays(np.uint16, SHAPE, elements=st.integers(0, 1023)))
def test_10_bit_plane_survives(plane: np.ndarray) -> None:
    back = yuv.to_plane(yuv.from_plane(plane, 10), plane.shape, 10)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, plane)


@given(arrays(np.uint8, SHAPE))
def test_frame_is_edge_replicated_luma_then_grey(plane: np.ndarray) -> None:
    height, width = yuv.padded_size(plane.shape)
    assert height % 8 == width % 8 == 0
    assert height - plane.shape[0] < 8 or height == 32
    assert width - plane.shape[1] < 8 or width == 32
    assert min(height, width) >= 32
    frame = yuv.from_plane(plane, 8)
    assert frame.nbytes == yuv.frame_bytes(plane.shape) == height * width * 3
    rows = np.minimum(np.arange(height), plane.shape[0] - 1)
    columns = np.minimum(np.arange(width), plane.shape[1] - 1)
    luma = frame[: height * width].reshape(height, width)
    np.testing.assert_array_equal(luma, plane[np.ix_(rows, columns)].astype(int) * 4)
    assert (frame[height * width :] == 512).all()


def test_decoded_samples_are_rounded_and_clipped_to_8_bits() -> None:
    frame = np.full(yuv.frame_bytes((16, 16)) // 2, 512, np.uint16)
    frame[:6] = [0, 1, 2, 5, 6, 1023]
    assert yuv.to_plane(frame, (16, 16), 8)[0, :6].tolist() == [0, 0, 1, 1, 2, 255]


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),
    [  # 100 % colour bars of Rec. ITU-R BT.709 in 10 bits
        ((255, 255, 255), (940, 512, 512)),
        ((255, 255, 0), (877, 64, 553)),
        ((0, 255, 255), (754, 615, 64)),
        ((0, 255, 0), (691, 167, 105)),
        ((255, 0, 255), (313, 857, 919)),
        ((255, 0, 0), (250, 409, 960)),
        ((0, 0, 255), (127, 960, 471)),
        ((0, 0, 0), (64, 512, 512)),
    ],
)
def test_colour_bars(rgb: tuple[int, int, int], ycbcr: tuple[int, int, int]) -> None:
    image = np.empty((3, 32, 32), np.uint8)
    image[...] = np.array(rgb)[:, None, None]
    frame = yuv.from_rgb(image)
    planes = frame[:1024], frame[1024:1280], frame[1280:]
    assert [np.unique(plane).tolist() for plane in planes] == [[value] for value in ycbcr]
    np.testing.assert_array_equal(yuv.to_rgb(frame, (32, 32)), image)


def test_chroma_is_the_mean_of_its_four_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 48), dtype=np.uint8)
    cb = (image[2] - (0.2126 * image[0] + 0.7152 * image[1] + 0.0722 * image[2])) / 1.8556 * 896 / 255 + 512
    expected = cb.reshape(16, 2, 24, 2).mean(axis=(1, 3))
    chroma = yuv.from_rgb(image)[32 * 48 :].reshape(2, 16, 24)
    np.testing.assert_allclose(chroma[0], expected, atol=0.51)


def test_chroma_stays_in_place() -> None:
    """On a colour ramp, chroma shifted by half a pixel would be off by one or more everywhere."""
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (64, 1))
    image = np.stack([ramp, np.full_like(ramp, 128), ramp[:, ::-1]])
    for turned in (image, image.transpose(0, 2, 1)):
        back = yuv.to_rgb(yuv.from_rgb(turned), turned.shape[1:])
        error = back.astype(int) - turned
        assert abs(error[:, 4:-4, 4:-4]).max() <= 1


def test_grey_image_loses_nothing() -> None:
    """10 bits of limited range have 3.4 steps for each of 8 bits."""
    grey = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    image = np.stack([grey] * 3)
    np.testing.assert_array_equal(yuv.to_rgb(yuv.from_rgb(image), (16, 256)), image)


@given(arrays(np.uint8, 3), SHAPE)
def test_one_colour_of_any_size(colour: np.ndarray, size: tuple[int, int]) -> None:
    image = np.empty((3, *size), np.uint8)
    image[...] = colour[:, None, None]
    back = yuv.to_rgb(yuv.from_rgb(image), size)
    assert back.shape == image.shape
    assert back.dtype == np.uint8
    assert abs(back.astype(int) - image).max() <= 1
