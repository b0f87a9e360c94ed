"""``featlink report`` as typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import featlink as fl
from featlink.cli import app
from featlink.errors import CommandError
from featlink.report.sweep import Sweep
from featlink.shared.errors import FeatlinkError


def featlink(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": "100"})


@pytest.fixture
def folder(sweep: Sweep, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sweep.folder, tmp_path / "sweep"))


@pytest.mark.slow
def test_writes_html_and_markdown_and_shows_the_table(folder: Path, tmp_path: Path) -> None:
    result = featlink(folder, "--no-planes", "--markdown", tmp_path / "new" / "results.md")
    assert result.exit_code == 0, result.output
    assert "Table 5" in (folder / "report.html").read_text()
    assert (tmp_path / "new" / "results.md").read_text().startswith("# Featlink report")
    assert "vvenc(qp=47)" in result.output
    assert "[F] of features" in " ".join(result.output.split())
    assert "starter-model numbers" in result.output


@pytest.mark.slow
def test_python_writes_the_same(folder: Path, sweep: Sweep, tmp_path: Path) -> None:
    featlink(folder, "--no-planes", "--images", 0)
    written = fl.write_report(folder, out=tmp_path / "python.html", planes=False, images=0)
    assert written.read_text() == (folder / "report.html").read_text()
    assert fl.write_report(sweep.folder, folder, compare=True).name == "compare.html"


def test_compares(folder: Path, sweep: Sweep) -> None:
    result = featlink("--compare", sweep.folder, folder)
    assert result.exit_code == 0, result.output
    assert "The same conditions in two sweeps" in (folder / "compare.html").read_text()


@pytest.mark.parametrize("arguments", [["--compare"], ["x"], ["x", "--rates", "r.csv"]])
def test_wrong_number_of_folders(folder: Path, arguments: list[str]) -> None:
    result = featlink(folder, *arguments)
    assert isinstance(result.exception, CommandError)


@pytest.mark.parametrize("name", ["results.json", "manifest.json"])
def test_not_a_sweep(folder: Path, name: str) -> None:
    (folder / name).write_text("no json")
    result = featlink(folder)
    assert isinstance(result.exception, CommandError)
    assert name in str(result.exception)


def test_cannot_be_written(folder: Path) -> None:
    (folder / "report.html").mkdir()
    result = featlink(folder, "--no-planes", "--images", 0)
    assert isinstance(result.exception, FeatlinkError)
    assert "cannot write" in str(result.exception)
