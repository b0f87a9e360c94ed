"""Changing layouts moves values and changes none, whatever the shape and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from featlink.shared.models.fast.layout import channels_first, channels_last


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 256, 25, 34), (1, 256, 1, 1), (1, 1, 3, 50), (1, 33, 7, 31)])
@pytest.mark.usefixtures("threads")
def test_there_and_back(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    last = channels_last(x)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, x)
    first = channels_first(last)
    assert first.is_contiguous()
    assert torch.equal(first, x)


def test_a_view_with_gaps() -> None:
    """As p6 is of p5."""
    x = torch.randn(1, 14, 10, 64).permute(0, 3, 1, 2)[:, :, ::2, ::2]
    assert torch.equal(channels_first(x), x)
    assert torch.equal(channels_last(x), x)


def test_a_result_is_not_overwritten_while_it_is_used() -> None:
    inputs = [torch.randn(1, 64, 20, 20) for _ in range(4)]
    results = [channels_last(x) for x in inputs]
    assert all(torch.equal(result, x) for result, x in zip(results, inputs, strict=True))
