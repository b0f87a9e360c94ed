"""docs/docker.md is a session: its blocks run as they are printed, one after another, in one shell.

It takes an engine, minutes and gigabytes, so it runs where ``FEATLINK_TEST_DOCKER`` is set: to ``build``, or to
``images`` where the images are there already.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from waiting import wait_until

from featlink.channel.settings import ChannelSettings
from featlink.cloud.settings import CloudSettings
from featlink.edge.settings import EdgeSettings
from featlink.launcher import free_port
from featlink.page.context import PageSettings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "docker.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIXED = {"host", "port", "database_url", "state", "channel_url", "cloud_url"}
"""What a container's place in the chain decides, and a user of Compose does not."""
OF_TLS = {"tls_cert", "tls_key", "tls_ca"}
"""Files: a container would need them mounted, see docs/access.md."""
PRELUDE = """
set -euo pipefail
docker() {
    if [ "$1" = compose ] && ! command docker compose version > /dev/null 2>&1; then shift; command docker-compose "$@"
    else command docker "$@"; fi
}
export DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
"""


def blocks() -> list[str]:
    return BLOCK.findall(PAGE.read_text())


def compose() -> dict[str, dict[str, object]]:
    services: dict[str, dict[str, object]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return services


def test_every_setting_of_a_service_is_passed_on_to_it() -> None:
    parts = {"edge": EdgeSettings, "channel": ChannelSettings, "cloud": CloudSettings, "page": PageSettings}
    for name, settings in parts.items():
        passed = set(compose()[name]["environment"])  # type: ignore[call-overload]
        wanted = {f"FEATLINK_{field.upper()}" for field in {*settings.model_fields} - FIXED - OF_TLS - {"address"}}
        assert wanted <= passed, (name, wanted - passed)


def test_what_holds_the_network_can_have_a_gpu() -> None:
    with_gpu = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    taking = {name for name, service in compose().items() if "FEATLINK_DEVICE" in str(service.get("environment"))}
    assert taking == set(with_gpu)
    for service in with_gpu.values():
        [device] = service["deploy"]["resources"]["reservations"]["devices"]
        assert "gpu" in device["capabilities"]
        assert service["environment"]["FEATLINK_DEVICE"] == "${FEATLINK_DEVICE:-cuda}"


def test_an_image_is_built_once() -> None:
    built = [service["image"] for service in compose().values() if "build" in service]
    assert len(set(built)) == len(built)
    assert {str(compose()[name]["image"]) for name in ("edge", "channel", "cloud", "bench")} <= set(map(str, built))


def test_no_service_is_published_to_others_or_restarted_for_ever() -> None:
    for name, service in compose().items():
        for port in service.get("ports", ()):  # type: ignore[attr-defined]
            assert re.match(r"127\.0\.0\.1:|\$\{FEATLINK_(CHANNEL_)?BIND:-127\.0\.0\.1\}:", str(port)), (name, port)
        ours = str(service["image"]).startswith("featlink-")
        assert service.get("restart", "no") in (("no", "on-failure") if ours else ("unless-stopped",)), name


@pytest.mark.slow
def test_a_wrong_setting_is_not_tried_for_ever() -> None:
    """Docker starts again what ends with another code than 0."""
    assert "FEATLINK_REFUSED_EXIT=0" in (ROOT / "Dockerfile").read_text()
    for part, setting in (("channel", "CONDITION"), ("page", "LOG_LEVEL")):
        environment = os.environ | {f"FEATLINK_{setting}": "nonsense", "FEATLINK_REFUSED_EXIT": "0"}
        command = [sys.executable, "-m", f"featlink.{part}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0
        assert f"FEATLINK_{setting}" in done.stdout


@pytest.mark.slow
def test_what_a_reboot_stops_comes_back() -> None:
    """Docker starts again, with itself, what SIGTERM ended, unless the code is 0."""
    url = f"http://127.0.0.1:{(port := free_port())}/livez"
    environment = os.environ | {"FEATLINK_PORT": str(port)}
    with subprocess.Popen([sys.executable, "-m", "featlink.channel"], env=environment) as process:
        wait_until(lambda: answers(url), "the channel to answer")
        process.terminate()
        assert process.wait(60) == 143


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def test_deployments_share_no_volume() -> None:
    volumes = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["volumes"]
    assert not any(volumes.values()), "a name of its own is the same in every project"


def test_the_page_sees_what_the_bench_writes() -> None:
    """At the same paths: a sweep's manifest names its data set's."""

    def mounted(name: str) -> dict[str, str]:
        volumes: Any = compose()[name]["volumes"]
        pairs = [volume.removesuffix(":ro").rsplit(":", 1) for volume in volumes if ":/sweeps/" in volume]
        return dict(pairs)

    assert mounted("page") == mounted("bench") != {}


def test_the_page_has_the_whole_session() -> None:
    text = "\n".join(blocks())
    for word in ("compose build", "compose up -d", "/v1/infer", "/v1/link", "/metrics", "kill -s KILL", "compose down"):
        assert word in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_session_builds_what_up_starts_and_makes_what_up_mounts() -> None:
    text = "\n".join(blocks())
    built = set(text.partition("compose build ")[2].partition("\n")[0].split())
    started = {name: service for name, service in compose().items() if "profiles" not in service}
    assert built == {name for name, service in started.items() if "build" in service}
    folders = {
        str(volume).partition(":-./")[2].partition("}")[0]
        for service in started.values()
        for volume in service.get("volumes", ())  # type: ignore[attr-defined]
        if ":-./" in str(volume)
    }
    made = re.search(r"^mkdir -p ([\w ]+)", text.partition("compose up")[0], re.MULTILINE)
    assert made is not None
    assert folders == set(made[1].split()), "one that Docker makes is root's, and the bench's user cannot write there"


@pytest.mark.extended
def test_the_page_runs_as_it_is_printed(tmp_path: Path) -> None:
    mode = os.environ.get("FEATLINK_TEST_DOCKER")
    if not mode or shutil.which("docker") is None:
        pytest.skip("FEATLINK_TEST_DOCKER is not set, or there is no Docker")
    script = PRELUDE
    for block in blocks():
        lines = [line for line in block.splitlines() if mode == "build" or " build" not in line]
        script += "\n".join(["\n", *lines, "\n"])
    clone = tmp_path / "featlink"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    (tmp_path / "session.sh").write_text(script)  # a file: containers read what they like of standard input
    (tmp_path / "end.sh").write_text(PRELUDE + "docker compose --profile bench --profile metrics down --volumes")
    project = os.environ | {"COMPOSE_PROJECT_NAME": f"featlink-test-{os.getpid()}"}  # whose volumes are no developer's
    try:
        done = subprocess.run(
            ["bash", "-x", tmp_path / "session.sh"],
            cwd=clone,
            env=project,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
    finally:
        subprocess.run(["bash", tmp_path / "end.sh"], cwd=clone, env=project, timeout=300, check=False)
    (tmp_path / "session.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    assert "8 of 64 images" in done.stdout
    assert '"done":16' in done.stdout
    assert '"rate_mbps":20' in done.stdout
    assert (clone / "out" / "bench" / "report.html").is_file()
