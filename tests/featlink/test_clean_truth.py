"""The clean run as the truth: perfect by itself, and any folder of pictures will do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matches_by_hand import image_ids, jittered, small_data_set
from rich.console import Console

from featlink.dataset import ground_truth, open_dataset
from featlink.errors import CommandError
from featlink.report.sweep import about, open_sweep
from featlink.shared.evaluation.coco import parse
from featlink.shared.evaluation.coco_metrics import evaluate
from featlink.shared.evaluation.coco_results import clean_truth
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import merge, run_sweep

CONSOLE = Console(quiet=True)


@pytest.mark.parametrize("masks", [True, False])
def test_the_clean_run_is_perfect_and_a_worse_one_is_not(masks: bool) -> None:
    data = small_data_set()
    clean, worse = jittered(data, 0, 1, 10**6), jittered(data, 5, 1, 10**6)
    if not masks:
        for one in [*clean, *worse]:
            del one["segmentation"]
    truth = clean_truth(parse(data), clean, threshold=0)
    metrics = evaluate(truth, clean, image_ids(data))
    assert metrics.bbox["AP"] == 1
    assert (metrics.segm is not None) == masks
    assert metrics.segm is None or metrics.segm["AP"] == 1
    assert (evaluate(truth, worse, image_ids(data)).bbox["AP"] or 1) < 0.9


def test_only_confident_detections_are_objects() -> None:
    data = small_data_set()
    clean = jittered(data, 0, 1, 10)
    truth = clean_truth(parse(data), clean, threshold=0.5)
    assert len(truth.annotations) == sum(one["score"] >= 0.5 for one in clean)
    assert truth.images == parse(data).images
    assert evaluate(truth, clean, image_ids(data)).bbox["AP"] == 1  # weak ones come after all others
    assert clean_truth(parse(data), [], 0.5).annotations == []


def test_pictures_alone_are_a_data_set(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    shutil.copytree(tiny / "val", folder)
    (folder / "notes.txt").write_text("no picture")
    with pytest.raises(CommandError, match="annotations/instances_X"):
        open_dataset(folder)
    data = open_dataset(folder, "clean")
    assert {number: path.name for number, path in data.images.items()} == {
        1: "2.png",
        2: "4.png",
        3: "5.png",
        4: "9.png",
    }
    truth, repairs = ground_truth(data, "clean")
    assert repairs == ""
    assert [(image.id, image.width, image.height) for image in truth.images] == [(i, 64, 48) for i in (1, 2, 3, 4)]
    assert data.categories() == {}
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="neither annotations nor pictures"):
        open_dataset(tmp_path / "empty", "clean")


@pytest.mark.slow
def test_a_sweep_of_pictures_alone(options: Callable[..., SweepOptions], tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(tiny / "val", folder)
    base: Any = replace(options(), config=options().config.but(score_threshold=0.0), fidelity=False, seeds=(0,))
    with pytest.MonkeyPatch.context() as patch:  # random weights are never confident
        patch.setattr("featlink.shared.evaluation.coco_results.clean_truth.__defaults__", (0.0,))
        whole = replace(base, dataset=folder, truth="clean", out=tmp_path / "whole")
        rows = run_sweep(whole, CONSOLE).rows
        clean = {row.id: row for row in rows}["clean.feature"]
        assert clean.bbox["AP"] == 1
        assert clean.segm is not None
        assert clean.segm["AP"] == 1
        assert all((row.bbox["AP"] or 0) < 1 for row in rows if not row.clean)
        sweep = open_sweep(tmp_path / "whole")
        assert sweep.truth == "clean"
        assert "No annotations were used" in about(sweep).statement
        with pytest.raises(CommandError, match="another sweep"):
            run_sweep(replace(whole, dataset=tiny, truth="annotations"), CONSOLE)
        shards = [replace(whole, shard=(i, 2), out=tmp_path / f"shard{i}") for i in (0, 1)]
        for shard in shards:
            run_sweep(shard, CONSOLE)
        merged = merge([one.out for one in shards], tmp_path / "merged", CONSOLE)
        assert [(row.id, row.bbox) for row in merged] == [(row.id, row.bbox) for row in rows]
