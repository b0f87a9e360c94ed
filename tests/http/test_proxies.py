"""The reverse proxies of the documentation, in front of a service."""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from deployment import serve
from fastapi import Request
from waiting import wait_until

from featlink.launcher import free_port
from featlink.shared.service.app import create_service
from featlink.shared.service.settings import ServiceSettings

DOCS = Path(__file__).parents[2] / "docs" / "access.md"
COMMANDS = {
    "nginx": ["nginx", "-p", "{folder}", "-c", "{file}", "-e", "stderr", "-g", "daemon off;"],
    "caddyfile": ["caddy", "run", "--config", "{file}", "--adapter", "caddyfile"],
}


async def nothing() -> None:
    pass


@pytest.fixture(params=COMMANDS)
def proxied(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service below /edge of a proxy with the documentation's configuration: the proxy's address."""
    if shutil.which(COMMANDS[request.param][0]) is None:
        pytest.skip(f"{COMMANDS[request.param][0]} is not installed")
    settings = ServiceSettings(proxies="127.0.0.1")
    app = create_service("edge", "A service.", settings, load=nothing, unready=nothing, close=nothing)

    @app.post("/v1/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    [text] = re.findall(rf"```{request.param}\n(.*?)```", DOCS.read_text(), re.DOTALL)
    port = free_port()
    with serve(app) as url:
        text = text.replace("8080", str(port)).replace("http://127.0.0.1:8001", url)
        text = text.replace("127.0.0.1:8001", url.removeprefix("http://"))
        if request.param == "nginx":
            paths = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
            paths += f" uwsgi_temp_path {tmp_path}/uwsgi; scgi_temp_path {tmp_path}/scgi; access_log off;"
            text = f"user {getpass.getuser()}; pid {tmp_path}/pid; events {{}} http {{ {paths} {text} }}"
        else:
            text = "{\n\tadmin off\n}\n" + text
        file = tmp_path / "configuration"
        file.write_text(text)
        command = [word.format(folder=tmp_path, file=file) for word in COMMANDS[request.param]]
        monkeypatch.setenv("HOME", str(tmp_path))
        with subprocess.Popen(command) as proxy:
            try:
                address = f"http://127.0.0.1:{port}"
                wait_until(lambda: answers(f"{address}/edge/livez"), "the proxy to answer")
                yield address
            finally:
                proxy.terminate()


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
