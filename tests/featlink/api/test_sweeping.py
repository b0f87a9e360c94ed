"""A sweep from Python: the numbers of ``results.csv``."""

from __future__ import annotations

import builtins
import csv
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

import featlink as fl
from featlink.shared.conditions.registry import chain
from featlink.shared.evaluation.coco_metrics import CocoEvaluator
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.run import SweepResult


def run(tiny: Path, config: ModelConfig, conditions: Any, **more: Any) -> list[dict[str, Any]]:
    return fl.sweep(str(tiny), conditions, **{"limit": 1, "progress": False, **vars(config), **more})


def test_rows_are_the_files_and_the_same_call_continues(tiny: Path, config: ModelConfig, tmp_path: Path) -> None:
    rows = run(tiny, config, "image: quantize(bits=2)", out=tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == [
        {name: line[name] for name in row} for row, line in zip(rows, lines, strict=True)
    ]
    assert [row["id"] for row in rows] == ["clean.feature", "clean.image", "image: quantize(bits=2)"]
    assert {"bbox_AP", "segm_AP", "bits_per_image", "bpp", "psnr_f", "psnr_i", "heads_ms"} <= rows[2].keys()
    assert run(tiny, config, "image: quantize(bits=2)", out=str(tmp_path)) == rows, "nothing is computed again"


def test_a_sweep_keeps_its_metrics_or_does_not_go_on(
    tiny: Path, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(fl.Evaluator[int]):
        figures = (fl.Figure("count.found", "objects found"),)
        primary = "count.found"

        def update(self, item: Any, truth: Any, prediction: Any) -> int:
            return len(prediction)

        def compute(self, samples: Any) -> dict[str, float | None]:
            return {"count.found": sum(samples) / len(samples)}

    condition = "image: quantize(bits=2)"
    with monkeypatch.context() as known:
        known.setattr("featlink.results.evaluators", lambda: (CocoEvaluator(), Counting()))
        known.setattr("featlink.sweeps.figures.evaluators", lambda: (CocoEvaluator(), Counting()))
        rows = run(tiny, config, condition, out=tmp_path)
        assert rows[0]["count_found"] > 0
        assert run(tiny, config, condition, out=tmp_path) == rows
    written = (tmp_path / "results.csv").read_bytes()
    with pytest.raises(fl.FeatlinkError, match=r"count\.found"):
        run(tiny, config, condition, out=tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == written
    (tmp_path / "figures.json").unlink()
    assert "count_found" not in run(tiny, config, condition, out=tmp_path)[0]


def test_conditions_come_in_many_forms(tiny: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run_sweep(options: Any, console: Any) -> SweepResult:
        asked.append(options)
        return SweepResult([], "complete")

    monkeypatch.setattr("featlink.sweeps.run.run_sweep", run_sweep)
    [step] = chain(fl.parse("quantize(bits=3)"))
    seeded = fl.parse("gaussian_noise(sigma=9) @ seed=0")
    assert run(tiny, config, ["paper.table5", step, seeded], seeds=[4, 5]) == []
    from featlink.sweeps.plan import make_plan

    [options] = asked
    plan = make_plan(options.conditions, options.seeds)
    assert [run.name for run in plan[-2:]] == [
        "feature: quantize(bits=3) seed=0",
        "feature: gaussian_noise(sigma=9) seed=0",
    ]
    assert len(plan) == 2 + 6 + 2
    assert vars(options.config) == vars(config)
    assert not options.out.exists(), "kept nowhere"


def test_an_interruption_is_not_a_result(tiny: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featlink.sweeps.run.run_sweep", lambda *_: SweepResult([], "interrupted"))
    with pytest.raises(KeyboardInterrupt):
        run(tiny, config, "identity")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engine": "steam"}, "an engine is one of local, http, ray, not 'steam'"),
        ({"limit": 0}, "limit is a number of images from 1 on, not 0"),
        ({"seeds": [1, 1]}, "seeds are different numbers"),
        ({"depth": 50}, "a model has no depth; it has model, weights"),
        ({"conditions": ["sharpen"]}, "unknown step 'sharpen'"),
        ({"dataset": "nowhere"}, "nowhere has no annotations"),
    ],
)
def test_bad_input_is_one_line(wrong: dict[str, Any], message: str, tiny: Path) -> None:
    with pytest.raises(fl.FeatlinkError, match=message) as caught:
        fl.sweep(**{"dataset": tiny, "conditions": "identity", "progress": False, **wrong})
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_numpy_are_numbers(tiny: Path, config: ModelConfig, tmp_path: Path) -> None:
    rows = run(tiny, config, "image: quantize(bits=2)", limit=np.int64(1), seeds=np.arange(1), out=tmp_path)
    assert {row["images"] for row in rows} == {1}
    sent = fl.transmit(np.zeros((16, 24, 3), np.uint8), "jpeg @ at=original", image_id=np.int64(7))
    assert sent.bits


class ZMQInteractiveShell:
    """By this name rich knows a notebook."""


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("progress", [False, True])
def test_a_notebook_needs_no_widgets_for_its_bar(
    progress: bool, tiny: Path, config: ModelConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setattr("featlink.sweeps.run.Progress", partial(Progress, refresh_per_second=1000))
    run(tiny, config, "image: quantize(bits=2)", fidelity=False, progress=progress)
    shown = capsys.readouterr().out
    assert ("3/3" in shown) == progress
    assert shown.count("image × condition") <= 6, "a cell keeps what is drawn over"
    assert shown.count("starting") == shown.count("evaluating") == progress
