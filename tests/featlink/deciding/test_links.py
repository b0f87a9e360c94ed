"""Expected times against the channel's own link, drawn many times."""

from __future__ import annotations

import numpy as np
import pytest

from featlink.channel.link import Link, Trace
from featlink.deciding.query import Route


@pytest.mark.parametrize("loss", [0.0, 0.02, 0.4])
@pytest.mark.parametrize("bits", [9_000, 2_000_000])
def test_the_mean_is_that_of_the_channel(loss: float, bits: int) -> None:
    link = Link(rate_mbps=5, rtt_ms=40, loss=loss)
    rng = np.random.default_rng(0)
    drawn = [link.transfer(bits, rng).ms for _ in range(4000)]
    [expected] = Route(link).expected_ms([bits])
    # Packets sent again are whole ones, the last packet of a frame is not.
    assert expected == pytest.approx(
        np.mean(drawn), abs=4 * np.std(drawn) / 4000**0.5 + 0.15 * loss * 12_000 / 5e3 + 1e-9
    )


def test_simulated_times_are_of_each_image_and_repeat() -> None:
    route = Route(Link(rate_mbps=5, rtt_ms=40, jitter_ms=5, loss=0.05))
    images, bits = list(range(300)), np.full(300, 400_000)
    first = route.delivered_ms(route.draw(bits, images))
    assert (first == route.delivered_ms(route.draw(bits, images))).all()
    assert (first[:100] == route.delivered_ms(route.draw(bits[:100], images[:100]))).all()
    assert len(set(first.tolist())) > 250
    assert first.mean() == pytest.approx(route.expected_ms(bits)[0], rel=0.05)


def test_over_a_trace_images_come_at_all_times() -> None:
    trace = Trace(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 10.0]))
    route = Route(Link(rtt_ms=20), trace)
    bits = np.full(400, 100_000)
    simulated = route.delivered_ms(route.draw(bits, range(400)))
    assert simulated.min() == pytest.approx(10 + 100 / 9, rel=0.01)
    assert simulated.max() == pytest.approx(10 + 100, rel=0.01)
    assert simulated.mean() == pytest.approx(route.expected_ms(bits)[0], rel=0.02)
    assert route.mbps == 5
    assert route.at(3).mbps == 3


def test_no_limit_takes_no_time() -> None:
    assert Route(Link()).expected_ms([10**9]).tolist() == [0.0]
