"""An image in, an image out: what is sent, what it costs and how good it is, from the bytes alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sent_by_hand import (
    SIZES,
    image_frame,
    pixels,
    receive,
    send,
)

from featlink.shared.errors import ConditionError, FrameError
from featlink.shared.frames.wire import Frame, Meta, Tensor


@pytest.mark.parametrize("resized", [(80, 112), (40, 61), (75, 110), (150, 55)])
def test_at_input_the_image_is_resized_as_torchvision_does(resized: tuple[int, int]) -> None:
    """16 bits tell values apart that differ by 1/257; where torch is not near a tie they must be the same."""
    clean = pixels(75, 110)
    _, received = receive(send(image_frame(clean, resized), "quantize:bits=16"))
    image = torch.from_numpy(clean).double()[None]
    wanted = torch.nn.functional.interpolate(image, size=resized, mode="bilinear", align_corners=False)[0].numpy()
    exact = wanted * 257
    near_a_tie = np.abs(exact - np.floor(exact) - 0.5) < 257 * 1e-3
    assert received["image"].samples.shape == (3, *resized)
    np.testing.assert_array_equal(received["image"].samples[~near_a_tie], np.rint(exact)[~near_a_tie])
    assert near_a_tie.mean() < 0.7


@pytest.mark.parametrize("bits", [1, 4, 7, 8, 12])
@pytest.mark.parametrize("at", ["input", "original"])
def test_pixels_are_quantised_over_their_nominal_range(bits: int, at: str) -> None:
    clean = pixels(64, 96) // 2  # never near 255: the range does not follow the content
    sent = send(image_frame(clean, (64, 96)), f"quantize:bits={bits} @ at={at}")
    _, received = receive(sent)
    np.testing.assert_array_equal(received["image"].ranges, [[0, 255]])
    np.testing.assert_array_equal(received["image"].samples, np.rint(clean * ((2**bits - 1) / 255)))
    mse = np.mean((received["image"].floats() - clean) ** 2)
    expected = 10 * np.log10(255**2 / mse) if mse else None
    measured = sent.telemetry.fidelity["psnr_i"]
    assert measured == (None if bits == 8 else pytest.approx(expected, abs=0.01))


def test_at_original_the_image_keeps_its_size_and_8_bits_keep_its_pixels() -> None:
    clean = pixels(75, 110)
    sent = send(image_frame(clean, (80, 112)), "quantize:bits=8 @ at=original")
    np.testing.assert_array_equal(receive(sent)[1]["image"].samples, clean)
    assert sent.telemetry.fidelity == {"psnr_i": None, "ssim_i": 1.0}


def test_at_input_rounding_to_8_bits_is_the_loss() -> None:
    sent = send(image_frame(pixels(75, 110), (160, 224)), "quantize:bits=8")
    assert sent.telemetry.fidelity["psnr_i"] == pytest.approx(58.92, abs=0.3)


def test_identity_passes_the_image_on_untouched() -> None:
    frame = image_frame(pixels(75, 110), (80, 112))
    for condition in ("identity", "identity @ at=original"):
        sent = send(frame, condition)
        assert sent.frame.tensors is frame.tensors
        assert sent.telemetry.fidelity == {"psnr_i": None, "ssim_i": 1.0}
        receive(sent)


@pytest.mark.parametrize(
    "image", [np.zeros((3, 75, 111), np.uint8), np.zeros((1, 75, 110), np.uint8), np.zeros((3, 75, 110), np.float32)]
)
def test_what_is_not_the_original_image_is_refused(image: np.ndarray) -> None:
    frame = Frame(Meta("image", "m", "w", SIZES), (Tensor("image", image),))
    with pytest.raises(FrameError, match="not uint8 RGB of its original size"):
        send(frame, "quantize:bits=8")


def test_a_feature_condition_does_not_go_with_an_image() -> None:
    with pytest.raises(ConditionError, match="condition is for the feature domain, the frame for image"):
        send(image_frame(pixels(75, 110), (80, 112)), "feature: quantize(bits=8)")


@pytest.mark.parametrize("codec", ["vvenc(qp=40, bit_depth=10)", "hevc(qp=35, bit_depth=10)", "jpeg(quality=30)"])
def test_codecs_take_images_of_8_bits_whatever_their_planes_have(codec: str) -> None:
    sent = send(image_frame(pixels(64, 96), (64, 96)), f"image: {codec}")
    assert {tensor.bits for tensor in sent.frame.tensors} == {8}
    assert sent.telemetry.fidelity["psnr_i"] is not None
