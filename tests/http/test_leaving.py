"""Clients that hang up and links that take for ever: nothing is done for nobody, and the next client is served."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.parse

import httpx
import psutil
import pytest
from deployment import Deployment
from requests_by_hand import infer, picture
from waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_link_that_would_take_too_long_is_refused_at_once(services: Deployment) -> None:
    httpx.put(f"{services.channel}/v1/link", json={"rtt_ms": 3_600_000, "wait": True}).raise_for_status()
    started = time.monotonic()
    try:
        refused = httpx.post(f"{services.edge}/v1/infer", content=picture(), timeout=120)
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    assert refused.status_code == 422
    assert "the link would take 1.8e+03 s" in refused.json()["detail"]
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "link",
    [
        {"rtt_ms": 172_800_000, "wait": True},
        {"jitter_ms": 1e300, "wait": True},
        {"rate_mbps": 0, "wait": True},
        {"rate_mbps": 1e-9, "wait": True},
    ],
)
def test_a_link_of_days_cannot_be_set(services: Deployment, link: dict[str, object]) -> None:
    before = httpx.get(f"{services.channel}/v1/link").json()
    assert httpx.put(f"{services.channel}/v1/link", json=link).status_code == 422
    assert httpx.get(f"{services.channel}/v1/link").json() == before
    assert infer(services.edge, picture())["bits"] > 0


def test_a_client_that_leaves_frees_the_whole_chain(services: Deployment) -> None:
    """The channel waits for its link, or an encoder runs, for nobody: both end, and the next client is served."""
    httpx.put(f"{services.channel}/v1/link", json={"rtt_ms": 110_000, "wait": True}).raise_for_status()
    try:
        for _ in range(6):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{services.edge}/v1/infer", content=picture(), timeout=httpx.Timeout(60, read=0.5))
    finally:
        httpx.put(f"{services.channel}/v1/link", json={}).raise_for_status()
    started = time.monotonic()
    assert infer(services.edge, picture())["bits"] > 0
    assert time.monotonic() - started < 40


def test_clients_that_do_not_read_their_frames_hold_up_nobody(services: Deployment) -> None:
    data = picture()
    host, port = services.edge.removeprefix("http://").split(":")
    request = f"POST /v1/features HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
    with contextlib.ExitStack() as stalled:
        for _ in range(20):  # more than there are places to work
            client = stalled.enter_context(socket.create_connection((host, int(port))))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(request)
        assert infer(services.edge, data)["bits"] > 0


def test_an_encoder_does_not_run_for_nobody(services: Deployment) -> None:
    def encoders() -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                if "ffmpeg" in process.name():
                    found.append(process)
        return found

    data, slow = picture(1600, 1200), {"condition": "image: vvenc(qp=10, preset=slower) @ at=original"}
    host, port = services.edge.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        target = "/v1/infer?" + urllib.parse.urlencode(slow)
        client.sendall(f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        wait_until(encoders, "the encoder to start")
    wait_until(lambda: not encoders(), "the encoder to stop")
