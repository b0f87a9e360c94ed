"""What a sweep will take, from a few of its pictures, against the sweep itself."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from featlink.errors import CommandError
from featlink.estimate import duration, estimate, sentences
from featlink.results import Row
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import SweepResult, Times, run_sweep, spread

CONSOLE = Console(quiet=True)


@pytest.mark.slow
def test_what_is_kept_is_not_left_and_the_sweep_goes_on_from_it(
    options: Callable[..., SweepOptions], tmp_path: Path
) -> None:
    found = estimate(options(sample=3), kept=True, console=CONSOLE)
    assert (len(found.pictures), found.left) == (2, 1)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert set(found.shares) == {
        "feature: identity",
        "image: identity",
        "feature: quantize",
        "image: gaussian_noise",
    }
    likely, low, high = found.seconds()
    assert low <= likely <= high
    assert found.seconds(workers=4) == found.seconds(workers=1)  # one picture cannot be shared out

    began = time.monotonic()
    ended = run_sweep(options(), CONSOLE)
    assert (ended.left, ended.planned, ended.why) == (0, 4, "complete")
    assert likely == pytest.approx(time.monotonic() - began, rel=3)  # on a machine with other work
    used = sum(path.stat().st_size for path in (tmp_path / "sweep").rglob("*") if path.is_file())
    assert found.folder_bytes == pytest.approx(used, rel=0.25)
    with pytest.raises(CommandError, match="nothing is left of this sweep"):
        estimate(options(sample=3), kept=True, console=CONSOLE)


@pytest.mark.slow
def test_what_is_not_kept_is_all_left(options: Callable[..., SweepOptions]) -> None:
    found = estimate(options(sample=2, conditions=("quantize:bits=2",)), kept=False, console=CONSOLE)
    assert (len(found.pictures), found.left) == (1, 4)
    one, two, four = (found.seconds(workers)[0] - found.before - found.after for workers in (1, 2, 4))
    assert (one, two) == pytest.approx((4 * four, 2 * four))
    assert "of which one was timed" in sentences(found)[0]


def test_sizes_that_are_not_annotated_are_those_of_the_pictures_elsewhere(
    options: Callable[..., SweepOptions], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = tmp_path / "mine.json"
    truth = json.loads((tiny / "annotations" / "instances_val.json").read_bytes())
    for image in truth["images"]:
        del image["width"], image["height"]
    annotations.write_text(json.dumps(truth))
    pictures = shutil.copytree(tiny / "val", tmp_path / "elsewhere")
    row = Row("clean.image", "image: identity", "image", 2, {}, None, 8, 1, {}, {}, [])
    ended = SweepResult([row], "complete", times=Times(1, [3, 2], 1), planned=4, left=2)
    monkeypatch.setattr("featlink.estimate.run_sweep", lambda *_: ended)
    found = estimate(options(dataset=annotations, pictures=pictures), kept=True, console=CONSOLE)
    assert found.seconds() == (1 + 1 + 2 * 2 + 2, 8, 8)


def test_a_sample_is_spread_over_all_that_there_is() -> None:
    for things in range(1, 40):
        for count in range(1, 12):
            found = spread(range(things), count)
            assert len(set(found)) == len(found) == min(count, things)
            assert sum(found) / len(found) == pytest.approx((things - 1) / 2, abs=0.6)


@pytest.mark.parametrize(
    ("seconds", "words"), [(59.6, "1 min 0 s"), (3599, "59 min 59 s"), (86_399, "23 h 59 min"), (345_600, "4 d 0 h")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
