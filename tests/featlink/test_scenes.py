"""``featlink scenes`` writes a data set that the bench takes, and says in one line why it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featlink.cli import app
from featlink.commands.data import scenes
from featlink.dataset import open_dataset
from featlink.errors import CommandError


def test_a_folder_of_scenes_is_written(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    arguments = ["scenes", "--n", "3", "--seed", "7", "--out", str(out), "--art", "held-out", "--workers", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"3 scenes in {out}" in result.output.replace("\n", "")
    data = open_dataset(out)
    assert len(data.images) == 3
    annotations = json.loads(data.annotations.read_bytes())["annotations"]
    assert {annotation["style"] for annotation in annotations} == {"twemoji"}


@pytest.mark.parametrize("arguments", [["--seed", "1000"], ["--n", "0"], ["--art", "photos"]])
def test_what_is_out_of_range_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["scenes", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match=r"^cannot write scenes to .*file: ") as caught:
        scenes(tmp_path / "file", n=1, workers=1)
    assert len(str(caught.value).splitlines()) == 1
