"""The trained example's model: right, the same on every engine and in services, and not to be taken for another."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from deployment import serve
from numbers_by_key import numbers
from safetensors.torch import save_file
from tiny_model import TINY
from waiting import wait_until

from featlink.client import Client
from featlink.cloud.app import create_app
from featlink.cloud.settings import CloudSettings
from featlink.dataset import open_dataset
from featlink.model_check import check_model
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.registry import build
from featlink.sweeps.engine import WorkItem
from featlink.sweeps.http import HttpEngine
from featlink.sweeps.local import build_local

FILE = Path(__file__).resolve().parents[2] / "examples" / "one_stage.py"
CONDITIONS = [parse(text) for text in ("identity", "quantize(bits=4) | entropy", "hevc(qp=35)", "image: jpeg")]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """Untrained: whether it finds anything is not the point."""
    spec = importlib.util.spec_from_file_location("one_stage_example", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = tmp_path_factory.mktemp("weights") / "one_stage.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_file(module.Network().state_dict(), path)
    return ModelConfig(model=f"{FILE}:OneStage", weights=str(path), threads=1, device="cpu")


def tasks() -> list[WorkItem]:
    places = tuple(range(len(CONDITIONS)))
    return [WorkItem.still(id, path, places) for id, path in list(open_dataset("starter").images.items())[:2]]


def test_it_is_short_and_right(config: ModelConfig) -> None:
    assert len(FILE.read_text().splitlines()) <= 60
    found = check_model(config)
    assert not found.faults
    assert [(one.name, one.needed) for one in found.crossing] == [("fine", True), ("coarse", True)]
    with pytest.raises(ModelError, match="cannot be built with weights 'none': FileNotFoundError"):
        build(config.but(weights="none"))


@pytest.mark.slow
def test_http_and_local_agree_and_another_cloud_refuses(
    config: ModelConfig, deploy: Callable[..., AbstractContextManager[Any]]
) -> None:
    alone = numbers(build_local(config, CONDITIONS, True).run(tasks()))
    with deploy(model=config.model, weights=config.weights) as services:
        with Client(services.edge, services.edge) as client:
            assert numbers(HttpEngine(client, CONDITIONS, True).run(tasks())) == alone
        picture = next(iter(open_dataset("starter").images.values())).read_bytes()
        frame = httpx.post(f"{services.edge}/v1/features", content=picture).content
    with serve(create_app(CloudSettings(model=TINY, database_url="sqlite://"))) as cloud:
        wait_until(lambda: httpx.get(f"{cloud}/readyz").status_code == 200, "the cloud")
        refused = httpx.post(f"{cloud}/v1/detect", content=frame)
    assert refused.status_code == 409
    assert "one_stage" in refused.json()["detail"]


@pytest.mark.extended
def test_ray_agrees(config: ModelConfig) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from featlink.sweeps.cluster import Cluster, RayEngine

    alone = numbers(build_local(config, CONDITIONS, True).run(tasks()))
    with RayEngine(config, CONDITIONS, True, Cluster(workers=1)) as engine:
        assert numbers(engine.run(tasks())) == alone
