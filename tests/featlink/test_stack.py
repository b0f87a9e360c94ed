"""The launcher and the command line with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from tiny_model import TINY
from waiting import wait_until

from featlink import launcher, results
from featlink.errors import CommandError
from featlink.launcher import Stack, free_port, free_ports


def featlink(*arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "featlink", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures with one box each."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "annotations").mkdir()
    (folder / "val").mkdir()
    truth: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": [{"id": 1}]}
    for i in (1, 2):
        pixels = np.random.default_rng(i).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "val" / f"{i}.png")
        truth["images"].append({"id": i, "width": 128, "height": 96, "file_name": f"{i}.png"})
        box = {"bbox": [10, 10, 50, 40], "area": 2000, "iscrowd": 0, "segmentation": [[10, 10, 60, 10, 60, 50, 10, 50]]}
        truth["annotations"].append({"id": i, "image_id": i, "category_id": 1, **box})
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    settings = {"model": TINY, "database_url": f"sqlite:///{tmp_path}/runs.sqlite"}
    with Stack(free_ports(), settings, lambda name, line: None) as running:
        running.wait_ready()
        yield running


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def processes(stack: Stack) -> list[psutil.Process]:
    ports = {stack.ports.edge, stack.ports.channel, stack.ports.cloud}
    children = psutil.Process().children()
    return [p for p in children if {c.laddr.port for c in p.net_connections() if c.status == "LISTEN"} & ports]


@pytest.mark.extended
def test_garbage_does_not_grow_the_services(stack: Stack) -> None:
    running = processes(stack)
    assert len(running) == 3
    before = {p.pid: p.memory_info().rss for p in running}
    garbage = os.urandom(100_000_000)
    for _ in range(3):
        assert httpx.post(f"{stack.ports.edge_url}/v1/infer", content=garbage, timeout=60).status_code == 413
        for url in (f"{stack.ports.channel_url}/v1/transmit", f"{stack.ports.cloud_url}/v1/detect"):
            assert httpx.post(url, content=garbage, timeout=60).status_code == 400
        lying = b"FEATLINK" + bytes([1, 0, 0, 0]) + garbage[:1_000_000]
        assert httpx.post(f"{stack.ports.cloud_url}/v1/detect", content=lying, timeout=60).status_code == 400
    for process in running:
        assert process.memory_info().rss - before[process.pid] < 40 << 20, process.cmdline()


@pytest.mark.extended
def test_no_service_outlives_a_killed_launcher(tmp_path: Path) -> None:
    ports = free_ports()
    numbers = {"--edge-port": ports.edge, "--channel-port": ports.channel, "--cloud-port": ports.cloud}
    numbers["--page-port"] = free_port()
    options = [str(word) for pair in numbers.items() for word in pair]
    command = [sys.executable, "-m", "featlink", "up", "--model", TINY, *options]
    launcher = subprocess.Popen(
        [*command, "--database", str(tmp_path / "runs.sqlite")], stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout is not None
    try:
        next(line for line in launcher.stdout if line.startswith("ready"))
        services = psutil.Process(launcher.pid).children()
        assert len(services) == 4  # the page too
    finally:
        launcher.kill()
        launcher.wait()
    _, alive = psutil.wait_procs(services, timeout=20)
    assert not alive


@pytest.mark.extended
def test_one_that_dies_is_started_again_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_RESTARTS", 2)
    logged: list[str] = []
    settings = {"model": TINY, "database_url": f"sqlite:///{tmp_path}/runs.sqlite"}
    ports = free_ports()
    with Stack(ports, settings, lambda name, line: logged.append(f"{name} {line}")) as stack:
        stack.wait_ready()
        for times in range(1, 3):  # the channel starts fastest
            [channel] = [p for p in processes(stack) if "featlink.channel" in p.cmdline()]
            channel.kill()
            channel.wait(10)
            wait_until(lambda n=times: sum("starting it again" in line for line in logged) == n, "the restart")
            wait_until_listening(f"{ports.channel_url}/livez")
            stack.check()
        [channel] = [p for p in processes(stack) if "featlink.channel" in p.cmdline()]
        channel.kill()
        with pytest.raises(CommandError, match=r"the channel stopped \(killed by signal 9\).* started again 2 times"):
            wait_until(stack.check, "the launcher to give up")
        others = processes(stack)
        assert len(others) == 2
    assert not any(p.is_running() for p in others)


def wait_until_listening(url: str) -> None:
    def answers() -> bool:
        try:
            return httpx.get(url, timeout=5).is_success
        except httpx.TransportError:
            return False

    wait_until(answers, f"{url} to answer", pause=0.1)


@pytest.mark.extended
def test_demo_starts_services_and_ends_with_a_report(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = featlink("demo", "--dataset", str(dataset), "--model", TINY, "--limit", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert {row.domain for row in results.load(out)} == {"feature", "image"}
    assert "\ncloud " in (out / "services.log").read_text(errors="replace")  # libraries write there, too
    assert done.stdout.splitlines()[-1] == f"report: {out}/report.html"
    assert "<h1>" in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.extended)])
def test_up_infer_and_interrupt(dataset: Path, tmp_path: Path, how: signal.Signals) -> None:
    ports = free_ports()
    command = [sys.executable, "-m", "featlink", "up", "--model", TINY, "--database", str(tmp_path / "runs.sqlite")]
    for name in ("edge", "channel", "cloud"):
        command += [f"--{name}-port", str(getattr(ports, name))]
    page = free_port()
    command += ["--page-port", str(page)]
    up = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert up.stdout is not None
    try:
        assert any(line.startswith("ready:") for line in iter(up.stdout.readline, ""))
        services = psutil.Process(up.pid).children()
        assert len(services) == 4  # the page too
        wait_until(lambda: answers(f"http://127.0.0.1:{page}/livez"), "the page to answer", pause=0.1)
        assert "Featlink playground" in httpx.get(f"http://127.0.0.1:{page}/", timeout=60).text
        overlay = tmp_path / "overlay.png"
        picture = str(dataset / "val" / "1.png")
        done = featlink(
            "infer", picture, "--edge", ports.edge_url, "--condition", "quantize:bits=4", "--out", str(overlay)
        )
        assert done.returncode == 0, done.stderr
        assert "detections" in done.stdout
        assert Image.open(overlay).size == (128, 96)
        wrong = featlink("infer", picture, "--edge", ports.edge_url, "--condition", "no_such")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
        assert "no_such" in wrong.stderr
        forged = httpx.get(f"{ports.edge_url}/a%0Acloud    00:00:00 forged%1B[2J")
        assert forged.status_code == 404
        up.send_signal(how)
        rest = up.stdout.read()
        assert up.wait(60) == 0, rest
        assert "stopped" in rest
        assert r"/a\ncloud    00:00:00 forged\x1b[2J" in rest
        assert not any(p.is_running() for p in services)
    finally:
        up.kill()
        up.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("infer", "no/such.jpg"), "no file"),
        (("demo", "--dataset", "no/such", "--weights", "x"), "instances_X.json"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = featlink(*arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "variable", "value", "message"),
    [
        ("channel", "CONDITION", "sharpen", "unknown step 'sharpen'"),
        ("edge", "PORT", "abc", "Input should be a valid integer"),
        (
            "cloud",
            "DATABASE_URL",
            "sqlite:////no/such/folder/runs.sqlite",
            "cannot open database sqlite:////no",
        ),
        ("cloud", "DATABASE_URL", "nonsense", "database URL: Could not parse"),
        ("cloud", "WEIGHTS", "nonsense", "no weights at"),
        ("edge", "MODEL", "nonsense", "unknown model 'nonsense'"),
        ("channel", "KEEP_BITSTREAMS", "/proc/none", "cannot write in /proc/none"),
        ("page", "LOG_LEVEL", "abc", "String should match pattern"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_one_line(
    service: str, variable: str, value: str, message: str
) -> None:
    environment = os.environ | {f"FEATLINK_{variable}": value}
    command = [sys.executable, "-m", f"featlink.{service}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    [line] = (done.stdout + done.stderr).strip().splitlines()
    told = json.loads(line)
    assert (told["service"], told["level"], told["event"]) == (service, "error", "cannot start")
    assert f"FEATLINK_{variable}: {message}" in told["reason"]


def test_what_is_no_port_is_refused() -> None:
    done = featlink("up", "--edge-port", "99999")
    assert done.returncode == 2
    assert "65535" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.extended
def test_missing_weights_stop_the_demo_with_one_line(dataset: Path, tmp_path: Path) -> None:
    done = featlink("demo", "--dataset", str(dataset), "--weights", str(tmp_path / "none.pth"), "--out", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "none.pth" in done.stderr
