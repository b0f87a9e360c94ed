"""What crosses the link between channel and cloud: its bits, its trace, its time and its losses."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import httpx
import msgspec
import numpy as np
import pytest
from deployment import Deployment, serve
from fastapi import FastAPI, Request, Response
from requests_by_hand import SIZES, infer, picture
from tiny_model import TINY
from waiting import wait_until_ready

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


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
def link(services: Deployment) -> Iterator[tuple[str, Recorder]]:
    """An edge whose link to the cloud is written down: its URL and the recorder."""
    from featlink.channel.app import create_app as channel_app
    from featlink.channel.settings import ChannelSettings
    from featlink.edge.app import create_app as edge_app
    from featlink.edge.settings import EdgeSettings

    recorder = Recorder(services.cloud)
    with (
        serve(recorder.app) as cloud,
        serve(channel_app(ChannelSettings(cloud_url=cloud))) as channel,
        serve(edge_app(EdgeSettings(channel_url=channel, model=TINY, **SIZES))) as edge,
    ):
        wait_until_ready(edge)
        yield edge, recorder


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
    ("domain", "condition"),
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
def test_bits_are_those_of_the_frame_on_the_link(link: tuple[str, Recorder], domain: str, condition: str) -> None:
    edge, recorder = link
    answer = infer(edge, picture(), domain=domain, condition=condition, fidelity=False)
    crossed = recorder.bodies[-1]
    assert answer["bits"] == 8 * len(crossed) == 8 * expected_frame_bytes(crossed)
    assert answer["bpp"] == answer["bits"] / (160 * 120)
    measured = infer(edge, picture(), domain=domain, condition=condition)
    assert measured["bits"] == answer["bits"]  # the clean picture that is measured with is not counted


@pytest.mark.slow
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


def test_link_takes_time(services: Deployment) -> None:
    httpx.put(f"{services.channel}/v1/link", json={"rate_mbps": 8, "rtt_ms": 50}).raise_for_status()
    try:
        answer = infer(services.edge, picture(), condition="quantize:bits=2")
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    assert answer["timings"]["transfer"] == pytest.approx(25 + answer["bits"] / 8000)


def test_a_link_can_really_take_its_time(services: Deployment) -> None:
    httpx.put(f"{services.channel}/v1/link", json={"rtt_ms": 1600, "wait": True}).raise_for_status()
    try:
        answer = infer(services.edge, picture())
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    assert answer["timings"]["transfer"] == 800
    assert answer["timings"]["total"] >= 800


def test_a_lossy_link_sends_again_or_erases(services: Deployment) -> None:
    clean = {domain: infer(services.edge, picture(), domain=domain) for domain in ("feature", "image")}
    try:
        httpx.put(f"{services.channel}/v1/link", json={"loss": 0.3}).raise_for_status()
        again = infer(services.edge, picture())
        httpx.put(f"{services.channel}/v1/link", json={"loss": 0.3, "on_loss": "erase"}).raise_for_status()
        erased = {domain: infer(services.edge, picture(), domain=domain) for domain in ("feature", "image")}
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    assert again["detections"] == clean["feature"]["detections"]
    assert again["link_bits"] > again["bits"] == clean["feature"]["link_bits"]
    for domain in ("feature", "image"):
        assert erased[domain]["detections"] != clean[domain]["detections"]
        assert erased[domain]["fidelity"][f"psnr_{domain[0]}"] < 40


def test_units_of_a_codec_are_lost_as_in_process(services: Deployment) -> None:
    plain = "image: jpeg(stripes=6) @ at=original"
    link = {"on_loss": "erase", "loss": 0.3, "burst": 2, "parity": 0.2, "mtu": 300, "conceal": "neighbour"}
    link |= {"rtt_ms": 30, "deadline_ms": 50, "seed": 0}
    step = "packet_loss(rate=0.3, burst=2, parity=0.2, mtu=300, conceal=neighbour, retries=1)"
    by_link = infer(services.edge, picture(), condition=plain, link=json.dumps(link), image_id=4)
    by_step = infer(services.edge, picture(), condition=plain.replace(" @", f" | {step} @"), image_id=4)
    assert by_link["packets"] == by_step["packets"]
    assert by_link["packets"]["lost"] > 0
    assert by_link["packets"]["resent"] > 0
    assert by_link["packets"]["units"] == 4  # of two rows of blocks each
    assert by_link["detections"] == by_step["detections"]
    assert by_link["timings"]["transfer"] == 45  # one way, and a round trip more


def test_a_picture_of_which_nothing_came_is_answered(services: Deployment) -> None:
    lost = infer(services.edge, picture(), condition="quantize(bits=4) | entropy(stripes=3) | packet_loss(rate=1)")
    assert lost["detections"] == []
    assert {name for name, _ in lost["packets"]["missing"]} == {"p2", "p3", "p4", "p5", "p6"}
    assert "packets" not in infer(services.edge, picture(), condition="quantize(bits=4) | entropy")
    nonsense = '{"parity": 0.5}'
    answer = httpx.post(f"{services.edge}/v1/infer", content=picture(), params={"link": nonsense})
    assert answer.status_code in (400, 422)
