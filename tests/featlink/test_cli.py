"""The command line as a whole: what it loads, and that it says which version it is."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featlink.cli import app

COMMANDS = ("demo", "up", "page", "infer", "bench", "merge", "report", "conditions", "steps", "scenes", "fetch")


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_every_command_has_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
from typer.testing import CliRunner
from featlink.cli import app
for arguments in (["--help"], ["bench", "--help"], ["demo", "--help"], ["--version"]):
    assert CliRunner().invoke(app, arguments).exit_code == 0
print(*{"torch", "torchvision", "cv2", "numba", "openvino", "plotly", "sqlalchemy"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"featlink {version('featlink')}\n")


def run(arguments: str, shell_end: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command as a shell starts it."""
    command = f"exec '{sys.executable}' -m featlink {arguments} {shell_end}"
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, timeout=300, check=False, env=os.environ | environment
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    done = run("steps", ">/dev/full")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["featlink: cannot write the output: No space left on device"]


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&-"])
def test_a_closed_stream_ends_nothing(closed: str) -> None:
    done = run("steps", closed)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_locale_that_lacks_signs_ends_nothing() -> None:
    # What an ISO-8859-1 locale gives, which not every machine has.
    done = run("steps", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"quantize: distortion" in done.stdout
    assert b"?" in done.stdout
