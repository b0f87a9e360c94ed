"""The browser as the edge: what it computes and sends is what the edge service would."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from waiting import wait_until

from featlink.dataset import open_dataset
from featlink.exporting import export_edge
from featlink.shared.models.config import ModelConfig
from featlink.starter.bundle import SCENES

from .conftest import SIZE

pytestmark = pytest.mark.extended

RUNTIME = "onnxruntime-web@1.30.0"
CONDITION = "feature: bottleneck(step=4) | entropy @ bit_depth=10"


@pytest.fixture
def offered(site: Any) -> Iterator[None]:
    """An export, and ONNX Runtime's build for browsers beside it."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("needs npm")
    install = [
        npm,
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(site.browser_edge),
        RUNTIME,
    ]
    if subprocess.run(install, capture_output=True).returncode:
        pytest.skip(f"npm cannot install {RUNTIME}")
    export_edge(ModelConfig(**SIZE), site.browser_edge, reduction="bottleneck(step=4)")
    yield
    shutil.rmtree(site.browser_edge / "node_modules")  # 150 MB


def test_a_browser_detects_what_the_edge_does(tab: Any, site: Any, offered: None) -> None:
    del offered
    picture = next(iter(open_dataset(SCENES).images.values()))
    own = httpx.post(
        f"{site.services.edge}/v1/infer", content=picture.read_bytes(), params={"condition": CONDITION}, timeout=60
    ).json()
    tab.goto("/device")
    with tab.expect_response("**/device/frames*") as answered:
        tab.set_input_files("#device-file", str(picture))
    theirs = answered.value.json()
    assert theirs["bits"] == pytest.approx(own["bits"], rel=0.01)
    ours, found = ([one for one in answer["detections"] if one["score"] >= 0.5] for answer in (own, theirs))
    assert [one["category_id"] for one in found] == [one["category_id"] for one in ours]
    for one, other in zip(found, ours, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=0.5)
    assert found
    wait_until(lambda: tab.get_attribute("#device-picture", "data-found") == str(len(found)), "the drawing")
    with tab.expect_response("**/device/frames*") as answered:
        tab.get_by_role("button", name="Camera").click()
    assert answered.value.ok
    tab.get_by_role("button", name="Stop the camera").click()
    tab.get_by_role("button", name="Camera", exact=True).wait_for()


def test_what_is_no_frame_is_refused_in_one_line(site: Any) -> None:
    answer = httpx.post(f"{site.url}/device/frames", content=b"no frame")
    assert answer.status_code == 400
    assert "frame" in answer.json()["detail"]
    answer = httpx.post(f"{site.url}/device/frames", content=b"no frame", headers={"featlink-report": "{"})
    assert answer.status_code == 400
