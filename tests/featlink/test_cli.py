"""The command line as a whole: what it loads, and that it says which version it is."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from featlink.cli import app

COMMANDS = ("demo", "up", "page", "infer", "bench", "merge", "report", "conditions", "steps", "scenes", "fetch")


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_every_command_has_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


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
