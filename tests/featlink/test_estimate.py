"""What a sweep will take, from a few of its pictures, against the sweep itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from featlink.errors import CommandError
from featlink.estimate import estimate
from featlink.report.estimate import estimate_table, sentences
from featlink.report.table import as_text
from featlink.sweeps.options import Options
from featlink.sweeps.run import run_sweep

CONSOLE = Console(quiet=True)


@pytest.mark.slow
def test_what_is_kept_is_not_left_and_the_sweep_goes_on_from_it(
    options: Callable[..., Options], tmp_path: Path
) -> None:
    found = estimate(options(sample=3), kept=True, console=CONSOLE)
    assert (found.timed, found.left) == (2, 1)
    assert found.picture.low <= found.picture.seconds <= found.picture.high
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
def test_what_is_not_kept_is_all_left(options: Callable[..., Options]) -> None:
    found = estimate(options(sample=2, conditions=("quantize:bits=2",)), kept=False, console=CONSOLE)
    assert (found.timed, found.left, found.picture.sure) == (1, 4, 0)
    one, two, four = (found.seconds(workers)[0] - found.before - found.after for workers in (1, 2, 4))
    assert (one, two) == pytest.approx((4 * four, 2 * four))
    text = as_text(estimate_table(found, [1, 4]))
    assert "4 pictures" in text
    assert "4 workers like this one" in text
    assert "one picture has no range" in sentences(found)[0]
