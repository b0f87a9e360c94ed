"""Proxies, read-only homes, odd paths: what surrounds Featlink does not change what it does."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from featlink.client import Client
from featlink.errors import CommandError
from featlink.fetch.download import Checksum, Source, download
from featlink.launcher import Ports, Stack, service_settings
from featlink.shared import fitted
from featlink.shared.models.config import ModelConfig
from featlink.shared.store import Store, sqlite_url


class Recorder(http.server.ThreadingHTTPServer):
    """Answers every GET with JSON and remembers the paths asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.paths.append(self.path)
        body = json.dumps({"status": "ready", "categories": []}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[Recorder, Recorder]]:
    """A service, and a proxy that the environment names."""
    found = Recorder(), Recorder()
    threads = [threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}) for one in found]
    for thread in threads:
        thread.start()
    yield found
    for one, thread in zip(found, threads, strict=True):
        one.shutdown()
        one.server_close()
        thread.join()


@pytest.fixture
def proxied(servers: tuple[Recorder, Recorder], monkeypatch: pytest.MonkeyPatch) -> tuple[Recorder, Recorder]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, servers[1].url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    return servers


def test_a_deployment_is_never_reached_by_way_of_a_proxy(proxied: tuple[Recorder, Recorder]) -> None:
    service, proxy = proxied
    with Client(service.url, service.url) as client:
        assert client.model()["categories"] == []
    Stack(Ports(edge=service.server_port), {}, lambda *_: None).wait_ready(20)
    assert service.paths == ["/v1/model", "/readyz"]
    assert proxy.paths == []


def test_a_download_goes_by_the_proxy(proxied: tuple[Recorder, Recorder], tmp_path: Path) -> None:
    source = Source("http://example.invalid/file", Checksum("md5", "0" * 32))
    with pytest.raises(CommandError, match="is damaged"):
        download(source, tmp_path / "file", lambda *_: None)
    assert proxied[1].paths == ["http://example.invalid/file"]


@pytest.mark.parametrize("value", ["socks4://x", "gopher://x", "http://[::1", "socks5://127.0.0.1:1"])
def test_odd_proxies_are_one_line_of_fetch_and_nothing_to_clients(
    value: str, servers: tuple[Recorder, Recorder], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    monkeypatch.setenv("NO_PROXY", "]::,*?")
    with Client(servers[0].url, servers[0].url) as client:
        assert client.model()["status"] == "ready"
    with pytest.raises(CommandError) as caught:
        download(Source("http://127.0.0.1:1/x", Checksum("md5", "0")), tmp_path / "x", lambda *_: None)
    assert "\n" not in str(caught.value)


def test_where_nothing_listens_the_launcher_is_recommended() -> None:
    with Client("http://127.0.0.1:1", "http://127.0.0.1:1") as client, pytest.raises(CommandError, match="featlink up"):
        client.model()


WATCHED = """
import os, sys

home = os.environ["HOME"]

def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("NETWORK", event, args[-1], flush=True)

sys.addaudithook(watch)
import numpy as np
import featlink.channel.app, featlink.cloud.app, featlink.edge.app
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import build

build(ModelConfig(threads=1, min_size=64, max_size=96)).detect_image(np.zeros((48, 64, 3), np.uint8))
import threading, time
deadline = time.monotonic() + 20
while time.monotonic() < deadline and any(t.name.startswith("Thread-") for t in threading.enumerate()):
    time.sleep(0.05)
print("DONE")
"""


@pytest.mark.slow
def test_nothing_is_told_to_anyone_and_nothing_is_left_in_the_home_folder(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "NUMBA"))}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout == "DONE\n", done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


NOWHERE = """
from numba.core import caching

found = [one for one in caching.CacheImpl._locator_classes if "UserProvided" in one.__name__]
caching.CacheImpl._locator_classes = found  # neither __pycache__ nor a home
from featlink.shared.compiled import cache_folder, numba
import featlink.shared.metrics.ssim

@numba.njit(cache=True)
def one():
    return 1

one()
folder = cache_folder()
assert folder.stat().st_mode & 0o777 == 0o700
assert list(folder.rglob("*.nbi"))
print(folder)
"""


@pytest.mark.slow
def test_without_a_place_for_compiled_code_a_private_folder_is_made_and_removed(tmp_path: Path) -> None:
    nowhere = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), "/dev/null/none")
    environment = os.environ | nowhere | {"TMPDIR": str(tmp_path)}
    (tmp_path / "program.py").write_text(NOWHERE)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == tmp_path
    assert not Path(done.stdout.strip()).exists()


def test_a_user_without_a_home_has_no_fitted_files_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("FEATLINK_FITTED", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert not fitted.home().exists()


@pytest.mark.parametrize("name", ["100%.db", "a?b=c.db", "a#b.db", "two words.db", "ü:@!.db"])
def test_a_database_may_have_any_path(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "50% of?it #1"
    folder.mkdir()
    url = service_settings(ModelConfig(), folder / name)["database_url"]
    for given in (url, sqlite_url(folder / name)):
        Store(given).close()
    assert (folder / name).is_file()
    assert {path.name for path in folder.iterdir()} <= {name, f"{name}-wal", f"{name}-shm"}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1:1", "nothing answers at"),
        ("127.0.0.1:99999", "nothing answers at"),
        ("ray://127.0.0.1:1", "run this on a node of the cluster"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line_at_once(address: str, why: str) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from featlink.sweeps.cluster import Cluster, RayEngine

    started = time.monotonic()
    with pytest.raises(CommandError, match=why):
        RayEngine(ModelConfig(), [], False, Cluster(1, address))
    assert time.monotonic() - started < 30


@pytest.mark.extended
def test_a_long_temporary_folder_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    long = tmp_path / ("x" * 100)
    long.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "featlink", "bench", "--engine", "ray", "--limit", "1", "--out", str(tmp_path / "out")],
        env=os.environ | {"TMPDIR": str(long)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "set TMPDIR to a shorter path" in done.stderr.splitlines()[-1]
