"""Pictures of ``featlink infer``: clean beside received, and planes before and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from deployment import Deployment
from PIL import Image
from typer.testing import CliRunner

from featlink.cli import app
from featlink.client import Client
from featlink.shared.frames.visualisation import plane


@pytest.fixture
def picture(pictures: list[Path]) -> Path:
    return pictures[0]


def run(services: Deployment, picture: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["infer", str(picture), "--edge", services.edge, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize("domain", ["feature", "image"])
def test_three_pictures_side_by_side(services: Deployment, picture: Path, tmp_path: Path, domain: str) -> None:
    out = tmp_path / "new" / "compare.png"
    run(services, picture, "--condition", f"{domain}: quantize(bits=1)", "--compare", str(out))
    with Image.open(out) as sheet, Image.open(picture) as sent:
        assert sheet.width >= 3 * sent.width
        pixels = np.asarray(sheet.convert("RGB"))
        clean, received = (pixels[26 : 26 + sent.height, x : x + sent.width] for x in (0, sent.width + 8))
        original = np.asarray(sent.convert("RGB"))
    alike = [(original == shown).all(axis=2).mean() for shown in (clean, received)]
    assert alike[0] > 0.1  # where nothing is drawn
    assert (alike[1] < 0.05) == (domain == "image")  # of one bit, next to no pixel is what it was


def test_planes_are_those_of_the_frames(services: Deployment, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "planes.png"
    run(services, picture, "--condition", "quantize(bits=2)", "--planes", str(out))
    with Client(services.edge, services.cloud) as client:
        sent = plane(client.features(picture.read_bytes(), "feature").tensor("p2"))
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("L"))
    height, width = sent.shape
    assert (pixels[26 : 26 + height, :width] == sent).all()
    received = pixels[26 : 26 + height, width + 8 : 2 * width + 8]
    assert set(np.unique(received)) <= {0, 85, 170, 255}
    assert abs(received.astype(int) - sent).max() <= 43


def test_an_image_has_no_planes(services: Deployment, picture: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["infer", str(picture), "--edge", services.edge, "--domain", "image", "--planes", str(tmp_path / "x.png")]
    )
    assert result.exit_code != 0
    assert not (tmp_path / "x.png").exists()


def test_a_link_of_its_own(services: Deployment, picture: Path) -> None:
    with Client(services.edge, services.cloud) as client:
        data = picture.read_bytes()
        answer = client.infer(data, domain="image", link='{"rate_mbps": 8, "rtt_ms": 50}', received="image,p2")
        assert answer.timings["transfer"] == pytest.approx(25 + answer.bits / 8000)
        assert list(answer.received) == ["image"]
        again = client.infer(data, domain="image")
        assert again.timings["transfer"] == 0
        assert "received" not in again.body()


@pytest.mark.parametrize(
    ("option", "told"),
    [('{"rate_mbps": -1}', "Invalid link: rate_mbps"), ("20", "Invalid link"), ('{"speed": 1}', "Invalid link: speed")],
)
def test_a_wrong_link_is_told(services: Deployment, picture: Path, option: str, told: str) -> None:
    result = CliRunner().invoke(app, ["infer", str(picture), "--edge", services.edge, "--link", option])
    assert told in str(result.exception)
