"""Tracking: HOTA, IDF1 and MOTA are TrackEval's, by its own program on files and by hand, and the tracker is steady."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips_by_hand import Box, detection, evaluated, ground_truth

from featlink.shared.evaluation.protocol import ClipResult, Recomputed, clip_evaluators
from featlink.shared.evaluation.tracking import Scored, TrackingEvaluator, Tracks, scored, track

pytest.importorskip("trackeval")
pytest.importorskip("trackers")

EVALUATOR = TrackingEvaluator()
A: Box = (10, 10, 40, 40)
B: Box = (100, 100, 40, 40)
HALF: Box = (10, 10, 40, 25)
"""Of A: IoU 0.625."""
FRAMES = 10


def tracks(*frames: dict[int, Box], category: int = 1) -> list[Tracks]:
    return [Tracks([list(box) for box in one.values()], list(one), [category] * len(one)) for one in frames]


BOTH = tracks(*[{1: A, 2: B}] * FRAMES)
CASES = {
    "perfect": (BOTH, tracks(*[{5: A, 7: B}] * FRAMES)),
    "one is missed": (BOTH, tracks(*[{5: A}] * FRAMES)),
    "identities are swapped": (BOTH, tracks(*[{5: A, 7: B}] * 5, *[{7: A, 5: B}] * 5)),
    "a new identity": (BOTH, tracks(*[{5: A, 7: B}] * 4, *[{6: A, 7: B}] * 6)),
    "false ones beside": (BOTH, tracks(*[{5: A, 7: B, 9: (150.0, 10.0, 20.0, 20.0)}] * FRAMES)),
    "boxes that fit by half": (BOTH, tracks(*[{5: HALF, 7: B}] * FRAMES)),
    "gaps": (tracks({1: A}, {}, {1: A, 2: B}, {2: B}), tracks({5: A}, {5: A}, {}, {7: B})),
    "nothing found": (BOTH, tracks(*[{}] * FRAMES)),
    "nothing there": (tracks(*[{}] * FRAMES), tracks(*[{5: A}] * FRAMES)),
}


def by_trackeval(folder: Path, cases: dict[str, tuple[list[Tracks], list[Tracks]]]) -> dict[str, dict[str, Any]]:
    """What TrackEval's program makes of MOT files: metrics by sequence, and of all as COMBINED_SEQ."""
    import trackeval

    (folder / "tracked" / "data").mkdir(parents=True)
    for name, (truth, found) in cases.items():
        (folder / "truth" / name / "gt").mkdir(parents=True)
        for path, frames in (("truth/{}/gt/gt.txt", truth), ("tracked/data/{}.txt", found)):
            lines = [
                ",".join(map(str, [number, id, *box, 1, 1, 1] + ([] if "truth" in path else [-1])))
                for number, one in enumerate(frames, 1)
                for id, box in zip(one.ids, one.boxes, strict=True)
            ]
            (folder / path.format(name)).write_text("\n".join(lines))
    quiet = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "TIME_PROGRESS": False, "PLOT_CURVES": False}
    quiet |= {"OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False, "LOG_ON_ERROR": None, "BREAK_ON_ERROR": True}
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "truth"),
            "TRACKERS_FOLDER": str(folder),
            "TRACKERS_TO_EVAL": ["tracked"],
            "SKIP_SPLIT_FOL": True,
            "DO_PREPROC": False,
            "PRINT_CONFIG": False,
            "SEQ_INFO": {name: len(truth) for name, (truth, _) in cases.items()},
        }
    )
    config = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(config), trackeval.metrics.Identity(config)]
    found, _ = trackeval.Evaluator(quiet).evaluate([dataset], metrics)
    return {name: of["pedestrian"] for name, of in found["MotChallenge2DBox"]["tracked"].items()}


def assert_same(ours: dict[str, float | None], theirs: dict[str, Any]) -> None:
    for name in ("HOTA", "DetA", "AssA"):
        assert ours[f"tracking.{name}"] == pytest.approx(float(np.mean(theirs["HOTA"][name])), abs=1e-12)
    assert ours["tracking.IDF1"] == pytest.approx(theirs["Identity"]["IDF1"], abs=1e-12)
    assert ours["tracking.MOTA"] == pytest.approx(theirs["CLEAR"]["MOTA"], abs=1e-12)
    assert ours["tracking.switches"] == theirs["CLEAR"]["IDSW"]


def test_figures_are_those_of_trackevals_program(tmp_path: Path) -> None:
    theirs = by_trackeval(tmp_path, CASES)
    ours = {name: scored(*case) for name, case in CASES.items()}
    for name, one in ours.items():
        if name != "nothing there":  # where we say that there is nothing to track
            assert_same(EVALUATOR.compute([one]), theirs[name])
    assert_same(EVALUATOR.compute(list(ours.values())), theirs["COMBINED_SEQ"])


def test_figures_by_hand() -> None:
    def figures(name: str) -> list[float | None]:
        found = EVALUATOR.compute([scored(*CASES[name])])
        return [found[f"tracking.{figure}"] for figure in ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "switches")]

    assert figures("perfect") == [1, 1, 1, 1, 1, 0]
    assert figures("one is missed") == pytest.approx([0.5**0.5, 0.5, 1, 2 / 3, 0.5, 0])
    # All boxes fit, but each identity is right half of the time: 5 of 5 + 5 + 5 are its own.
    assert figures("identities are swapped") == pytest.approx([(1 / 3) ** 0.5, 1, 1 / 3, 0.5, 1 - 2 / 20, 2])
    assert figures("nothing found") == [0, 0, 0, 0, 0, 0]
    assert figures("nothing there") == [None] * 6


def test_categories_do_not_match() -> None:
    found = EVALUATOR.compute([scored(tracks({1: A}), tracks({1: A}, category=2))])
    assert found["tracking.HOTA"] == found["tracking.IDF1"] == 0
    assert found["tracking.MOTA"] == -1  # one missed, one false, of one


def moving(number: int, speed: float = 4) -> Box:
    return (10 + speed * number, 20, 40, 40)


TRUTH = ground_truth([[{1: moving(number), 2: B} for number in range(FRAMES)]])


def clip(found: list[list[Any]]) -> ClipResult:
    [one] = evaluated(TRUTH, found)
    return one


def test_the_tracker_follows_objects_and_starts_anew_in_each_clip() -> None:
    found = clip([[moving(number), B] for number in range(FRAMES)])
    ids = [frame.ids for frame in track(found)]
    assert ids[0] == []  # a track is sure from its second frame on
    assert all(len(one) == 2 and set(one) == set(ids[1]) for one in ids[1:])
    assert track(found) == track(found)
    figures = EVALUATOR.compute([EVALUATOR.update_clip(found)])
    assert figures["tracking.MOTA"] == pytest.approx(0.9)
    assert figures["tracking.switches"] == 0


def test_each_category_is_tracked_for_itself() -> None:
    dog = [detection(number, moving(number), category=2) for number in range(FRAMES)]
    found = track(clip([[moving(number), dog[number]] for number in range(FRAMES)]))
    assert all(one.categories == [1, 2] and len(set(one.ids)) == 2 for one in found[1:])
    assert len({tuple(one.ids) for one in found[1:]}) == 1


def test_a_track_begins_with_a_sure_detection_and_goes_on_with_others() -> None:
    scores = [0.69, 0.69, 0.7, 0.3, 0.3, *[0.69] * 5]
    found = clip([[detection(number + 1, B, score)] for number, score in enumerate(scores)])
    assert [len(frame.ids) for frame in track(found)] == [0, 0, 0] + [1] * 7


def test_detections_of_crowds_are_not_tracked() -> None:
    truth = ground_truth([[{1: A, -1: B}] * FRAMES])
    [found] = evaluated(truth, [[A, (110, 110, 20, 20)]] * FRAMES)
    assert [len(one.ids) for one in track(found)] == [0] + [1] * (FRAMES - 1)


def test_the_frame_rate_says_how_long_a_lost_object_is_remembered() -> None:
    truth = ground_truth([[{1: B}] * 40], fps=30)
    [long] = evaluated(truth, [[B]] * 5 + [[]] * 12 + [[B]] * 23)
    remembered, forgotten = track(long), track(replace(long, fps=5.0))
    assert len({number for one in remembered for number in one.ids}) == 1
    assert len({number for one in forgotten for number in one.ids}) == 2


def test_without_ids_there_are_no_figures() -> None:
    [found] = evaluated(ground_truth([[{1: A}] * 3], ids=False), [[A]] * 3)
    known: Scored | None = scored(*CASES["perfect"])
    assert EVALUATOR.compute([EVALUATOR.update_clip(found), known]) == {}


def test_a_draw_of_clips_is_hota_of_clips_that_are_there_as_often() -> None:
    clips = [scored(*case) for case in CASES.values()]
    weights = np.random.default_rng(3).integers(0, 3, (50, len(clips)))
    weights[0], weights[1] = 0, np.eye(len(clips))[list(CASES).index("nothing there")]
    quick = EVALUATOR.resamplers(clips)["tracking"].draws(weights)
    with np.errstate(invalid="raise"):
        slow = Recomputed(EVALUATOR, clips, "tracking.HOTA").draws(weights[1:])
    np.testing.assert_allclose(quick[1:], slow, atol=1e-12)
    assert np.isnan(quick[:2]).all()


def test_it_is_there_where_the_packages_are() -> None:
    assert any(isinstance(one, TrackingEvaluator) for one in clip_evaluators())
