"""HTTPS by setting: served, and trusted in the next service."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deployment import serve
from tiny_model import TINY
from waiting import wait_until

from featlink.channel.app import create_app
from featlink.channel.settings import ChannelSettings
from featlink.client import Client
from featlink.errors import CommandError
from featlink.launcher import Ports, Stack, free_port, free_ports
from featlink.shared.service.access import digest
from featlink.shared.service.settings import ServiceSettings
from featlink.shared.service.transport import NextService

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    made = f"req -x509 -newkey rsa:2048 -nodes -days 1 -keyout {key} -out {chain} -subj /CN=featlink"
    command = ["openssl", *made.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


@pytest.fixture(scope="module")
def channel(certificate: tuple[Path, Path]) -> Iterator[str]:
    """A channel that serves HTTPS: its base URL."""
    port = free_port()
    chain, key = certificate
    settings = {"FEATLINK_PORT": str(port), "FEATLINK_TLS_CERT": str(chain), "FEATLINK_TLS_KEY": str(key)}
    command = [sys.executable, "-m", "featlink.channel"]
    with subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.DEVNULL) as process:
        url = f"https://127.0.0.1:{port}"
        try:
            wait_until(lambda: process.poll() is not None or answers(url, chain), "the channel to answer")
            yield url
        finally:
            process.terminate()


def answers(url: str, chain: Path) -> bool:
    try:
        return asked(url, chain).is_success
    except httpx.TransportError:
        return False


def asked(url: str, chain: Path | None) -> httpx.Response:
    trusted = NextService("channel", url, ServiceSettings(tls_ca=chain))

    async def ask() -> httpx.Response:
        try:
            return await trusted._client.get("/livez")
        finally:
            await trusted.close()

    return asyncio.run(ask())


def test_whoever_trusts_the_certificate_is_answered(channel: str, certificate: tuple[Path, Path]) -> None:
    assert asked(channel, certificate[0]).json() == {"status": "alive"}


@pytest.fixture
def tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """HTTPS for services that are started now; the certificate."""
    chain, key = certificate
    monkeypatch.setenv("FEATLINK_TLS_CERT", str(chain))
    monkeypatch.setenv("FEATLINK_TLS_KEY", str(key))
    return chain


@pytest.mark.slow
def test_the_launcher_and_the_client_speak_https(tls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEATLINK_TLS_CA", str(tls))
    ports = free_ports()
    settings = {"model": TINY, "database_url": f"sqlite:///{tmp_path}/runs.sqlite"}
    with Stack(ports, settings, lambda *_: None) as stack:
        stack.wait_ready(180)
        assert ports.edge_url.startswith("https://")
        with Client(ports.edge_url, ports.cloud_url) as client:
            assert client.model()["weights"]


def never_ready(url: str) -> str:
    """Why a service cannot be waited for; it is told long before the time is over."""
    ports = Ports(edge=int(url.rpartition(":")[2]), scheme=url.partition(":")[0])
    with pytest.raises(CommandError) as told:
        Stack(ports, {}, lambda *_: None).wait_ready(180)
    return str(told.value)


def test_a_certificate_that_nobody_trusts_is_told_at_once(channel: str) -> None:
    assert "FEATLINK_TLS_CA" in never_ready(channel)


def test_a_token_that_is_missing_is_told_at_once() -> None:
    settings = ChannelSettings(cloud_url="http://127.0.0.1:1", tokens=digest("a-token-of-somebody-else"))
    with serve(create_app(settings)) as guarded:
        assert "FEATLINK_TOKEN " in never_ready(guarded)


def test_others_do_not_trust_it(channel: str) -> None:
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        asked(channel, None)


def test_plain_http_gets_nothing(channel: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(channel.replace("https:", "http:") + "/livez", timeout=10)


@pytest.mark.parametrize("given", [{"tls_cert": "chain.pem"}, {"tls_key": "key.pem"}])
def test_certificate_and_key_go_together(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="go together"):
        ServiceSettings(**given)


@pytest.mark.parametrize(
    ("named", "content"),
    [
        pytest.param(("TLS_CERT", "TLS_KEY"), None, marks=pytest.mark.slow),
        (("TLS_CERT", "TLS_KEY"), "no certificate"),
        pytest.param(("TLS_CA",), None, marks=pytest.mark.slow),
        (("TLS_CA",), "no certificate"),
    ],
)
def test_what_is_no_certificate_stops_the_service_with_one_line(
    tmp_path: Path, named: tuple[str, ...], content: str | None
) -> None:
    file = tmp_path / "chain.pem"
    if content is not None:
        file.write_text(content)
    settings = {f"FEATLINK_{name}": str(file) for name in named}
    settings |= {"FEATLINK_PORT": str(free_port()), "FEATLINK_CLOUD_URL": "https://127.0.0.1:1"}
    command = [sys.executable, "-m", "featlink.channel"]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1
    assert f"FEATLINK_{named[0]} {file}" in done.stdout
