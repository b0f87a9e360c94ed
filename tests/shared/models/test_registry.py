"""Models of others: by entry point or file, through the API, a sweep and the services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from deployment import Deployment
from tiny_model import TINY
from typer.testing import CliRunner

import featlink as fl
from featlink.cli import app
from featlink.client import Client
from featlink.shared.errors import ModelError
from featlink.shared.models import registry
from featlink.shared.models.config import MODELS, ModelConfig

OWN = f"{Path(__file__).parents[3] / 'examples/own_model.py'}:build"


def test_torchvisions_are_registered() -> None:
    assert registry.names()[: len(MODELS)] == MODELS
    assert {point.name for point in registry.entry_points(group=registry.GROUP)} >= set(MODELS)


@pytest.fixture
def no_points_kept() -> Iterator[None]:
    registry._points.cache_clear()
    yield
    registry._points.cache_clear()


def test_another_packages_model_is_found(monkeypatch: pytest.MonkeyPatch, no_points_kept: None) -> None:
    points = [EntryPoint("tiny", "tiny_model:build", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert registry.build(ModelConfig(model="tiny")).name == "tiny"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("yolo", "known are maskrcnn_resnet50_fpn, "),
        ("nowhere.py:build", "no model at nowhere.py"),
        (OWN.replace(":build", ":make"), "cannot load the model .*: the file has no function 'make'"),
    ],
)
def test_what_is_no_model_is_refused(model: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        fl.load(model=model)


def test_a_files_own_error_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(ModelError, match="ZeroDivisionError"):
        fl.load(model=f"{tmp_path / 'bad.py'}:build")


@pytest.mark.parametrize("size", [(16, 24), (1, 1)])
def test_an_error_at_the_start_is_told_with_its_picture(size: tuple[int, int]) -> None:
    model = registry.build(ModelConfig(model=OWN))
    model.warmup_size = lambda: size  # type: ignore[method-assign]
    told = f"the model own_model fails on the {size[1]}×{size[0]} picture .*: IndexError: no such cell"
    with pytest.raises(RuntimeError, match=told) as raised, registry.starting(model):
        raise IndexError("no such cell")
    assert isinstance(raised.value.__cause__, IndexError)
    with pytest.raises(ModelError, match=r"^whole$"), registry.starting(model):
        raise ModelError("whole")


@pytest.mark.slow
@pytest.mark.parametrize("model", [OWN, TINY])
@pytest.mark.parametrize("condition", ["identity", "quantize(bits=3)", "vvenc(qp=30) @ packing=stacked"])
def test_over_the_services_as_in_the_api(deployed: Callable[[str], Any], model: str, condition: str) -> None:
    loaded = fl.load(model=model)
    path = next(iter(fl.open_dataset("starter").images.values()))
    signal = loaded.pyramid(fl.read_image(path))
    delivery = fl.transmit(signal, condition)
    detections = loaded.detect(delivery)
    assert len(detections) == 10
    answer = deployed(model).infer(path.read_bytes(), condition=condition)
    assert [one["score"] for one in answer.detections] == pytest.approx(detections.scores.tolist(), abs=1e-6)
    assert set(delivery.fidelity.levels) == set(loaded.split.spec.names)
    if condition == "identity":
        np.testing.assert_array_equal(loaded.detect(signal).boxes, detections.boxes)


@pytest.fixture(scope="module")
def deployments(deploy: Callable[..., Any]) -> Iterator[dict[str, Deployment]]:
    with deploy(model=OWN) as own, deploy(model=TINY) as tiny:
        yield {OWN: own, TINY: tiny}


@pytest.fixture(scope="module")
def deployed(deployments: dict[str, Deployment]) -> Iterator[Callable[[str], Client]]:
    own, tiny = deployments[OWN], deployments[TINY]
    with Client(own.edge, own.cloud) as of_own, Client(tiny.edge, tiny.cloud) as of_tiny:
        yield {OWN: of_own, TINY: of_tiny}.__getitem__


@pytest.mark.parametrize("model", [OWN, TINY])
def test_a_sweep(model: str, tmp_path: Path) -> None:
    rows = fl.sweep(
        "starter", ["quantize(bits=4)", "image: jpeg(quality=30)"], limit=2, model=model, out=tmp_path / "out"
    )
    bits = {row["condition"]: row["bits_per_image"] for row in rows}
    assert bits["feature: quantize(bits=4)"] < bits["feature: identity"] / 5


def test_planes_are_of_the_models_own_tensors(deployments: dict[str, Deployment], tmp_path: Path) -> None:
    path = next(iter(fl.open_dataset("starter").images.values()))
    height, width = fl.read_image(path).shape[:2]
    out = tmp_path / "planes.png"
    options = ["--edge", deployments[OWN].edge, "--condition", "quantize(bits=3)", "--planes", str(out)]
    answer = CliRunner().invoke(app, ["infer", str(path), *options], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    with PIL.Image.open(out) as sheet:  # two rows, one for each tensor
        assert sheet.width > 2 * width // 4
        assert sheet.height > height // 4 + height // 8
