"""Decisions where packets are lost for good: among what was measured so, with retransmission only where it has time."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_sweep import CLEAN, Made, make_drawn

from featlink.api.deciding import decide
from featlink.errors import CommandError

FEATURES = "feature: bottleneck(step=4) | entropy(stripes=4) | packet_loss(rate={loss}, {how}) @ bit_depth=10"
PIXELS = "image: vvenc(qp=32) | packet_loss(rate={loss}, {how}) @ at=original"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = dict(CLEAN)
    for loss, burst, ap in ((0, 1, 0.55), (0.1, 1, 0.5), (0.1, 5, 0.4)):
        for name, text, less in (("f", FEATURES, 0.0), ("p", PIXELS, 0.1)):
            rows[f"{name}{loss}-{burst}"] = Made(text.format(loss=loss, how=f"burst={burst}"), ap - less, 6)
        again = FEATURES.format(loss=loss, how=f"burst={burst}, retries=3")
        rows[f"again{loss}-{burst}"] = Made(again, ap + 0.04, 7)
    path = tmp_path_factory.mktemp("losses") / "sweep"
    make_drawn(path, rows)
    return path


def test_the_candidates_are_what_was_measured_with_that_loss(folder: Path) -> None:
    found = decide(folder, rate=1, loss=0.1, erase=True, burst=5, keep=50)
    assert len(found["options"]) == 3
    assert all("burst=5" in str(option) for option in found["options"])
    assert "10 % of packets lost for good, in bursts of 5" in found["sentence"]
    assert len(decide(folder, rate=1, loss=0, erase=True, keep=50)["options"]) == 3
    kept = decide(folder, rate=1, loss=0.1, keep=50)["options"]  # sent again: only the clean runs have no loss
    assert len(kept) == 2


def test_sending_again_takes_round_trips_that_must_fit(folder: Path) -> None:
    near, far = (decide(folder, rate=1, rtt=rtt, loss=0.1, erase=True, deadline=3000) for rtt in (10, 1000))
    assert any("retries=3" in str(option) for option in near["options"])
    assert not any("retries=3" in str(option) for option in far["options"])
    slow = decide(folder, rate=1, rtt=200, loss=0.1, erase=True, keep=50)["options"]
    latency = {"retries=3" in str(option): option["ms"] for option in slow if "bottleneck" in str(option)}
    assert latency[True] > latency[False] + 50


def test_in_streams_nothing_is_sent_again(folder: Path) -> None:
    found = decide(folder, rate=1, loss=0.1, erase=True, burst=5, keep=50, fps=2)
    assert len(found["options"]) == 2
    assert all("burst=5" in str(option) and "retries" not in str(option) for option in found["options"])


def test_what_was_not_measured_is_told(folder: Path) -> None:
    with pytest.raises(CommandError, match=r"packet_loss\(rate=0.2, burst=1\)"):
        decide(folder, rate=1, loss=0.2, erase=True)
    with pytest.raises(CommandError, match="erase"):
        decide(folder, rate=1, loss=0.2, burst=3)
