"""An exported edge computes what the network's own edge does; a device's client makes frames of it that are taken."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import torch
from deployment import Deployment
from PIL import Image
from rich.console import Console
from tiny_model import TINY

from featlink.channel.reduction.base import REDUCED_BY
from featlink.channel.reduction.bottleneck import Bottleneck
from featlink.channel.reduction.pca import Pca
from featlink.channel.transmit import transmit
from featlink.cloud.finish import run_network
from featlink.dataset import ground_truth, open_dataset
from featlink.edge.prepare import Request, prepare
from featlink.errors import CommandError
from featlink.exported_check import check, graph_frames, recorded_frames
from featlink.exporting import FACTS, GRAPH, export_edge, fed, onnx_runtime, sender
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError, FrameError, ModelError
from featlink.shared.features import Sizes
from featlink.shared.frames import wire
from featlink.shared.frames.wire import LATENT, Frame, Meta, Tensor
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.shared.result import Telemetry
from featlink.starter.bundle import fitted_to
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import run_sweep

pytestmark = pytest.mark.slow  # exporting takes seconds

CONFIG = ModelConfig(model=TINY, score_threshold=0.05)


@pytest.fixture(scope="module")
def client() -> ModuleType:
    """``featlink-edge``, which is a distribution of its own."""
    path = Path(__file__).parents[2] / "clients" / "edge" / "featlink_edge.py"
    spec = importlib.util.spec_from_file_location("featlink_edge", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["featlink_edge"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model() -> SplitModel:
    return build(CONFIG)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edge")
    export_edge(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three pictures of several sizes, as PNG."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    images = []
    for number, (height, width) in enumerate([(60, 80), (81, 57), (33, 120)], 1):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "val" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    box["segmentation"] = [[5, 5, 25, 5, 25, 25, 5, 25]]
    document = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "person"}]}
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(document))
    return folder


# --- the graph ---------------------------------------------------------------------------------------------------


def test_levels_of_any_size_are_the_networks_own(exported: Path, model: SplitModel) -> None:
    session = onnx_runtime().InferenceSession(exported / GRAPH)
    for height, width in [(60, 80), (81, 57), (33, 120), (200, 200)]:
        picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
        own = model.encode(picture)
        levels = session.run(list(model.spec.required), fed(picture, own.sizes))
        for name, level in zip(model.spec.required, levels, strict=True):
            assert level.shape == own.levels[name].shape
            np.testing.assert_allclose(level, own.levels[name], atol=1e-4 * np.ptp(own.levels[name]))


def test_a_fixed_size_and_a_split_are_exported(tmp_path: Path) -> None:
    written = export_edge(CONFIG.but(split="c2"), tmp_path, (60, 80), precision="fp16")
    model = build(CONFIG.but(split="c2"))
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    [level] = onnx_runtime().InferenceSession(tmp_path / GRAPH).run(None, {"image": picture})
    own = model.encode(picture).levels["c2"]
    assert written.facts.model == "tiny@c2+onnx-fp16"
    assert 0 < np.abs(level - own).max() < 0.01 * np.ptp(own)


def test_int8_is_near_and_smaller(tmp_path: Path, exported: Path, model: SplitModel) -> None:
    pictures = [np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8) for i in range(3)]
    written = export_edge(CONFIG, tmp_path, precision="int8", calibration=pictures)
    own = model.encode(pictures[0])
    levels = (
        onnx_runtime().InferenceSession(tmp_path / GRAPH).run(list(model.spec.required), fed(pictures[0], own.sizes))
    )
    far = [np.abs(x - own.levels[n]).max() / np.ptp(own.levels[n]) for n, x in zip(own.levels, levels, strict=False)]
    assert written.facts.model.endswith("+onnx-int8")
    assert 1e-4 < max(far) < 0.2
    with pytest.raises(CommandError):
        export_edge(CONFIG, tmp_path, precision="int8")


@pytest.mark.parametrize("step", [Bottleneck(step=2.8), Pca(components=40)], ids=lambda step: step.type)
def test_a_senders_half_makes_what_the_step_makes(step: Bottleneck | Pca) -> None:
    levels = _levels()
    module = sender(step, fitted_to()).eval()
    with torch.inference_mode():
        planes = module(*(torch.from_numpy(levels[name]) for name in ("p2", "p3", "p4", "p5"))).numpy()
    wanted = step.reduce(levels, fitted_to())[LATENT]
    np.testing.assert_allclose(planes, wanted, atol=2e-5 * np.abs(wanted).max())


# --- reduced frames in the channel -------------------------------------------------------------------------------


def test_planes_reduced_at_the_edge_cross_as_if_the_channel_had_reduced_them() -> None:
    levels, step = _levels(), Bottleneck(step=4)
    condition = parse("bottleneck(step=4) | entropy @ bit_depth=10")
    meta = Meta("feature", "m", fitted_to(), Sizes((60, 90), (60, 90), (64, 96)))
    whole = transmit(Frame(meta, tuple(Tensor(*x) for x in levels.items())), condition, Telemetry())
    half = replace(meta, extensions={REDUCED_BY: step.sender_half(fitted_to())})
    planes = Frame(half, tuple(Tensor(*x) for x in step.reduce(levels, fitted_to()).items()))
    sent = transmit(planes, condition, Telemetry())
    assert sent.telemetry.bits == whole.telemetry.bits
    assert all(np.array_equal(a.data, b.data) for a, b in zip(sent.frame.tensors, whole.frame.tensors, strict=True))
    assert sent.fidelity is None  # the clean levels stayed at the edge
    for other in ("bottleneck(step=2) | entropy @ bit_depth=10", "pca(components=64)", "identity"):
        with pytest.raises(ConditionError):
            transmit(planes, parse(other), Telemetry())


# --- the client --------------------------------------------------------------------------------------------------


def test_the_clients_frames_are_read_and_detected_in(
    client: ModuleType, exported: Path, photos: Path, model: SplitModel
) -> None:
    edge = client.Edge(exported, 1)
    for name, data, picture, times in client.pictures([photos / "val"]):
        parts, more = edge.frame(data, picture, 7)
        frame = wire.read(b"".join(parts))
        own = prepare(model, Request(data), max_pixels=10**6, send_derived=False).frame
        assert (frame.meta.model, frame.meta.image_id) == ("tiny+onnx-fp32", 7)
        assert (frame.meta.sizes, frame.meta.features) == (own.meta.sizes, own.meta.features)
        assert {*times, *more} == {"decode", "backbone", "serialize"}
        ours, theirs = (run_network(model, one, Telemetry()).detections for one in (own, frame))
        np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=0.1, err_msg=name)
    damaged = bytearray(b"".join(parts))
    damaged[-1000] ^= 1
    with pytest.raises(FrameError, match="checksum"):
        wire.read(damaged)


def test_pictures_go_to_a_deployment_and_into_a_run(
    client: ModuleType,
    exported: Path,
    photos: Path,
    services: Deployment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = photos / "annotations" / "instances_val.json"
    httpx.put(f"{services.cloud}/v1/datasets/photos", content=truth.read_bytes()).raise_for_status()
    asked = {"dataset": "photos", "condition": "quantize:bits=8", "runtime": "onnx-fp32"}
    run = httpx.post(f"{services.cloud}/v1/runs", json=asked).raise_for_status().json()
    assert run["model"] == "tiny+onnx-fp32"
    monkeypatch.setenv("FEATLINK_RUN_TOKEN", run["token"])
    report = tmp_path / "report.json"
    arguments = [str(exported), str(photos / "val"), "--channel", services.channel, "--condition", "quantize:bits=8"]
    arguments += ["--run", run["id"], "--annotations", str(truth), "--report", str(report), "--draw", str(tmp_path)]
    client.main(arguments)
    metrics = httpx.get(f"{services.cloud}/v1/runs/{run['id']}/metrics").raise_for_status().json()
    assert metrics["run"]["done"] == 3
    assert capsys.readouterr().out.count("kB") == 3
    assert len(list(tmp_path.glob("*.jpg"))) == 3
    told = json.loads(report.read_text())
    assert told["stages_ms"]["backbone"]["count"] == 3
    assert told["device"]["onnxruntime"]
    own = {"dataset": "photos", "condition": "quantize:bits=8"}
    other = httpx.post(f"{services.cloud}/v1/runs", json=own).raise_for_status().json()
    monkeypatch.setenv("FEATLINK_RUN_TOKEN", other["token"])
    with pytest.raises(SystemExit, match="409"):  # a run of a Featlink edge takes no other frames
        client.main([*arguments, "--run", other["id"]])


def test_frames_of_a_stream_go_on_from_each_other(
    client: ModuleType, exported: Path, photos: Path, services: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(photos / "val" / "1.png")
    arguments = [str(exported), folder, folder, "--channel", services.channel, "--stream", "cam", "--condition"]
    client.main([*arguments, "quantize:bits=8"])
    assert capsys.readouterr().out.count("1.png") == 2
    [stream] = [one for one in httpx.get(f"{services.channel}/v1/streams").json() if one["id"] == "cam"]
    assert stream["frames"] == 2


def test_features_of_other_weights_are_refused(
    client: ModuleType, exported: Path, photos: Path, services: Deployment, tmp_path: Path
) -> None:
    facts = json.loads((exported / FACTS).read_text())
    (tmp_path / FACTS).write_text(json.dumps(facts | {"weights": "0" * 16}))
    (tmp_path / GRAPH).write_bytes((exported / GRAPH).read_bytes())
    with pytest.raises(SystemExit, match="409"):
        client.main([str(tmp_path), str(photos / "val" / "1.png"), "--channel", services.channel])
    (tmp_path / GRAPH).write_bytes(b"another")
    with pytest.raises(SystemExit, match="describes"):
        client.main([str(tmp_path), str(photos / "val" / "1.png"), "--channel", services.channel])


@pytest.fixture
def moody() -> Iterator[tuple[str, list[int]]]:
    """A server that breaks the first connection, is busy, and then answers; with the statuses it gave."""
    given: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = {0: 0, 1: 503}.get(len(given), 200)
            given.append(status)
            if not status:
                self.close_connection = True
                return
            body = b'{"detections": [], "categories": {}, "bits": 8000}' if status == 200 else b'{"detail": "busy"}'
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", given
    server.shutdown()


def test_what_is_not_answered_is_sent_again(client: ModuleType, moody: tuple[str, list[int]]) -> None:
    url, given = moody
    answer = client.Channel(url, 20, {}).send([b"frame"], {})
    assert (answer["bits"], given) == (8000, [0, 503, 200])
    with pytest.raises(OSError, match="no answer"):
        client.Channel("http://127.0.0.1:9", 0.1, {}).send([b"frame"], {})


def test_the_client_reports_to_nobody(tmp_path: Path) -> None:
    """ONNX Runtime would leave an id in the home folder, and send its use to its makers."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    path = Path(__file__).parents[2] / "clients" / "edge" / "featlink_edge.py"
    subprocess.run([sys.executable, str(path), "--help"], env=environment, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


# --- what an export is worth -------------------------------------------------------------------------------------


def test_a_check_tells_ap_bytes_and_deviation(
    client: ModuleType, exported: Path, photos: Path, model: SplitModel, tmp_path: Path
) -> None:
    data = open_dataset(photos)
    truth, _ = ground_truth(data)
    identity = parse("identity")
    facts, computed = graph_frames(exported, model)
    found = check(model, computed, data.images, truth, identity)
    assert (found.images, found.model) == (3, facts.model)
    assert found.exported.keys() == found.own.keys() == {"segm", "bbox"}
    assert max(one.largest for one in found.deviations.values()) < 1e-4
    client.main([str(exported), str(photos / "val"), "--out", str(tmp_path)])
    written = check(model, recorded_frames(tmp_path), data.images, truth, identity)
    assert msgspec.json.encode(written.exported) == msgspec.json.encode(found.exported)
    (tmp_path / "1.frame").write_bytes((tmp_path / "2.frame").read_bytes())
    with pytest.raises(CommandError):
        check(model, recorded_frames(tmp_path), data.images, truth, identity)


def test_a_sweep_takes_what_a_device_wrote(
    client: ModuleType, exported: Path, photos: Path, model: SplitModel, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    client.main([str(exported), str(photos / "val"), "--out", str(frames)])

    def rows(out: str, conditions: tuple[str, ...] = ("quantize(bits=8)", "quantize(bits=4)"), **more: Any) -> Any:
        options = SweepOptions(photos, CONFIG, conditions, tmp_path / out, **more)
        return {row.id: row for row in run_sweep(options, Console(quiet=True)).rows}

    own, device = rows("own"), rows("device", frames=frames)
    assert device.keys() == own.keys()
    for name in own:
        assert device[name].scores == own[name].scores
        assert device[name].bits_per_image == pytest.approx(own[name].bits_per_image, rel=0.05)  # without p6
        assert device[name].fidelity.get("psnr_f") == pytest.approx(own[name].fidelity.get("psnr_f"), abs=0.1)
    read = wire.read((frames / "1.frame").read_bytes())
    weak = replace(read, tensors=tuple(replace(one, data=one.data * np.float32(0.9)) for one in read.tensors))
    (frames / "1.frame").write_bytes(b"".join(wire.write(weak)))
    weaker = rows("weak", frames=frames)
    psnr = [one["feature: quantize(bits=8)"].fidelity["psnr_f"] for one in (device, weaker)]
    assert psnr[1] < psnr[0] - 1, "fidelity is to the network's own features, whatever the device made of them"
    assert weaker["clean.feature"].scores == own["clean.feature"].scores
    with pytest.raises(CommandError, match="holds another sweep"):
        rows("own", frames=frames)
    with pytest.raises(CommandError, match="engine local"):
        rows("http", frames=frames, engine="http")
    (frames / "2.frame").unlink()
    with pytest.raises(CommandError, match=r"2\.frame"):
        rows("lacking", frames=frames)


def test_what_cannot_be_exported_is_refused(tmp_path: Path, model: SplitModel) -> None:
    with pytest.raises(CommandError):
        export_edge(CONFIG, tmp_path, reduction="quantize(bits=4)")
    with pytest.raises(ConditionError):
        export_edge(CONFIG, tmp_path, reduction="pca(components=8)")  # nothing is fitted to these weights
    with pytest.raises(ModelError):
        export_edge(ModelConfig(model="nothing"), tmp_path)
    with pytest.raises(CommandError):
        graph_frames(tmp_path, model)


def _levels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = {"p2": (16, 24), "p3": (8, 12), "p4": (4, 6), "p5": (2, 3)}
    return {name: rng.normal(size=(256, *shape)).astype(np.float32) for name, shape in shapes.items()}
