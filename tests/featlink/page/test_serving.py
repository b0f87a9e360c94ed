"""The page as a process: where it says it is, HEAD, paths below a proxy's, settings that are wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from featlink.page.__main__ import main


@contextmanager
def page(**settings: str) -> Iterator[str]:
    """A page without services; gives the address that its log says."""
    environment = {
        **os.environ,
        "FEATLINK_PORT": "0",
        **{f"FEATLINK_{name}": value for name, value in settings.items()},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "featlink.page"], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line["event"] == "the page is at"
        yield str(line["url"])
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A page that listens on all addresses, behind a proxy of this machine, with settings that are set to nothing."""
    with page(HOST="0.0.0.0", PROXIES="127.0.0.1", LOG_LEVEL="", TIMEOUT_S="") as url:
        yield url


def below(url: str, prefix: str, headers: dict[str, str]) -> None:
    """Check that every page asks for its own files below a path alone."""
    for path in ("/", "/explore", "/runs"):
        text = httpx.get(url + path, headers=headers).text
        own = re.findall(r'(?:href|src)=\\?["\'](/[^"\'\\]*)', text)
        assert {f"{prefix}/assets/page.css", f"{prefix}/assets/page.js", f"{prefix}/explore"} <= set(own)
        assert [one for one in own if not one.startswith(f"{prefix}/")] == []


def test_the_log_says_an_address_to_open_which_answers_head(url: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    for path in ("/", "/explore", "/livez", "/readyz", "/assets/page.css"):
        head, get = httpx.head(url + path), httpx.get(url + path)
        assert head.status_code == get.status_code == 200
        assert head.content == b""
    assert httpx.head(f"{url}/no-such").status_code == 404
    assert httpx.post(f"{url}/explore").status_code == 405


def test_below_a_proxys_path_nothing_is_asked_for_beside_it(url: str) -> None:
    below(url, "/lab/demo", {"x-forwarded-prefix": "/lab/demo"})


@pytest.mark.extended
def test_below_a_root_path_nothing_is_asked_for_beside_it() -> None:
    with page(ROOT_PATH="/lab/demo") as url:
        assert url.endswith("/lab/demo")
        below(url.removesuffix("/lab/demo"), "/lab/demo", {"x-forwarded-prefix": "/of/a/stranger"})


@pytest.mark.parametrize("prefix", ["//evil.org", "/x'><script>", "javascript:alert(1)", "/a b"])
def test_a_strange_prefix_is_passed_over(url: str, prefix: str) -> None:
    text = httpx.get(url, headers={"x-forwarded-prefix": prefix}).text
    assert 'href="/assets/page.css"' in text
    assert prefix not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("LOG_LEVEL", "loud"), ("PORT", "x"), ("MAX_PICTURE_MB", "0"), ("ROOT_PATH", "demo"), ("PROXIES", "nginx")],
)
def test_a_wrong_setting_is_named_with_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"FEATLINK_{name}", value)
    with pytest.raises(SystemExit, match="1"):
        main()
    assert json.loads(capsys.readouterr().out)["reason"].startswith(f"wrong settings: FEATLINK_{name}: ")
