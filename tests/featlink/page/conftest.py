"""A real browser, and the page beside real services: the channel and the page are processes that can be killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from deployment import Deployment
from drawn_sweep import Made, make_drawn
from synthetic_sweep import make_dataset, make_sweep
from waiting import wait_until, wait_until_ready

from featlink.launcher import free_ports

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
SIZE: dict[str, Any] = {"weights": "starter", "min_size": 192, "max_size": 256, "threads": 2}
"""A small network input: quick, and the bundled detector still finds what is large."""


@dataclass
class Process:
    """A service as a process, started again on the same port after it was killed."""

    module: str
    port: int
    settings: dict[str, str]
    running: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {**os.environ, "FEATLINK_PORT": str(self.port), "FEATLINK_HOST": "127.0.0.1", **self.settings}
        self.running = subprocess.Popen(
            [sys.executable, "-m", f"featlink.{self.module}"], env=environment, stdout=subprocess.DEVNULL
        )

    def wait(self) -> None:
        wait_until(self._answers, f"the {self.module} to answer", pause=0.05)

    def kill(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait()

    def _answers(self) -> bool:
        if self.running is not None and self.running.poll() is not None:
            raise RuntimeError(f"{self.module} stopped with {self.running.returncode}")
        try:
            return httpx.get(f"{self.url}/livez").is_success
        except httpx.TransportError:
            return False


@dataclass(frozen=True)
class Site:
    """The page's address, what it shows, the channel behind it, and its folder for browsers."""

    url: str
    services: Deployment
    channel: Process
    browser_edge: Path


@pytest.fixture(scope="package")
def playwright() -> Any:
    found = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the PATH")
    return found


@pytest.fixture(scope="module")  # while it is open, no other test in this process can run an event loop
def browser(playwright: Any) -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps")
    rows = {
        "small": Made("feature: vvenc(qp=30)", 0.59, 40, 300, 120),
        "large": Made("image: jpeg(quality=80)", 0.59, 100, 10, 200),
    }
    make_drawn(folder / "decide", rows)
    make_sweep(folder / "first", make_dataset(tmp_path_factory.mktemp("data") / "tiny"))
    return folder


@pytest.fixture(scope="package")
def site(playwright: Any, sweeps: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    del playwright  # without a browser, nothing needs to start
    ports = free_ports()
    page_port = free_ports().edge
    urls = {"EDGE_URL": ports.edge_url, "CHANNEL_URL": ports.channel_url, "CLOUD_URL": ports.cloud_url}
    urls |= {"DATABASE_URL": f"sqlite:///{tmp_path_factory.mktemp('cloud')}/runs.sqlite", "SWEEPS": str(sweeps)}
    browser_edge = tmp_path_factory.mktemp("browser")  # empty until a test puts an export there
    urls |= {"PROXIES": "127.0.0.1", "BROWSER_EDGE": str(browser_edge)}
    settings = {f"FEATLINK_{name.upper()}": str(value) for name, value in {**urls, **SIZE}.items()}
    places = {"cloud": ports.cloud, "edge": ports.edge, "channel": ports.channel, "page": page_port}
    processes = {name: Process(name, port, settings) for name, port in places.items()}
    try:
        for process in processes.values():
            process.start()
        for process in processes.values():
            process.wait()
        wait_until_ready(ports.edge_url)
        deployment = Deployment(ports.edge_url, ports.channel_url, ports.cloud_url)
        yield Site(processes["page"].url, deployment, processes["channel"], browser_edge)
    finally:
        for process in processes.values():
            process.kill()


@pytest.fixture
def tab(browser: Any, site: Site) -> Iterator[Any]:
    """A browser's tab; at the end, nothing may have gone wrong in its console nor have left this machine."""
    context = browser.new_context(base_url=site.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    wrong: list[str] = []

    def said(message: Any) -> None:
        refused = "the server responded with a status of 415" in message.text  # of a picture that is none
        if message.type in ("error", "warning") and not refused:
            wrong.append(message.text)

    context.on("console", said)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on(
        "request",
        lambda request: (
            None if request.url.startswith((f"{site.url}/", "data:", "blob:")) else wrong.append(request.url)
        ),
    )
    yield context.new_page()
    context.close()
    assert wrong == []
