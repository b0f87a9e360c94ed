"""The ``ray`` engine on Ray nodes started by hand: they join, they die, and nothing is lost."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_model
import torch
from fitted_basis import fitted_to
from numbers_by_key import Numbers, numbers
from PIL import Image
from ray_nodes import Nodes, ray_nodes
from torchvision.models import get_model

from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.cluster import Cluster, RayEngine
from featlink.sweeps.engine import ItemError, ItemResult, WorkItem
from featlink.sweeps.local import build_local

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytestmark = pytest.mark.extended

CONDITIONS = [parse(text) for text in ("identity", "quantize(bits=3)", "pca(components=8)", "image: jpeg(quality=30)")]
EVERY = tuple(range(len(CONDITIONS)))
MEMORY = 1_600_000_000
"""Bytes: a worker holds half of it, and more than all of it with a picture of 144 million pixels."""


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._raylet import Config

    # Where earlier tests made Ray write a token, nodes ask for it; a process that is to send it has to say so.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    Config.initialize("")
    ensure_token_if_auth_enabled(None, create_token_if_missing=True)
    with ray_nodes("--num-gpus=1") as started:
        yield started


@pytest.fixture(scope="module")
def config(random_checkpoint: Callable[[str], Path]) -> ModelConfig:
    weights = str(random_checkpoint("maskrcnn_resnet50_fpn"))
    few = {"score_threshold": 0.01, "proposals": 50, "max_detections": 8}
    return ModelConfig(weights=weights, profile="exact", min_size=64, max_size=96, threads=1, **few)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fitted(config: ModelConfig, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with fitted_to(config, tiny, tmp_path_factory.mktemp("fitted")) as folder:
        yield folder


@pytest.fixture(scope="module")
def expected(config: ModelConfig, tiny: Path, fitted: Path) -> Numbers:
    assert fitted.is_dir()
    return numbers(build_local(config.but(device="cpu"), CONDITIONS, True).run(tasks(tiny)))


def tasks(tiny: Path, wanted: Sequence[int] = EVERY) -> list[WorkItem]:
    return [WorkItem.still(i, path, tuple(wanted)) for i, path in open_dataset(tiny).images.items()]


def work_until(engine: RayEngine, workers: int, tiny: Path) -> None:
    """Have the engine compute pictures until it has so many workers."""
    endless = (replace(task, runs=(0,)) for task in itertools.cycle(tasks(tiny)))
    for outcome in engine.run(itertools.takewhile(lambda _: len(engine.workers) < workers, endless)):
        assert isinstance(outcome, ItemResult), outcome
    assert len(engine.workers) == workers


def test_a_node_that_joins_is_used_and_one_that_dies_costs_nothing_but_time(
    nodes: Nodes, expected: Numbers, config: ModelConfig, tiny: Path, fitted: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    weights = shutil.copy(config.weights, tmp_path / "weights.pth")
    shutil.copytree(fitted, tmp_path / "fitted")
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path / "fitted"))
    config = config.but(weights=str(weights), device="cpu")
    with RayEngine(config, CONDITIONS, True, Cluster(None, nodes.address)) as engine:
        assert len(engine.workers) == 1
        # What the next node finds where the sender had its files are others, or none.
        torch.manual_seed(8)
        torch.save(get_model(config.model, weights=None, weights_backbone=None).state_dict(), weights)
        shutil.rmtree(tmp_path / "fitted")
        other = nodes.join()
        work_until(engine, 2, tiny)
        assert numbers(engine.run(tasks(tiny))) == expected

        again: Numbers = {}
        for outcome in engine.run(tasks(tiny)):
            assert isinstance(outcome, ItemResult), outcome
            if not again:
                nodes.kill(other)  # both workers have a picture
            key = outcome.result.image_id, outcome.run
            assert key not in again
            again[key] = (outcome.result.detections, outcome.result.bits, outcome.result.fidelity)
        assert again == expected
        assert len(engine.workers) == 1


def test_a_model_of_ones_own_goes_to_the_nodes(nodes: Nodes, tiny: Path, tmp_path: Path) -> None:
    carried = tmp_path / "carried.py"
    carried.write_text(Path(tiny_model.__file__).read_text() + f"# {tmp_path}\n")  # no node has it from before
    config = ModelConfig(model=f"{carried}:build", weights=tiny_model.other_weights(tmp_path / "w.safetensors"))
    config = config.but(device="cpu", threads=1)
    without = [place for place in EVERY if place != 2]  # nothing is fitted to it
    alone = numbers(build_local(config, CONDITIONS, True).run(tasks(tiny, without)))
    with RayEngine(config, CONDITIONS, True, Cluster(1, nodes.address)) as engine:
        carried.unlink()
        assert numbers(engine.run(tasks(tiny, without))) == alone


def test_a_picture_that_ends_its_workers_is_a_failure_and_the_others_go_on(
    nodes: Nodes, expected: Numbers, config: ModelConfig, tiny: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.zeros((12_000, 12_000), np.uint8)).save(tmp_path / "huge.png", compress_level=1)
    first, *others = tasks(tiny)
    work = [first, WorkItem.still(77, tmp_path / "huge.png", (0, 1)), *others]
    cluster = Cluster(None, nodes.address, memory_per_worker=MEMORY)
    with RayEngine(config.but(device="cpu"), CONDITIONS, True, cluster) as engine:
        found = list(engine.run(work))
    [failure] = [one for one in found if isinstance(one, ItemError)]
    assert (failure.image_id, failure.runs) == (77, (0, 1))
    assert failure.why.startswith("ended 3 workers: ")
    assert numbers(one for one in found if isinstance(one, ItemResult)) == expected


def test_a_worker_asks_for_its_gpus_and_waits_no_longer_than_told(nodes: Nodes, config: ModelConfig) -> None:
    large = config.but(device="cuda", threads=64)
    for workers, gpus in ((None, "1"), (4, "0.25")):
        with pytest.raises(CommandError, match=f"within 3 s; one takes 64 cores, {gpus} GPUs"):
            RayEngine(large, [], False, Cluster(workers, nodes.address, patience_s=3))
    if not torch.cuda.is_available():  # the one that Ray was told of is given out, and found missing
        for device in ("cuda", "auto"):
            with pytest.raises(ModelError, match="no device cuda"):
                RayEngine(config.but(device=device), [], False, Cluster(None, nodes.address))
