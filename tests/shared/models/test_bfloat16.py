"""The bf16 profile: near the exact one, split equal to whole, its frames its own, refused where it would crawl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_wire import over_the_wire
from PIL import Image
from torchvision.ops import box_iou

from featlink.cloud.finish import received_pyramid
from featlink.edge.prepare import Request, prepare
from featlink.shared.errors import ModelError
from featlink.shared.frames.wire import Frame
from featlink.shared.models.config import MODELS, ModelConfig
from featlink.shared.models.detections import Detections
from featlink.shared.models.fast.accelerate import refusal
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.starter.bundle import SCENES

pytestmark = pytest.mark.slow
SIZES = {"min_size": 224, "max_size": 384}
PICTURES = sorted((SCENES / "val").iterdir())[:3]

needs_bfloat16 = pytest.mark.skipif(refusal() is not None, reason=refusal() or "")


@pytest.fixture(scope="module")
def models() -> dict[str, TorchvisionRCNN]:
    return {one: build(ModelConfig(profile=one, device="cpu", **SIZES)) for one in ("exact", "fast", "bf16")}  # type: ignore[arg-type]


def picture(path: Path) -> np.ndarray[Any, Any]:
    return np.array(Image.open(path).convert("RGB"))


def assert_same(found: Detections, expected: Detections) -> None:
    for field in ("boxes", "scores", "labels", "masks"):
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))


@needs_bfloat16
@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_confident_detections_are_found_again(models: dict[str, TorchvisionRCNN], path: Path) -> None:
    """Above a score of 0.5: a detection of the same label within 2 px and 0.05 of score, its mask within 3 %."""
    expected = models["exact"].detect_image(picture(path)).above(0.5)
    found = models["bf16"].detect_image(picture(path))
    assert len(expected)
    overlaps = box_iou(torch.from_numpy(expected.boxes), torch.from_numpy(found.boxes)).numpy()
    overlaps *= expected.labels[:, None] == found.labels
    assert expected.masks is not None
    assert found.masks is not None
    for i, j in enumerate(overlaps.argmax(axis=1)):
        np.testing.assert_allclose(found.boxes[j], expected.boxes[i], atol=2)
        assert found.scores[j] == pytest.approx(expected.scores[i], abs=0.05)
        ours, theirs = found.masks[j] > 0.5, expected.masks[i] > 0.5
        assert np.count_nonzero(ours != theirs) <= 0.03 * np.count_nonzero(theirs) + 4


@needs_bfloat16
def test_the_pyramid_is_rounded_and_no_more(models: dict[str, TorchvisionRCNN]) -> None:
    """Each level off by something, and by less than 2 % of its spread (256 steps of a bfloat16 are one octave)."""
    exact, rounded = (models[one].encode(picture(PICTURES[0])).levels for one in ("exact", "bf16"))
    for name, level in exact.items():
        error = np.sqrt(np.mean((rounded[name] - level) ** 2)) / level.std()
        assert 1e-4 < error < 0.02, name


@needs_bfloat16
@pytest.mark.parametrize("name", [MODELS[0], *(pytest.param(name, marks=pytest.mark.extended) for name in MODELS[1:])])
def test_the_split_equals_the_whole(name: str, random_checkpoint: Callable[[str], Path]) -> None:
    few: dict[str, Any] = {"score_threshold": 0.01, "proposals": 60, "max_detections": 8}
    config = ModelConfig(
        model=name,
        weights=str(random_checkpoint(name)),
        profile="bf16",
        min_size=128,
        max_size=192,
        device="cpu",
        **few,
    )
    whole, edge = build(config), build(config, heads=False)
    for path in PICTURES[:2]:
        found = whole.detect_image(picture(path))
        assert len(found)
        assert_same(whole.decode(over_the_wire(edge.encode(picture(path)))), found)


@needs_bfloat16
def test_a_picture_without_objects() -> None:
    model = build(ModelConfig(profile="bf16", score_threshold=1, device="cpu", **SIZES))  # type: ignore[arg-type]
    found = model.detect_image(picture(PICTURES[0]))
    assert found.boxes.shape == (0, 4)
    assert found.masks is not None
    assert len(found.masks) == 0


@needs_bfloat16
@pytest.mark.parametrize("domain", ["feature", "image"])
@pytest.mark.parametrize(("edge", "cloud"), [("bf16", "fast"), ("exact", "bf16")])
def test_its_frames_are_its_own(models: dict[str, TorchvisionRCNN], edge: str, cloud: str, domain: Any) -> None:
    """So nothing computed in bfloat16 gets among other results of a run."""

    def frame(profile: str) -> Frame:
        return prepare(models[profile], Request(PICTURES[0].read_bytes(), domain), max_pixels=10**7).frame

    with pytest.raises(ModelError, match=r"the frame is of maskrcnn_resnet50_fpn.* this cloud runs maskrcnn"):
        received_pyramid(models[cloud], frame(edge))
    received_pyramid(models[edge], frame(edge))


COMMANDS = {
    "edge": (
        [sys.executable, "-m", "featlink.edge"],
        "wrong settings: FEATLINK_PROFILE: bf16 needs a CPU with AVX512-BF16",
    ),
    "cloud": (
        [sys.executable, "-m", "featlink.cloud"],
        "wrong settings: FEATLINK_PROFILE: bf16 needs a CPU with AVX512-BF16",
    ),
    "command line": (
        [sys.executable, "-m", "featlink", "bench", "--profile", "bf16", "--out", "out"],
        "featlink: profile: bf16 needs a CPU with AVX512-BF16",
    ),
    "API": (
        [
            sys.executable,
            "-c",
            "import featlink\ntry: featlink.load(profile='bf16')\nexcept Exception as e: exit(str(e))",
        ],
        "profile: bf16 needs a CPU with AVX512-BF16",
    ),
}


@pytest.mark.parametrize(
    "how", ["edge", "API", *(pytest.param(how, marks=pytest.mark.extended) for how in ("cloud", "command line"))]
)
def test_a_cpu_without_it_is_told_in_one_line(how: str, tmp_path: Path) -> None:
    """OpenVINO takes no instructions beyond AVX-512's first, and says so when it is asked."""
    command, said = COMMANDS[how]
    poor = {**os.environ, "OV_CPU_MAX_ISA": "AVX512_CORE", "FEATLINK_PROFILE": "bf16", "FEATLINK_PORT": "0"}
    poor["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    ended = subprocess.run(command, env=poor, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 1
    [line] = (ended.stdout + ended.stderr).splitlines()
    assert (json.loads(line)["reason"] if how in ("edge", "cloud") else line).startswith(said)  # services log JSON


def test_building_it_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as on a worker of a cluster whose settings were checked on another machine."""
    monkeypatch.setattr("featlink.shared.models.fast.accelerate.refusal", lambda: "bf16 needs another CPU")
    with pytest.raises(ModelError, match=r"^profile: bf16 needs another CPU$"):
        build(ModelConfig(profile="bf16", device="cpu"))
