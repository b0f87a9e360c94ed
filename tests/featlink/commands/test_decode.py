"""``featlink decode``: kept files become what the receiver had, in another process, on any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import featlink as fl
from featlink.api.transmission import frame_of
from featlink.channel.bitstream_archive import save
from featlink.channel.transmit import Transmission, transmit
from featlink.cloud.finish import pyramid
from featlink.shared.conditions.language import parse
from featlink.shared.result import Telemetry

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> fl.Model:
    return fl.load("starter", min_size=128, max_size=224, threads=1)


def sent(model: fl.Model, condition: str) -> Transmission:
    image = fl.read_image(next(iter(fl.open_dataset("starter").images.values())))
    parsed = parse(condition)
    signal = image if parsed.domain == "image" else model.pyramid(image)
    return transmit(frame_of(signal, model.split), parsed, Telemetry(), fidelity=False)


def decode(*arguments: str, threads: str = "1") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-m", "featlink", "decode", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    "condition",
    [
        "bottleneck(step=3) | entropy @ bit_depth=10",
        "pca(components=256, step=2) | entropy",
        "pca(components=64) | vvenc(qp=30, bit_depth=10)",
        "vvenc(qp=42, bit_depth=10)",
    ],
)
def test_files_become_the_pyramid_that_was_received(condition: str, model: fl.Model, tmp_path: Path) -> None:
    transmission = sent(model, condition)
    folder = save(transmission, tmp_path)
    assert folder is not None
    expected = pyramid(transmission.frame).levels  # as the cloud reads them
    for threads in ("1", "2"):
        out = tmp_path / f"{threads}.safetensors"
        done = decode(str(folder), "--out", str(out), "--threads", threads, threads=threads)
        assert done.returncode == 0, done.stderr
        assert condition.partition(" @")[0] in done.stdout
        for name, level in load_file(out).items():
            np.testing.assert_array_equal(level, expected[name])


def test_every_bit_counted_is_in_a_file_or_the_frames_header(model: fl.Model, tmp_path: Path) -> None:
    transmission = sent(model, "bottleneck(step=3) | entropy")
    folder = save(transmission, tmp_path)
    assert folder is not None
    kept = sum(file.stat().st_size for file in folder.iterdir() if file.name != "side.json")
    header = transmission.telemetry.bits // 8 - kept
    assert 0 < header < 512
    assert header <= (folder / "side.json").stat().st_size + 256


def test_an_image_becomes_a_png(model: fl.Model, tmp_path: Path) -> None:
    transmission = sent(model, "image: jpeg(quality=30) @ at=original")
    folder = save(transmission, tmp_path)
    out = tmp_path / "received.png"
    assert decode(str(folder), "--out", str(out)).returncode == 0
    pixels = np.asarray(Image.open(out)).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels, transmission.frame.tensor("image").data)
    wrong = decode(str(folder), "--out", str(tmp_path / "received.safetensors"))
    assert wrong.returncode != 0
    assert "decodes to a .png file" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_a_folder_without_a_side_file_is_said_in_one_line(tmp_path: Path) -> None:
    done = decode(str(tmp_path), "--out", str(tmp_path / "x.safetensors"))
    assert done.returncode != 0
    assert "cannot read" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_it_obeys_the_program_that_is_named(model: fl.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(sent(model, "image: vvenc(qp=40)"), tmp_path)
    monkeypatch.setenv("FEATLINK_FFMPEG", "/nowhere/ffmpeg")
    done = decode(str(folder), "--out", str(tmp_path / "out.png"))
    assert done.returncode != 0
    assert "cannot start ffmpeg" in done.stderr
