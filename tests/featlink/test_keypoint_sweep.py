"""A model with keypoints through everything: check-model, a sweep, its report, a deployment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from keypoint_model import PEOPLE, draw_people
from typer.testing import CliRunner

import featlink as fl
from featlink.cli import app
from featlink.report.sweep import open_sweep
from featlink.results import load_manifest


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("people") / "data")


def test_a_sweep_and_its_report_lead_with_keypoints(people: Path, tmp_path: Path) -> None:
    rows = fl.sweep(people, ["quantize(bits=1)", "gaussian_noise(sigma=40)"], model=PEOPLE, out=tmp_path, seeds=[0])
    clean = next(row for row in rows if row["condition"] == "feature: identity")
    assert clean["keypoints_AP"] == pytest.approx(1)
    assert clean["keypoints_AR75"] == pytest.approx(1)
    assert "segm_AP" not in clean
    assert min(row["keypoints_AP"] for row in rows) < 1
    assert open_sweep(tmp_path).kinds == ("keypoints", "bbox")
    assert not (tmp_path / "figures.json").exists()
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text()
    assert "AP keypoints" in page
    assert load_manifest(tmp_path)["multiply_adds"] == {}, "it computes nothing with torch"


def test_check_model_and_services_take_it(people: Path, deploy: Callable[..., AbstractContextManager[Any]]) -> None:
    done = CliRunner().invoke(app, ["check-model", "--model", PEOPLE])
    assert done.exit_code == 0, done.output
    with deploy(model=PEOPLE) as services:
        truth = (people / "annotations" / "instances_val.json").read_bytes()
        httpx.put(f"{services.cloud}/v1/datasets/people", content=truth).raise_for_status()
        run = (
            httpx.post(f"{services.cloud}/v1/runs", json={"dataset": "people", "condition": "quantize(bits=8)"})
            .raise_for_status()
            .json()
        )
        token = {"featlink-run-token": run["token"]}
        picture = (people / "val" / "1.png").read_bytes()
        params: dict[str, Any] = {"condition": "quantize(bits=8)", "image_id": 1, "run": run["id"]}
        answer = (
            httpx.post(f"{services.edge}/v1/infer", content=picture, params=params, headers=token)
            .raise_for_status()
            .json()
        )
        assert len(answer["detections"][0]["keypoints"]) == 51
        drawn = httpx.post(f"{services.edge}/v1/infer", content=picture, params={"render": "png"})
        assert drawn.headers["content-type"] == "image/png"
        metrics = httpx.get(f"{services.cloud}/v1/runs/{run['id']}/metrics").json()
    assert metrics["keypoints"]["AP"] == pytest.approx(1)
    assert metrics["segm"] is None
