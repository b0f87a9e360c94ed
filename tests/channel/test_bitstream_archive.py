"""Kept bitstreams: all that crossed the link, readable by any decoder."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from featlink.channel.bitstream_archive import decode as decode_kept
from featlink.channel.bitstream_archive import save
from featlink.channel.codecs.base import CodecError, Tools
from featlink.channel.codecs.entropy import Entropy
from featlink.channel.codecs.programs import bundled_ffmpeg
from featlink.channel.codecs.yuv import padded_size
from featlink.channel.settings import ChannelSettings
from featlink.channel.transmit import Transmission, transmit
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError, StorageError
from featlink.shared.features import FeatureSpec, Sizes, TensorSpec
from featlink.shared.frames.packing import dequantize, tile
from featlink.shared.frames.wire import Frame, Meta, Tensor, nbytes
from featlink.shared.result import Telemetry
from featlink.shared.service.settings import wrong_settings

SHAPES = {"p2": (8, 12), "p3": (4, 6), "p4": (2, 3), "p5": (1, 2), "p6": (1, 1)}


def sent_by(condition: str, image_id: int | None = 139, key: str = "a1b2") -> Transmission:
    rng = np.random.default_rng(3)
    tensors = (Tensor(n, rng.standard_normal((256, *shape), np.float32)) for n, shape in SHAPES.items())
    meta = Meta("feature", "m", "w", Sizes((31, 46), (32, 48), (32, 64)), image_id=image_id, key=key)
    return transmit(Frame(meta, tuple(tensors)), parse(condition), Telemetry(), fidelity=False)


def decode(path: Path, height: int, width: int) -> np.ndarray:
    """The luma of a file's only picture, by a command line that knows nothing of Featlink."""
    command = [bundled_ffmpeg(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-"]
    frame = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<u2")
    rows, columns = padded_size((height, width))
    assert frame.size == rows * columns * 3 // 2
    return frame[: rows * columns].reshape(rows, columns)[:height, :width]


@pytest.mark.parametrize("codec", ["vvenc", "hevc"])
def test_files_decode_to_the_samples_that_were_received(codec: str, tmp_path: Path) -> None:
    sent = sent_by(f"{codec}(qp=30)")
    folder = save(sent, tmp_path)
    assert folder is not None
    side = json.loads((folder / "side.json").read_text())
    assert side["condition"] == f"feature: {codec}(qp=30)"
    for tensor, described in zip(sent.frame.tensors, side["tensors"], strict=True):
        luma = decode(next(folder.glob(f"{tensor.name}.*")), *tile(tensor.data).shape)
        np.testing.assert_array_equal(np.minimum((luma + 2) >> 2, 255), tile(tensor.data))
        assert described["shape"] == list(tensor.data.shape)
        assert described["range"] == [[float(tensor.ranges[0, 0]), float(tensor.ranges[0, 1])]]


def test_entropy_coded_files_decode_to_the_samples_that_were_received(tmp_path: Path) -> None:
    sent = sent_by("clip(sigmas=2) | quantize(bits=3) | entropy")
    folder = save(sent, tmp_path)
    assert folder is not None
    for described in json.loads((folder / "side.json").read_text())["tensors"]:
        data = (folder / f"{described['name']}.fel").read_bytes()
        channels, height, width = described["shape"]
        samples = Entropy().decode(data, (channels, height, width), described["bits"])
        np.testing.assert_array_equal(samples, sent.frame.tensor(described["name"]).data)


def test_bits_are_the_files_and_the_frame_around_them(tmp_path: Path) -> None:
    sent = sent_by("vvenc(qp=40) @ packing=stacked")
    folder = save(sent, tmp_path)
    assert folder is not None
    files = list(folder.glob("*.vvc"))
    assert [file.name for file in files] == ["pyramid.vvc"]
    samples = sum(tensor.data.size for tensor in sent.frame.tensors)
    header_and_padding = nbytes(sent.parts) - samples
    assert sent.telemetry.bits == 8 * (header_and_padding + files[0].stat().st_size)


def test_each_image_and_condition_has_its_own_folder(tmp_path: Path) -> None:
    conditions = ["jpeg(quality=50)", "jpeg(quality=60)", "jpeg(quality=50) @ seed=1"]
    folders = {save(sent_by(text, image_id), tmp_path) for text in conditions for image_id in (1, 2)}
    assert len(folders) == 6
    assert all(folder is not None and folder.parent.name in ("1", "2") for folder in folders)
    assert save(sent_by(conditions[0], 1), tmp_path) in folders, "again is the same place"


def test_a_picture_without_id_goes_by_its_key(tmp_path: Path) -> None:
    folder = save(sent_by("jpeg", None, "../../etc"), tmp_path)
    assert folder is not None
    assert folder.resolve().is_relative_to(tmp_path)


def test_without_a_codec_there_is_nothing_to_keep(tmp_path: Path) -> None:
    assert save(sent_by("quantize:bits=4"), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot keep bitstreams in .*: Not a directory"):
        save(sent_by("jpeg"), tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize(
    "condition",
    [
        "vvenc(qp=30)",
        "hevc(qp=30) @ packing=stacked",
        "jpeg(quality=60)",
        "clip(sigmas=2) | quantize(bits=3) | entropy",
        "gaussian_blur(sigma=1, window=5) | vvenc(qp=40, bit_depth=10) @ range=channel",
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_decoding_the_files_gives_the_pyramid_that_was_received(condition: str, threads: int, tmp_path: Path) -> None:
    sent = sent_by(condition)
    folder = save(sent, tmp_path)
    assert folder is not None
    decoded = decode_kept(folder, Tools(threads=threads))
    assert decoded.image is None
    assert list(decoded.levels) == [tensor.name for tensor in sent.frame.tensors]
    for tensor in sent.frame.tensors:
        assert tensor.ranges is not None
        expected = dequantize(tensor.data, tensor.ranges, tensor.bits or 8)  # type: ignore[arg-type]
        np.testing.assert_array_equal(decoded.levels[tensor.name], expected)


def test_the_files_of_another_models_features_are_decoded(tmp_path: Path) -> None:
    spec = FeatureSpec((TensorSpec("stage_1", 12, 4),), divisor=4)
    meta = Meta("feature", "m", "w", Sizes((31, 46), (32, 48), (32, 48)), image_id=4, features=spec)
    level = np.random.default_rng(3).standard_normal((12, 8, 12), np.float32)
    sent = transmit(Frame(meta, (Tensor("stage_1", level),)), parse("jpeg"), Telemetry(), fidelity=False)
    folder = save(sent, tmp_path)
    assert folder is not None
    (tensor,) = sent.frame.tensors
    assert tensor.ranges is not None
    expected = dequantize(tensor.data, tensor.ranges, 8)  # type: ignore[arg-type]
    np.testing.assert_array_equal(decode_kept(folder).levels["stage_1"], expected)


def test_decoding_the_files_gives_the_picture_that_was_received(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 31, 46), np.uint8)
    meta = Meta("image", "m", "w", Sizes((31, 46), (62, 92), (64, 96)), image_id=4)
    sent = transmit(Frame(meta, (Tensor("image", pixels),)), parse("image: vvenc(qp=30) @ at=original"), Telemetry())
    folder = save(sent, tmp_path)
    assert folder is not None
    decoded = decode_kept(folder)
    assert decoded.levels == {}
    np.testing.assert_array_equal(decoded.image, sent.frame.tensor("image").data)


def test_what_is_damaged_or_missing_is_said(tmp_path: Path) -> None:
    sent = sent_by("quantize(bits=3) | entropy")
    folder = save(sent, tmp_path)
    assert folder is not None
    data = bytearray((folder / "p2.fel").read_bytes())
    data[len(data) // 2] ^= 8
    (folder / "p2.fel").write_bytes(data)
    with pytest.raises(CodecError, match="p2 decodes to other samples than were sent"):
        decode_kept(folder)
    (folder / "p3.fel").unlink()
    with pytest.raises(StorageError, match=r"cannot read .*p3\.fel"):
        decode_kept(folder)
    side = json.loads((folder / "side.json").read_text())
    for change, message in (
        ({"extension": "../x"}, "is no file's extension"),
        ({"condition": "quantize(bits=3)"}, "does not end with a codec"),
        ({"tensors": [{**side["tensors"][0], "shape": [65536, 65536, 1]}]}, "describes more than"),
        ({"tensors": [{**side["tensors"][0], "name": "../../p2"}]}, "is no tensor's name"),
        ({"tensors": []}, "is not the side file"),
    ):
        (folder / "side.json").write_text(json.dumps({**side, **change}))
        with pytest.raises((StorageError, ConditionError), match=message):
            decode_kept(folder)
    with pytest.raises(StorageError, match="cannot read"):
        decode_kept(tmp_path / "nowhere")


@pytest.mark.parametrize("inside", ["", "new/folder"])
def test_a_folder_for_them_is_checked_at_the_start(inside: str, tmp_path: Path) -> None:
    settings = ChannelSettings(keep_bitstreams=tmp_path / inside)
    assert settings.keep_bitstreams == tmp_path / inside
    assert list((tmp_path / inside).iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEATLINK_KEEP_BITSTREAMS", str(tmp_path / "file" / "bits"))
    with pytest.raises(ValidationError) as caught:
        ChannelSettings()
    assert wrong_settings(caught.value).startswith("FEATLINK_KEEP_BITSTREAMS: cannot write in ")


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    folder = save(sent_by("jpeg"), tmp_path)
    assert folder is not None
    shutil.copy(folder / "p3.jpg", folder / "p2.jpg")
    with pytest.raises(CodecError):
        decode_kept(folder)


def test_a_still_of_a_codec_of_sequences_is_read_again(tmp_path: Path) -> None:
    sent = sent_by("hevc(qp=30, gop=random_access, period=8)")
    folder = save(sent, tmp_path)
    assert folder is not None
    levels = decode_kept(folder).levels
    for tensor in sent.frame.tensors:
        np.testing.assert_array_equal(levels[tensor.name], dequantize(tensor.data, tensor.ranges, 8))
