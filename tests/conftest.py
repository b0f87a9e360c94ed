"""Fixtures: data from the environment, seeded checkpoints, and the three services on real sockets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from deployment import Deployment, serve
from hypothesis import settings
from PIL import Image
from requests_by_hand import SIZES
from tiny_model import TINY
from torchvision.models import get_model
from waiting import wait_until_ready

from featlink.starter.bundle import SCENES

collect_ignore = ["plugins"]  # packages for processes of their own; imported here, they would register their steps

# An example may be the one for which Numba compiles.
settings.register_profile("featlink", deadline=None)
settings.load_profile("featlink")


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: it names {what}")
    return Path(value)


@pytest.fixture(scope="session")
def coco() -> Path:
    """A folder with ``val2017/``, ``annotations/`` and perhaps ``extra/`` of COCO."""
    return _folder("FEATLINK_TEST_COCO", "a folder of COCO val2017 images with annotations")


@pytest.fixture(scope="session")
def starter() -> Path:
    """A folder with a trained checkpoint (*.safetensors) and its scenes in COCO's layout."""
    return _folder("FEATLINK_TEST_STARTER", "a folder with a trained checkpoint and scenes")


@pytest.fixture(scope="session")
def detectron2() -> Path:
    """A folder with checkpoints in detectron2's layouts, pictures, and what detectron2 makes of them."""
    return _folder("FEATLINK_TEST_DETECTRON2", "a folder with checkpoints and recordings of detectron2")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """20 pictures of many shapes, a grey and a very narrow one too: photos of COCO's if they are given, else scenes."""
    given = os.environ.get("FEATLINK_TEST_COCO")
    if given:
        return [*sorted(Path(given, "extra").glob("*.jpg"))[:10], *sorted(Path(given, "val2017").glob("*.jpg"))][:20]
    scenes = sorted((SCENES / "val").iterdir())[:18]
    folder = tmp_path_factory.mktemp("pictures")
    with Image.open(scenes[0]) as scene:
        scene.convert("L").save(folder / "grey.png")
        scene.crop((200, 0, 260, scene.height)).save(folder / "narrow.jpg")
    return [*scenes, *sorted(folder.iterdir())]


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a checkpoint with seeded random weights, by model."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def checkpoint(model: str) -> Path:
        path = folder / f"{model}.pth"
        if not path.exists():
            torch.manual_seed(7)
            torch.save(get_model(model, weights=None, weights_backbone=None).state_dict(), path)
        return path

    return checkpoint


@pytest.fixture(scope="session")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., contextlib.AbstractContextManager[Deployment]]:
    """A context manager that runs edge, channel and cloud with the given settings."""
    from featlink.channel.app import create_app as channel_app
    from featlink.channel.settings import ChannelSettings
    from featlink.cloud.app import create_app as cloud_app
    from featlink.cloud.settings import CloudSettings
    from featlink.edge.app import create_app as edge_app
    from featlink.edge.settings import EdgeSettings

    @contextlib.contextmanager
    def deployment(**settings: Any) -> Iterator[Deployment]:
        database = f"sqlite:///{tmp_path_factory.mktemp('cloud')}/runs.sqlite"
        with (
            serve(cloud_app(CloudSettings(**{"database_url": database} | settings))) as cloud,
            serve(channel_app(ChannelSettings(cloud_url=cloud))) as channel,
            serve(edge_app(EdgeSettings(channel_url=channel, **settings))) as edge,
        ):
            wait_until_ready(edge)
            yield Deployment(edge, channel, cloud)

    return deployment


@pytest.fixture(scope="session")
def services(deploy: Callable[..., contextlib.AbstractContextManager[Deployment]]) -> Iterator[Deployment]:
    """A deployment of the tiny model; whoever changes its condition or link changes it back."""
    with deploy(model=TINY, score_threshold=0.05, **SIZES) as deployment:
        yield deployment
