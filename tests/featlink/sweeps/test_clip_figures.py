"""A sweep over clips: their evaluators' figures, and intervals that draw clips with all their frames."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from clips_by_hand import Box, detection, evaluated, ground_truth

from featlink import samples
from featlink.results import Row, Sequences
from featlink.shared.evaluation.coco import GroundTruth
from featlink.shared.evaluation.confidence_intervals import LEAST_IMAGES
from featlink.shared.evaluation.protocol import ClipEvaluator, grouped
from featlink.shared.store import Result
from featlink.sweeps.engine import ItemResult, ModelInfo
from featlink.sweeps.figures import write_figures
from featlink.sweeps.folder import Records
from featlink.sweeps.plan import make_plan

CLIPS, FRAMES = 12, 4
BOX: Box = (20, 20, 40, 40)
TRUTH = ground_truth([[{1: BOX}] * FRAMES] * CLIPS)
GROUPS = {"flicker", "tracking"}


def swept(folder: Path, truth: GroundTruth, clips: int = CLIPS) -> list[Row]:
    """Clips of even number are found in every frame, the others in none, so frames of a clip are all alike."""
    folder.mkdir(exist_ok=True)
    plan = make_plan([], [0])
    with Records(folder, "clips", truth, ModelInfo("m", "w"), plan) as records:
        for image in range(1, clips * FRAMES + 1):
            clip = (image - 1) // FRAMES
            found = [] if clip % 2 else [detection(image, BOX)]
            for run in range(len(plan)):
                records.add(ItemResult(run, Result(image, found, 800 * (1 + clip), {}, {"heads": 1.0})))
        return write_figures(folder, records, truth)


def stills(truth: GroundTruth) -> GroundTruth:
    alone = [msgspec.structs.replace(image, video_id=None, frame_id=None) for image in truth.images]
    return msgspec.structs.replace(truth, images=alone, videos=[])


def test_clips_have_figures_of_their_own(tmp_path: Path) -> None:
    row = swept(tmp_path, TRUTH)[0]
    assert row.figures.keys() >= GROUPS
    assert row.sequences == Sequences(CLIPS, CLIPS * FRAMES, 10, row.bits_per_image / 100)
    assert "streaming_bbox" not in row.figures  # nothing says when answers came
    assert row.figures["flicker"] == {"objects": 0, "false": 0}
    assert row.figures["tracking"]["MOTA"] == pytest.approx(0.5 * 3 / 4)  # a track begins in a clip's second frame
    assert row.intervals["flicker"] == (0, 0)
    low, high = row.intervals["tracking"] or (1, 0)
    assert low < (row.figures["tracking"]["HOTA"] or 0) < high
    with (tmp_path / "results.csv").open() as file:
        line = next(csv.DictReader(file))
    assert float(line["tracking_HOTA_low"]) == low
    assert float(line["kbps"]) == float(line["bits_per_image"]) / 100


def test_stills_have_none(tmp_path: Path) -> None:
    row = swept(tmp_path, stills(TRUTH))[0]
    assert not GROUPS & row.figures.keys()
    assert row.sequences is None
    assert b"sequences" not in (tmp_path / "results.json").read_bytes()


def test_intervals_draw_clips(tmp_path: Path) -> None:
    """Frames of a clip are alike, so clips tell as little as if they were stills: the interval is twice as wide."""
    of_clips, of_stills = swept(tmp_path / "clips", TRUTH)[0], swept(tmp_path / "stills", stills(TRUTH))[0]
    assert of_clips.bbox == of_stills.bbox
    widths = [high - low for row in (of_clips, of_stills) for low, high in [row.intervals["bbox"] or (0, 0)]]
    assert widths[0] == pytest.approx(FRAMES**0.5 * widths[1], rel=0.2)

    read = samples.load(tmp_path / "clips")
    assert read is not None
    by_clip = read.draws.reshape(len(read.draws), CLIPS, FRAMES)
    assert (by_clip == by_clip[:, :, :1]).all()
    assert (by_clip[:, :, 0].sum(axis=1) == CLIPS).all()
    [run] = read.runs["clean.feature"]
    assert (run.pools["bbox"].draws(read.draws) == read.ap["bbox"]["clean.feature"]).all()
    expected = by_clip[:, :, 0] @ (800 * np.arange(1, CLIPS + 1)) / CLIPS
    np.testing.assert_allclose(read.mean_bits("clean.feature"), expected)


def test_the_manuals_evaluator_works_as_it_is_printed() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "reference" / "plugins.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", manual, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace("@fl.register_evaluator\n", ""), names)  # other tests do without it
    judge = names["Steadiness"]()
    assert isinstance(judge, ClipEvaluator)
    one, other = evaluated(ground_truth([[{}] * 3, [{}] * 2]), [[BOX], [BOX, BOX], [], [BOX], [BOX]])
    samples = [judge.update_clip(clip) for clip in (one, other)]
    assert samples == [(3, 2), (0, 1)]
    assert grouped(judge.compute(samples)) == {"steadiness": {"change": 1.0}}


def test_too_few_clips_have_no_intervals(tmp_path: Path) -> None:
    clips = LEAST_IMAGES - 1
    few = ground_truth([[{1: BOX}] * FRAMES] * clips)
    row = swept(tmp_path, few, clips)[0]
    assert set(row.intervals.values()) == {None}
