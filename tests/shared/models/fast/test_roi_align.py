"""The fast RoIAlign against torchvision's own, box by box."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from featlink.shared.models.fast.regions import FastRoIAlign

HEIGHT, WIDTH = 256, 320
NAMES = ["0", "1", "2", "3"]
CHANNELS = 5

BOXES = {
    "the whole picture": (0, 0, WIDTH, HEIGHT),
    "inside": (40.3, 31.7, 97.9, 88.2),
    "at the top left corner": (0, 0, 20.5, 13.5),
    "at the bottom right corner": (290.25, 240.75, WIDTH, HEIGHT),
    "along the right edge": (WIDTH - 1.5, 10, WIDTH, 200),
    "along the bottom edge": (10, HEIGHT - 1.5, 300, HEIGHT),
    "smaller than a sample of p2": (100.2, 100.2, 100.9, 100.7),
    "without any area": (64, 64, 64, 64),
    "inverted": (80, 80, 70, 60),
    "very flat": (5, 128, 315, 129),
    "very tall": (160, 3, 161, 250),
    "across the left edge": (-30, 50, 25, 110),
    "across the bottom edge": (60, 200, 140, 290),
    "around the picture": (-50, -60, WIDTH + 70, HEIGHT + 80),
    "beyond the right edge": (WIDTH + 40, 20, WIDTH + 90, 70),
    "beyond the top left corner": (-200, -200, -120, -130),
    "one sample beyond the edge": (-3.9, -3.9, 4.1, 4.1),
}


def levels(channels_last: bool = False) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    made = {name: torch.randn(1, CHANNELS, HEIGHT // 4 >> i, WIDTH // 4 >> i) for i, name in enumerate(NAMES)}
    if channels_last:
        return {name: level.contiguous(memory_format=torch.channels_last) for name, level in made.items()}
    return made


def compare(
    boxes: torch.Tensor, size: int = 7, samples: int = 2, threads: int = 1, channels_last: bool = False
) -> None:
    shape = [(HEIGHT, WIDTH)]
    expected = MultiScaleRoIAlign(NAMES, size, samples)(levels(), [boxes], shape)
    found = FastRoIAlign(NAMES, size, samples, threads)(levels(channels_last), [boxes], shape)
    assert (found.shape, found.dtype) == (expected.shape, torch.float32)
    assert found.shape == (len(boxes), CHANNELS, size, size)
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-5)  # coordinates are rounded, and noise is steep


def random_boxes(count: int) -> torch.Tensor:
    """Of all sizes, some beyond the picture's edges."""
    torch.manual_seed(count)
    centres = torch.rand(count, 2) * torch.tensor([WIDTH, HEIGHT])
    sides = torch.rand(count, 2) ** 3 * 300
    return torch.cat([centres - sides / 2, centres + sides / 2], 1)


@pytest.mark.parametrize("where", BOXES)
def test_a_box_is_pooled_as_torchvision_does(where: str) -> None:
    compare(torch.tensor([BOXES[where]], dtype=torch.float32))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("size", "samples"), [(7, 2), (14, 2), (3, 1), (2, 3)])
def test_many_boxes_at_once(size: int, samples: int, threads: int, channels_last: bool) -> None:
    compare(random_boxes(41), size, samples, threads, channels_last)


@pytest.mark.parametrize("level", range(4))
def test_a_box_is_pooled_from_the_level_of_its_size(level: int) -> None:
    """A square of 224 pixels belongs to p4, one of half the side a level below, and so on."""
    side = 56.0 * 2**level
    boxes = torch.tensor([[8, 8, 8 + side, 8 + side], [8, 8, 8 + side * 1.9, 8 + side * 1.9]])
    only = {name: x if i == level else torch.full_like(x, torch.nan) for i, (name, x) in enumerate(levels().items())}
    pooled = FastRoIAlign(NAMES, 7, 2, 1)(only, [boxes], [(HEIGHT, WIDTH)])
    assert pooled.isfinite().all()
    compare(boxes)


def test_more_threads_than_boxes_and_none_at_all() -> None:
    compare(random_boxes(1), threads=2)
    compare(torch.zeros(0, 4), threads=2)


def test_the_next_image_may_have_another_size() -> None:
    """torchvision keeps the scales of the first image it saw; this one may not."""
    pool = FastRoIAlign(NAMES, 7, 2, 1)
    boxes = random_boxes(5)
    small = {name: level[..., : level.shape[-1] // 2] for name, level in levels().items()}
    pool(small, [boxes / 4], [(HEIGHT // 4, WIDTH // 8)])
    expected = MultiScaleRoIAlign(NAMES, 7, 2)(levels(), [boxes], [(HEIGHT, WIDTH)])
    torch.testing.assert_close(pool(levels(), [boxes], [(HEIGHT, WIDTH)]), expected, atol=5e-5, rtol=1e-5)


def test_a_name_that_is_not_pooled_from_is_ignored() -> None:
    boxes = random_boxes(7)
    shape = [(HEIGHT, WIDTH)]
    more = {**levels(), "pool": torch.full((1, CHANNELS, 4, 5), torch.nan)}
    expected = FastRoIAlign(NAMES, 7, 2, 1)(levels(), [boxes], shape)
    torch.testing.assert_close(FastRoIAlign(NAMES, 7, 2, 1)(more, [boxes], shape), expected, atol=0, rtol=0)
