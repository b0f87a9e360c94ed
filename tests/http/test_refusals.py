"""Bad input is a problem of the caller's, with a clear body."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import Any

import httpx
import pytest
from deployment import Deployment, serve
from requests_by_hand import infer, picture
from waiting import wait_until

from featlink.channel.app import create_app as channel_app
from featlink.channel.settings import ChannelSettings
from featlink.shared.frames import wire


def test_a_default_condition_for_features_alone_refuses_images(services: Deployment) -> None:
    condition = "quantize(bits=4) @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=0:1, p6=0:1"
    httpx.put(f"{services.channel}/v1/condition", json=condition).raise_for_status()
    try:
        assert infer(services.edge, picture())["bits"] > 0
        response = httpx.post(f"{services.edge}/v1/infer", content=picture(), params={"domain": "image"}, timeout=60)
    finally:
        httpx.put(f"{services.channel}/v1/condition", json="identity").raise_for_status()
    assert response.status_code == 400
    assert "range=fixed is for features" in response.json()["detail"]


def test_a_default_condition_with_levels_of_another_network_is_refused(services: Deployment) -> None:
    condition = "quantize(bits=4) @ range=fixed, p2=0:1, c5=0:1"
    response = httpx.put(f"{services.channel}/v1/condition", json=condition)
    assert response.status_code == 400
    assert "p2, p3, p4, p5, p6" in response.json()["detail"]
    settings = ChannelSettings(cloud_url=services.cloud, condition=condition)
    with serve(channel_app(settings)) as channel:
        wait_until(lambda: "FEATLINK_CONDITION" in httpx.get(f"{channel}/readyz").text, "the reason")
        assert httpx.get(f"{channel}/readyz").status_code == 503
        httpx.put(f"{channel}/v1/condition", json="identity").raise_for_status()
        assert httpx.get(f"{channel}/readyz").status_code == 200


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
        ("POST", "/v1/runs", b'{"dataset": 5}', 422),
        ("POST", "/v1/runs", b'{"dataset": "starter", "name": true}', 422),
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
        (picture(), {"condition": "image: identity", "domain": "feature"}, 400),
        (picture(), {"run": "f" * 32, "image_id": 1}, 404),
        (picture(), {"domain": "video"}, 422),
    ],
    ids=["100MB", "bomb", "text", "empty", "unknown", "parameter", "domain", "run", "no-domain"],
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
