"""What crossed the link, made again with the sweep's model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_model import TINY

from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.report.builder import ReportOptions, make_page
from featlink.report.gallery import Strip
from featlink.report.replay import Replay, open_replay
from featlink.report.sweep import Sweep, about
from featlink.shared.conditions.language import parse
from featlink.shared.frames.visualisation import pixels, planes
from featlink.shared.pictures import decode


@pytest.fixture(scope="module")
def with_model(sweep: Sweep) -> Sweep:
    model = {
        "name": TINY,
        "weights": "starter",
        "min_size": 128,
        "max_size": 224,
    }
    return dataclasses.replace(sweep, manifest={**sweep.manifest, "model": model})


@pytest.fixture(scope="module")
def replay(with_model: Sweep) -> Replay:
    return open_replay(about(with_model))


@pytest.fixture(scope="module")
def picture(dataset: Path) -> Path:
    return open_dataset(dataset).images[1]


def test_clean_image_is_the_picture(replay: Replay, picture: Path) -> None:
    frame = replay.received(picture, 1, parse("image: identity"))
    np.testing.assert_array_equal(pixels(frame), decode(picture.read_bytes(), 10**6))


def test_planes_are_tiles_in_8_bits(replay: Replay, picture: Path) -> None:
    clean = planes(replay.received(picture, 1, parse("feature: identity")))
    eight = planes(replay.received(picture, 1, parse("feature: quantize(bits=8)")))
    two = planes(replay.received(picture, 1, parse("feature: quantize(bits=2)")))
    assert clean["p2"].shape == (2 * 32, 4 * 48)  # 128×171 is padded to 128×192, at stride 4
    for level, plane in clean.items():
        assert (plane.min(), plane.max()) == (0, 255)
        np.testing.assert_array_equal(plane, eight[level])
        assert set(np.unique(two[level])) <= {0, 85, 170, 255}


@pytest.mark.slow
def test_report_shows_planes_and_distorted_pictures(with_model: Sweep) -> None:
    page = make_page(with_model, ReportOptions(images=1))
    sections = {section.id: section.blocks for section in page.sections}
    whole, corner = sections["planes"]
    assert isinstance(whole, Strip)
    assert isinstance(corner, Strip)
    assert len(whole.pictures) == 4 * len(corner.pictures) == 4 * 6
    strip = sections["gallery"][0]
    assert isinstance(strip, Strip)
    sources = {(one.title, one.domain): one.source for one in strip.pictures}
    blurred = next(title for title, _ in sources if title.startswith("gaussian_blur"))
    unseen = make_page(with_model, ReportOptions(images=1, planes=False)).sections[5].blocks[0]
    assert isinstance(unseen, Strip)
    drawn_on_clean = {(one.title, one.domain): one.source for one in unseen.pictures}
    assert sources[blurred, "image"] != drawn_on_clean[blurred, "image"]
    assert sources[blurred, "feature"] == drawn_on_clean[blurred, "feature"]


def test_other_weights_are_not_passed_off(with_model: Sweep) -> None:
    what = dataclasses.replace(about(with_model), identity="0123456789abcdef")
    with pytest.raises(CommandError, match="now holds other weights"):
        open_replay(what)


def test_official_weights_are_not_fetched(with_model: Sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CommandError, match="not on this machine"):
        open_replay(dataclasses.replace(about(with_model), model="maskrcnn_resnet50_fpn", weights="coco"))
