"""Services answer pictures of their own before they are ready: the first request compiles and imports nothing more."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tiny_model
from PIL import Image

import featlink.channel.app
from featlink.channel.app import ChannelSettings
from featlink.channel.codecs.base import Tools
from featlink.channel.link import Link
from featlink.channel.warm import warm as warm_channel
from featlink.cloud.finish import warm as warm_cloud
from featlink.shared.conditions import language
from featlink.shared.errors import StepError
from featlink.shared.evaluation import coco_results
from featlink.shared.frames import wire
from featlink.shared.frames.wire import IMAGE, Frame, Meta, Tensor
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build

_NETWORK: dict[str, Any] = {"weights": "starter", "min_size": 320, "max_size": 427, "threads": 2}
_SCENE = Path(__file__).parents[2] / "starter/data/starter/val/000000000001.jpg"
_NOWHERE = "http://127.0.0.1:9"
_SSIM = "featlink.shared.metrics.ssim._strip_sum"
_WINOGRAD = {f"featlink.shared.models.fast.winograd.{kernel}": 1 for kernel in ("_transform", "_restore")}
_CONDITIONS = (
    "feature: identity",
    "feature: quantize(bits=10)",
    "feature: gaussian_blur(sigma=1)",
    "feature: gaussian_noise(sigma=16)",
    "feature: resize(factor=4)",
    "feature: monotone(gamma=2)",
    "feature: rank_shuffle(span=100)",
    "feature: rank_shuffle(span=100) @ bit_depth=12",
    "feature: bit_error(ber=0.001)",
    "feature: packet_loss(rate=0.05)",
    "feature: vvenc(qp=40, preset=faster)",
    "image: identity",
    "image: quantize(bits=4)",
    "image: gaussian_blur(sigma=1) @ at=original",
    "image: jpeg(quality=50)",
    "image: vvenc(qp=40, preset=faster)",
)


@pytest.fixture(scope="module")
def model() -> TorchvisionRCNN:
    return build(ModelConfig(**_NETWORK))


@pytest.fixture
def first_requests(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What a fresh service did for its first requests: paths with their bodies."""

    def run(service: str, requests: list[tuple[str, bytes]], **settings: Any) -> dict[str, Any]:
        listed = []
        for i, (path, body) in enumerate(requests):
            (tmp_path / str(i)).write_bytes(body)
            listed.append((path, str(tmp_path / str(i))))
        (tmp_path / "requests.json").write_text(json.dumps(listed))
        script = Path(__file__).parents[1] / "first_requests.py"
        command = [sys.executable, str(script), service, json.dumps(settings), str(tmp_path / "requests.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert len(result["answered"]) == len(requests)
        routes = set(re.findall(r'featlink_requests_total{.*route="(.*?)"', result["metrics"]))
        assert routes == {"/readyz"}
        return result

    return run


def picture(form: str, width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.open(_SCENE).convert("RGB").resize((width, height)).save(out, form)
    return out.getvalue()


def pixels() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(_SCENE).convert("RGB"))


def frame(model: TorchvisionRCNN, tensors: list[Tensor], condition: str) -> bytes:
    chosen = language.parse(condition)
    sizes = model.image_sizes(*pixels().shape[:2])
    meta = Meta(chosen.domain, model.name, model.weights, sizes, condition=chosen)
    return b"".join(wire.write(Frame(meta, tuple(tensors))))


@pytest.mark.extended
def test_the_edge(first_requests: Callable[..., dict[str, Any]]) -> None:
    shapes = [("PNG", 400, 300), ("JPEG", 240, 400), ("WEBP", 500, 200), ("BMP", 90, 90)]
    pictures = [picture(*shape) for shape in shapes]
    requests = [(f"/v1/features?domain={domain}", data) for domain in ("feature", "image") for data in pictures]
    found = first_requests("edge", requests, channel_url=_NOWHERE, **_NETWORK)
    assert _WINOGRAD.items() <= found["kernels"].items()
    assert (found["compiled"], found["imported"]) == ({}, [])


@pytest.mark.extended
def test_the_channel(first_requests: Callable[..., dict[str, Any]], model: TorchvisionRCNN) -> None:
    image = pixels()
    sent = {
        "feature": [Tensor(name, level) for name, level in model.encode(image).levels.items()],
        "image": [Tensor(IMAGE, np.ascontiguousarray(image.transpose(2, 0, 1)))],
    }
    requests = [("/v1/distort", frame(model, sent[text.partition(":")[0]], text)) for text in _CONDITIONS]
    found = first_requests("channel", requests, cloud_url=_NOWHERE)
    assert found["kernels"][_SSIM] == 1
    assert found["kernels"]["featlink.channel.distortions.rank_shuffle._give"] == 2
    assert (found["compiled"], found["imported"]) == ({}, [])
    assert found["kept"] == [
        Link().model_dump(),
        {"text": "feature: identity", **language.parse("identity").model_dump(mode="json")},
    ]
    assert "featlink_link_bits_total{" not in found["metrics"]


@pytest.mark.extended
def test_the_cloud(first_requests: Callable[..., dict[str, Any]], model: TorchvisionRCNN, tmp_path: Path) -> None:
    image = pixels()
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    distorted = Tensor(IMAGE, planes & 0xF0, 8, np.array([[0, 255]], np.float32))
    features = [Tensor(name, level) for name, level in model.encode(image).levels.items()]
    requests = [
        ("/v1/detect", frame(model, features, "feature: identity")),
        ("/v1/detect", frame(model, [Tensor(IMAGE, planes)], "image: identity")),
        (
            "/v1/detect",
            frame(model, [distorted], "image: quantize(bits=4) @ at=original")
            + frame(model, [Tensor(IMAGE, planes)], "image: identity"),
        ),
    ]
    found = first_requests("cloud", requests, database_url=f"sqlite:///{tmp_path}/runs.sqlite", **_NETWORK)
    expected = _WINOGRAD | {"featlink.shared.models.fast.regions._pool_rois": 1, _SSIM: 1}
    assert expected.items() <= found["kernels"].items()
    assert (found["compiled"], found["imported"]) == ({}, [])
    assert found["kept"] == [[], []]


@pytest.mark.extended
def test_the_cloud_detects_as_before(model: TorchvisionRCNN) -> None:
    before = model.decode(model.encode(pixels()))
    warm_cloud(model)
    after = model.decode(model.encode(pixels()))
    assert len(before.scores)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_the_cloud_codes_masks_whatever_the_network_sees_in_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    model, coded = tiny_model.build(ModelConfig()), []
    compressed = coco_results.compressed
    monkeypatch.setattr(coco_results, "compressed", lambda *mask: coded.append(mask) or compressed(*mask))
    monkeypatch.setattr(model.network.roi_heads, "score_thresh", 2.0)
    warm_cloud(model)
    assert coded
    assert model.network.roi_heads.score_thresh == 2.0


def test_a_missing_encoder_stops_nobody_who_does_not_ask_for_it() -> None:
    warm_channel(Tools(ffmpeg="/nowhere/ffmpeg"))


def test_readiness_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Tools) -> None:
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(featlink.channel.app, "warm", slow)
    app = featlink.channel.app.create_app(ChannelSettings(cloud_url=_NOWHERE))

    async def scenario() -> list[str]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            await asyncio.to_thread(begun.wait, 60)
            reasons = [(await client.get("/readyz")).json()["detail"]]
            go_on.set()
            async with asyncio.timeout(60):
                while (reason := (await client.get("/readyz")).json()["detail"]) == "loading":
                    await asyncio.sleep(0.01)
            return [*reasons, reason]

    waiting, loaded = asyncio.run(scenario())
    assert waiting == "loading"
    assert loaded.startswith("cloud at")


def test_a_service_that_cannot_warm_up_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Tools) -> None:
        raise StepError("quantize made 0 bits")

    monkeypatch.setattr(featlink.channel.app, "warm", broken)
    app = featlink.channel.app.create_app(ChannelSettings(cloud_url=_NOWHERE))
    stopped = asyncio.Event()
    app.state.stop = stopped.set

    async def scenario() -> str:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):
            await asyncio.wait_for(stopped.wait(), 60)
            return str((await client.get("/readyz")).json()["detail"])

    assert asyncio.run(scenario()) == "failed to start"
    assert app.state.failed
