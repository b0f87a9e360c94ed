"""The tutorial's programs run as they are printed, and both give the same AP."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


@pytest.mark.extended
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "tutorial"}
    for number, program in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)):
        exec(compile(program, f"tutorial, program {number + 1}", "exec"), names)  # the page's own words
    printed = re.findall(r"mask AP (\S+)", capsys.readouterr().out)
    stock, ours = printed[:3], printed[3:6]
    assert stock == ours
    assert float(stock[0]) > float(stock[2])
    assert len(names["rows"]) >= 2  # type: ignore[arg-type]
    assert (tmp_path / "out/tutorial/results.json").exists()
