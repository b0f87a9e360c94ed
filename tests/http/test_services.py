"""The three services together over HTTP: answers, bits, runs, refusals."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from deployment import Deployment, serve
from fastapi import FastAPI, Request, Response
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from shared import wire

SIZES = {"min_size": 128, "max_size": 224, "proposals": 100, "max_detections": 10}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def picture(width: int = 160, height: int = 120, seed: int = 0, form: str = "PNG") -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((height // 8 + 1, width // 8 + 1, 1)))
    out = io.BytesIO()
    Image.fromarray(pixels[:height, :width].astype(np.uint8)).save(out, form)
    return out.getvalue()


class Recorder:
    """A cloud that writes down what it gets and passes it on."""

    def __init__(self, cloud: str) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.app = FastAPI()
        client = httpx.AsyncClient(base_url=cloud, timeout=120)

        @self.app.api_route("/{path:path}", methods=["GET", "POST"])
        async def forward(path: str, request: Request) -> Response:
            body = await request.body()
            if request.method == "POST":
                self.bodies.append(body)
                self.headers.append(dict(request.headers))
            kept = {k: v for k, v in request.headers.items() if k.startswith(("content-type", "featlink", "trace"))}
            answer = await client.request(
                request.method, f"/{path}", content=body, params=request.query_params, headers=kept
            )
            return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])


@pytest.fixture(scope="module")
def services(deploy: Any, random_checkpoint: Callable[[str], Path]) -> Iterator[Deployment]:
    weights = str(random_checkpoint("maskrcnn_resnet50_fpn"))
    with deploy(weights=weights, profile="exact", score_threshold=0.15, **SIZES) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def link(services: Deployment, random_checkpoint: Callable[[str], Path]) -> Iterator[tuple[str, Recorder]]:
    """An edge whose link to the cloud is written down: its URL and the recorder."""
    from channel.app import create_app as channel_app
    from channel.settings import ChannelSettings
    from edge.app import create_app as edge_app
    from edge.settings import EdgeSettings

    recorder = Recorder(services.cloud)
    weights = str(random_checkpoint("maskrcnn_resnet50_fpn"))
    with (
        serve(recorder.app) as cloud,
        serve(channel_app(ChannelSettings(cloud_url=cloud))) as channel,
        serve(edge_app(EdgeSettings(channel_url=channel, weights=weights, profile="exact", **SIZES))) as edge,
    ):
        while not httpx.get(f"{edge}/readyz").is_success:
            pass
        yield edge, recorder


def infer(edge: str, data: bytes, **params: Any) -> dict[str, Any]:
    response = httpx.post(f"{edge}/v1/infer", content=data, params=params, timeout=120)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def expected_frame_bytes(frame: bytes) -> int:
    """A frame's length from its header alone, by the wire format's documentation."""
    header_bytes = struct.unpack_from("<I", frame, 12)[0]
    header = msgspec.msgpack.decode(frame[24 : 24 + header_bytes])
    total = 24 + header_bytes
    for _, dtype, (channels, height, width), _, bits, _ in header["tensors"]:
        samples = channels * height * width
        payload = -(-samples * bits // 8) if bits else samples * np.dtype(dtype).itemsize
        total = -(-total // 64) * 64 + payload
    return -(-total // 64) * 64


@pytest.mark.parametrize(
    ("mode", "condition"),
    [
        ("feature", "identity"),
        ("feature", "quantize:bits=8"),
        ("feature", "quantize:bits=4"),
        ("feature", "quantize:bits=3"),
        ("feature", "quantize:bits=11"),
        ("image", "identity"),
        ("image", "quantize:bits=2"),
        ("image", "quantize(bits=5) @ at=original"),
    ],
)
def test_bits_are_those_of_the_frame_on_the_link(link: tuple[str, Recorder], mode: str, condition: str) -> None:
    edge, recorder = link
    answer = infer(edge, picture(), mode=mode, condition=condition)
    crossed = recorder.bodies[-1]
    assert answer["bits"] == 8 * len(crossed) == 8 * expected_frame_bytes(crossed)
    assert answer["bpp"] == answer["bits"] / (160 * 120)


def test_codec_bits_are_those_of_its_bitstreams(link: tuple[str, Recorder]) -> None:
    edge, recorder = link
    coarse = infer(edge, picture(), condition="vvenc(qp=45)")
    fine = infer(edge, picture(), condition="vvenc(qp=30)")
    samples = 8 * len(recorder.bodies[-1])
    assert coarse["bits"] < fine["bits"] < samples
    assert coarse["fidelity"]["psnr_f"] < fine["fidelity"]["psnr_f"]


def test_trace_goes_from_the_edge_to_the_cloud(link: tuple[str, Recorder]) -> None:
    edge, recorder = link
    response = httpx.post(f"{edge}/v1/infer", content=picture(), headers={"traceparent": TRACE}, timeout=120)
    assert response.headers["x-request-id"] == TRACE.split("-")[1]
    assert recorder.headers[-1]["traceparent"].split("-")[1] == TRACE.split("-")[1]


def test_same_request_same_frame(link: tuple[str, Recorder]) -> None:
    edge, recorder = link
    for _ in range(2):
        infer(edge, picture(), condition="feature: gaussian_noise(sigma=5) | quantize(bits=4) @ seed=3", image_id=8)
    assert recorder.bodies[-1] == recorder.bodies[-2]


def test_fidelity_and_stages_are_reported(services: Deployment) -> None:
    answer = infer(services.edge, picture(), condition="quantize:bits=8")
    assert answer["fidelity"]["psnr_f"] == pytest.approx(58.92, abs=0.3)
    assert set(answer["timings"]) >= {"decode", "backbone", "serialize", "distort", "transfer", "heads", "total"}
    clean = infer(services.edge, picture())
    assert clean["fidelity"]["psnr_f"] is None  # infinite: nothing was changed
    assert clean["fidelity"]["ssim_f"] == 1


def test_form_upload_and_overlay(services: Deployment) -> None:
    url = f"{services.edge}/v1/infer"
    by_form = httpx.post(url, files={"image": ("a.png", picture())}, timeout=120).json()
    assert by_form["detections"] == infer(services.edge, picture())["detections"]
    overlay = httpx.post(url, content=picture(), params={"render": "png"}, timeout=120)
    assert overlay.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(overlay.content)).size == (160, 120)


def test_features_distort_detect_by_hand_equals_infer(services: Deployment) -> None:
    condition = "quantize:bits=4"
    frame = httpx.post(f"{services.edge}/v1/features", content=picture(), timeout=120)
    kind = {"content-type": frame.headers["content-type"]}
    httpx.put(f"{services.channel}/v1/condition", json=condition).raise_for_status()
    try:
        distorted = httpx.post(f"{services.channel}/v1/distort", content=frame.content, headers=kind, timeout=120)
    finally:
        httpx.put(f"{services.channel}/v1/condition", json="identity").raise_for_status()
    assert json.loads(distorted.headers["featlink-report"])["bits"] == 8 * len(distorted.content)
    answer = httpx.post(f"{services.cloud}/v1/detect", content=distorted.content, headers=kind, timeout=120).json()
    assert answer["detections"] == infer(services.edge, picture(), condition=condition)["detections"]


def test_p6_can_be_rebuilt_in_the_cloud(services: Deployment, random_checkpoint: Callable[[str], Path]) -> None:
    from edge.app import create_app as edge_app
    from edge.settings import EdgeSettings

    weights = str(random_checkpoint("maskrcnn_resnet50_fpn"))
    settings = EdgeSettings(channel_url=services.channel, weights=weights, profile="exact", send_p6=False, **SIZES)
    with serve(edge_app(settings)) as edge:
        while not httpx.get(f"{edge}/readyz").is_success:
            pass
        without = infer(edge, picture())
    whole = infer(services.edge, picture())
    assert without["detections"] == whole["detections"]
    assert without["bits"] < whole["bits"]


def test_link_takes_time(services: Deployment) -> None:
    httpx.put(f"{services.channel}/v1/link", json={"rate_mbps": 8, "rtt_ms": 50}).raise_for_status()
    try:
        answer = infer(services.edge, picture(), condition="quantize:bits=2")
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    assert answer["timings"]["transfer"] == pytest.approx(25 + answer["bits"] / 8000)


def test_a_link_can_really_take_its_time(services: Deployment) -> None:
    httpx.put(f"{services.channel}/v1/link", json={"rtt_ms": 1600, "wait": True}).raise_for_status()
    started = time.monotonic()
    try:
        answer = infer(services.edge, picture())
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    assert answer["timings"]["transfer"] == 800
    assert time.monotonic() - started >= 0.8
    assert answer["timings"]["total"] >= 800


def test_a_lossy_link_sends_again_or_erases(services: Deployment) -> None:
    clean = {mode: infer(services.edge, picture(), mode=mode) for mode in ("feature", "image")}
    try:
        httpx.put(f"{services.channel}/v1/link", json={"loss": 0.3}).raise_for_status()
        again = infer(services.edge, picture())
        httpx.put(f"{services.channel}/v1/link", json={"loss": 0.3, "on_loss": "erase"}).raise_for_status()
        erased = {mode: infer(services.edge, picture(), mode=mode) for mode in ("feature", "image")}
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    assert again["detections"] == clean["feature"]["detections"]
    assert again["link_bits"] > again["bits"] == clean["feature"]["link_bits"]
    for mode in ("feature", "image"):
        assert erased[mode]["detections"] != clean[mode]["detections"]
        assert erased[mode]["fidelity"][f"psnr_{mode[0]}"] < 40


def test_an_images_pyramid_is_compared_with_the_clean_one(services: Deployment) -> None:
    data = picture(184, 136, seed=11)
    assert "psnr_f" not in infer(services.edge, data, mode="image", condition="quantize:bits=3")["fidelity"]
    clean = infer(services.edge, data, mode="image", condition="identity")["fidelity"]
    assert (clean["psnr_f"], clean["ssim_f"], clean["spearman_f"]) == (None, 1, 1)
    coarse, fine = (
        infer(services.edge, data, mode="image", condition=f"quantize:bits={bits}")["fidelity"] for bits in (3, 6)
    )
    assert coarse["psnr_f"] < fine["psnr_f"]
    assert coarse["ssim_f"] < fine["ssim_f"] < 1
    assert "psnr_f" not in infer(services.edge, data, mode="image", condition="quantize:bits=3", fidelity=False).get(
        "fidelity", {}
    )


def test_named_conditions_travel_like_any(services: Deployment) -> None:
    named = infer(services.edge, picture(), condition="paper.table4.feature.bits2")
    assert named["detections"] == infer(services.edge, picture(), condition="quantize:bits=2")["detections"]
    catalogue = httpx.get(f"{services.channel}/v1/conditions").json()
    assert catalogue["named"]["paper.table4.feature.bits2"] == "feature: quantize(bits=2)"


def test_bitstreams_can_be_kept(services: Deployment, tmp_path: Path) -> None:
    from channel.app import create_app as channel_app
    from channel.settings import ChannelSettings

    frame = httpx.post(f"{services.edge}/v1/features", content=picture(), params={"image_id": 7}, timeout=120)
    kind = {"content-type": frame.headers["content-type"]}
    settings = ChannelSettings(cloud_url=services.cloud, condition="vvenc(qp=40)", keep_bitstreams=tmp_path)
    with serve(channel_app(settings)) as channel:
        httpx.post(f"{channel}/v1/transmit", content=frame.content, headers=kind, timeout=120).raise_for_status()
    kept = sorted(path.name for path in tmp_path.glob("7/*/*"))
    assert kept == ["p2.vvc", "p3.vvc", "p4.vvc", "p5.vvc", "p6.vvc", "side.json"]


def test_run_metrics_equal_pycocotools(services: Deployment) -> None:
    pictures = {i: picture(160 + 8 * i, 120, i) for i in range(1, 5)}
    clean = {i: infer(services.edge, data)["detections"] for i, data in pictures.items()}
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": c} for c in range(1, 91)]}
    for i, data in pictures.items():
        width, height = Image.open(io.BytesIO(data)).size
        truth["images"].append({"id": i, "width": width, "height": height, "file_name": f"{i}.png"})
        for found in clean[i][::2]:
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": i,
                    "category_id": found["category_id"],
                    "bbox": found["bbox"],
                    "area": float(rle.area(found["segmentation"])),
                    "iscrowd": len(truth["annotations"]) % 7 == 3,
                    "segmentation": found["segmentation"],
                }
            )
    assert truth["annotations"]
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = int(annotation["iscrowd"])
    cloud = httpx.Client(base_url=services.cloud, timeout=120)
    cloud.put("/v1/datasets/tiny", json=truth).raise_for_status()
    run = cloud.post("/v1/runs", json={"dataset": "tiny", "condition": "quantize:bits=5"}).json()["id"]
    params = {"condition": "quantize:bits=5", "run": run}
    for i, data in pictures.items():
        first = infer(services.edge, data, image_id=i, **params)
        again = infer(services.edge, data, image_id=i, **params)  # a retry changes nothing
        first["timings"].pop("total")
        again["timings"].pop("total")
        assert first == again
        metrics = cloud.get(f"/v1/runs/{run}/metrics").json()
        assert metrics["run"]["done"] == i
    found = cloud.get(f"/v1/runs/{run}/detections").json()
    assert found
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        detections = reference.loadRes(found)
        for kind in ("bbox", "segm"):
            evaluator = COCOeval(reference, detections, kind)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            numbers = [None if value == -1 else value for value in evaluator.stats.tolist()]
            assert list(metrics[kind].values()) == numbers
    assert metrics["bits_per_image"] > 0
    assert cloud.delete(f"/v1/runs/{run}").status_code == 204
    assert cloud.get(f"/v1/runs/{run}").status_code == 404


def test_a_run_refuses_what_is_not_its_own(services: Deployment) -> None:
    """Pictures of another size than annotated, whose masks would all be missed, and detections of another network."""
    truth = {"images": [{"id": 1, "width": 160, "height": 120}], "annotations": [], "categories": []}
    cloud = httpx.Client(base_url=services.cloud, timeout=120)
    cloud.put("/v1/datasets/sized", json=truth).raise_for_status()
    run = cloud.post("/v1/runs", json={"dataset": "sized"}).json()["id"]
    response = httpx.post(
        f"{services.edge}/v1/infer", content=picture(168, 120), params={"run": run, "image_id": 1}, timeout=60
    )
    assert response.status_code == 409
    assert response.json()["detail"] == "image 1 of data set 'sized' has 160×120 pixels, the picture sent 168×120"
    frame = httpx.post(f"{services.edge}/v1/features", content=picture(), params={"image_id": 1}, timeout=60).content
    read = wire.read(frame)
    foreign = b"".join(wire.write(replace(read, meta=replace(read.meta, weights="0" * 16))))
    response = cloud.post("/v1/detect", content=foreign, params={"run": run})
    assert response.status_code == 409
    assert response.json()["detail"].startswith(f"run {run} is of maskrcnn_resnet50_fpn with weights ")
    assert cloud.get(f"/v1/runs/{run}").json()["done"] == 0


def test_a_default_condition_for_features_alone_refuses_images(services: Deployment) -> None:
    condition = "quantize(bits=4) @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=0:1, p6=0:1"
    httpx.put(f"{services.channel}/v1/condition", json=condition).raise_for_status()
    try:
        assert infer(services.edge, picture())["bits"] > 0
        response = httpx.post(f"{services.edge}/v1/infer", content=picture(), params={"mode": "image"}, timeout=60)
    finally:
        httpx.put(f"{services.channel}/v1/condition", json="identity").raise_for_status()
    assert response.status_code == 400
    assert "range=fixed is for features" in response.json()["detail"]


_ODD_TEXT = (
    b'{"images": [{"id": 1, "width": 8, "height": 8}], "categories": [{"id": 1}], "annotations": [{"id": 1, '
    b'"image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0, '
    b'"segmentation": {"size": [8, 8], "counts": "\xff"}}]}'
)
"""Not UTF-8, where a string is expected."""


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"/v1/runs?offset={10**30}", b"", 422),
        ("PUT", "/v1/datasets/odd", _ODD_TEXT, 422),
    ],
)
def test_odd_input_is_a_problem_of_the_callers(
    services: Deployment, method: str, path: str, body: bytes, status: int
) -> None:
    assert httpx.request(method, f"{services.cloud}{path}", content=body).status_code == status


def bomb() -> bytes:
    """The header of a PNG of 50,000×50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
    ("body", "params", "status"),
    [
        (bytes(100_000_000), {}, 413),
        (bomb(), {}, 415),
        (b"just some text, called photo.jpg", {}, 415),
        (b"", {}, 415),
        (picture(), {"condition": "no_such(thing=1)"}, 400),
        (picture(), {"condition": "quantize:bits=17"}, 400),
        (picture(), {"condition": "image: identity", "mode": "feature"}, 400),
        (picture(), {"run": "f" * 32, "image_id": 1}, 404),
        (picture(), {"mode": "video"}, 422),
    ],
    ids=["100MB", "bomb", "text", "empty", "unknown", "parameter", "domain", "run", "mode"],
)
def test_refusals_are_problems(services: Deployment, body: bytes, params: dict[str, Any], status: int) -> None:
    response = httpx.post(f"{services.edge}/v1/infer", content=body, params=params, timeout=60)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert "\n" not in problem["detail"]


def test_foreign_weights_are_refused(services: Deployment) -> None:
    frame = httpx.post(f"{services.edge}/v1/features", content=picture(), timeout=120).content
    read = wire.read(frame)
    foreign = b"".join(wire.write(replace(read, meta=replace(read.meta, weights="0" * 16))))
    response = httpx.post(f"{services.cloud}/v1/detect", content=foreign, timeout=60)
    assert response.status_code == 409
    assert "weights" in response.json()["detail"]
