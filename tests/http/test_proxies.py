"""The reverse proxies of the documentation, in front of a service."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from deployment import serve
from fastapi import Request
from waiting import LONG, wait_until
from websockets.sync.client import connect

from featlink.launcher import free_port
from featlink.shared.service.app import create_service
from featlink.shared.service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "access.md"
SCENES = ROOT / "starter" / "data" / "starter" / "val"
COMMANDS = {
    "nginx": ["nginx", "-p", "{folder}", "-c", "{file}", "-e", "stderr", "-g", "daemon off;"],
    "caddyfile": ["caddy", "run", "--config", "{file}", "--adapter", "caddyfile"],
}


async def nothing() -> None:
    pass


@contextmanager
def proxy(kind: str, folder: Path, port: int, upstream: str) -> Iterator[str]:
    """A proxy with the documentation's configuration, but for what stands behind one port: its address."""
    if shutil.which(COMMANDS[kind][0]) is None:
        pytest.skip(f"{COMMANDS[kind][0]} is not installed")
    [text] = re.findall(rf"```{kind}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    own = free_port()
    text = text.replace("8080", str(own)).replace(f"127.0.0.1:{port}", upstream.removeprefix("http://"))
    if kind == "nginx":
        paths = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
        paths += f" uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; access_log off;"
        text = f"user {getpass.getuser()}; pid {folder}/pid; events {{}} http {{ {paths} {text} }}"
    else:
        text = "{\n\tadmin off\n}\n" + text
    file = folder / "configuration"
    file.write_text(text)
    command = [word.format(folder=folder, file=file) for word in COMMANDS[kind]]
    with subprocess.Popen(command, env=os.environ | {"HOME": str(folder)}) as process:
        try:
            yield f"http://127.0.0.1:{own}"
        finally:
            process.terminate()


@pytest.fixture(params=COMMANDS)
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a proxy with a service below /edge."""
    settings = ServiceSettings(proxies="127.0.0.1")
    app = create_service("edge", "A service.", settings, load=nothing, unready=nothing, close=nothing)

    @app.post("/v1/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    with serve(app) as url, proxy(request.param, tmp_path, 8001, url) as address:
        wait_until(lambda: answers(f"{address}/edge/livez"), "the proxy to answer")
        yield address


@pytest.fixture(params=COMMANDS)
def proxied_page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a proxy with the live page below /page."""
    environment = os.environ | {"FEATLINK_PORT": "0", "FEATLINK_PROXIES": "127.0.0.1"}
    command = [sys.executable, "-m", "featlink.page"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as page:
        try:
            assert page.stdout is not None
            url = json.loads(page.stdout.readline())["url"]
            with proxy(request.param, tmp_path, 8000, url) as address:
                wait_until(lambda: answers(f"{address}/page/livez"), "the proxy to answer")
                yield address
        finally:
            page.terminate()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_a_service_is_usable_below_a_path(proxied: str) -> None:
    origin = {"origin": proxied}
    body = bytes(3_000_000)
    assert httpx.post(f"{proxied}/edge/v1/length", content=body, headers=origin).json() == len(body)
    refused = httpx.post(f"{proxied}/edge/v1/length", content=body, headers={"origin": "http://evil.example"})
    assert refused.status_code == 403
    page = httpx.get(f"{proxied}/edge/docs").text
    files = re.findall(r"""(?:src|href)=["']([^"']+)""", page) + re.findall(r"""url: ["']([^"']+)""", page)
    assert len(files) >= 4
    for path in files:
        assert httpx.get(proxied + path).status_code == 200, path
    assert httpx.get(f"{proxied}/edge/openapi.json").json()["servers"] == [{"url": "/edge"}]


@pytest.mark.extended
def test_the_page_is_usable_below_a_path(proxied_page: str) -> None:
    files: set[str] = set()
    for path in ("/", "/explore", "/runs"):
        files |= set(re.findall(r"""(?:href|src)=\\?["'](/[^"'\\]*)""", httpx.get(f"{proxied_page}/page{path}").text))
    assert {"/page/assets/page.css", "/page/explore"} <= files
    assert all(path.startswith("/page/") for path in files)
    for path in files:
        assert httpx.get(proxied_page + path).status_code == 200, path
    scene = (SCENES / "000000000002.jpg").read_bytes()
    key = httpx.post(f"{proxied_page}/page/pictures", content=scene).json()["key"]
    assert httpx.get(f"{proxied_page}/page/pictures/{key}").content == scene
    socket = f"ws{proxied_page.removeprefix('http')}/page/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    with connect(socket) as connection:
        assert str(connection.recv(LONG)).startswith("0{")  # Engine.IO's greeting
