"""``featlink demo``: a sweep through the services that can be stopped, and that ends with a report."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from featlink import results
from featlink.cli import app
from featlink.commands.sweeps import DEMO
from featlink.errors import CommandError
from featlink.report.builder import headline
from featlink.report.sweep import open_sweep
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.engine import ItemResult, WorkItem
from featlink.sweeps.http import HttpEngine
from featlink.sweeps.plan import make_plan
from featlink.sweeps.run import SweepResult


def demo(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


def stored(folder: Path) -> set[tuple[str, int, str]]:
    """What is in the database: run, image, and when it was stored."""
    with sqlite3.connect(folder / "runs.sqlite") as connection:
        return set(connection.execute("SELECT run_id, image_id, created FROM results"))


@pytest.mark.slow
def test_it_goes_on_after_an_interruption_and_ends_with_a_report(
    config: ModelConfig,
    tiny: Path,
    tmp_path: Path,
    deploy: Callable[..., AbstractContextManager[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "demo"
    run = HttpEngine.run

    def interrupted(engine: HttpEngine, tasks: list[WorkItem]) -> Generator[ItemResult, None, None]:
        yield from islice(run(engine, tasks), 5)
        raise KeyboardInterrupt

    network = ("--model", config.model, "--threads", 1)
    with deploy(**vars(config)) as services:
        command = ("--dataset", tiny, *network, "--edge", services.edge, "--out", out, "--limit", 1)
        with monkeypatch.context() as patch:
            patch.setattr(HttpEngine, "run", interrupted)
            stopped = demo(*command)
        assert stopped.exit_code == 130, stopped.output
        assert "the same command continues" in stopped.stdout
        assert not (out / "report.html").exists()
        before = stored(out)
        assert len(before) == 5

        done = demo(*command)
        assert done.exit_code == 0, done.output
        assert before < stored(out)
    planned = make_plan(DEMO, [0])
    rows = results.load(out)
    assert [row.id for row in rows] == [entry.id for entry in planned]
    assert all(row.images == 1 for row in rows)
    assert len(stored(out)) == len(planned)
    assert {row.id for row in rows if row.domain == "image"} >= {"clean.image", "paper.table5.image.qp40"}
    assert done.stdout.splitlines()[-1] == f"report: {out / 'report.html'}"
    assert "vvenc(qp=40)" in done.stdout
    assert f"\n\n{headline(open_sweep(out))}\n" in done.stdout  # what was seen, after the table
    assert "vvenc(qp=40)" in (out / "report.html").read_text()


def test_what_failed_is_said_once_where_nothing_is_left_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = [{"image": 1, "file": "1.png", "conditions": ["a seed=0"], "why": "is damaged"}]
    monkeypatch.setattr("featlink.sweeps.run.run_sweep", lambda *_: SweepResult([], "complete", failed, 1))
    ended = demo("--out", tmp_path / "demo")
    assert ended.exit_code == 3
    assert ended.output.count("image 1 (1.png): is damaged") == 1


def test_bitstreams_are_kept_by_services_started_here(tmp_path: Path) -> None:
    refused = demo("--edge", "http://127.0.0.1:1", "--keep-bitstreams", tmp_path, "--out", tmp_path / "demo")
    assert isinstance(refused.exception, CommandError)
    assert "--edge" in str(refused.exception)
