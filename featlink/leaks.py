"""``leak.json``: what attackers recovered of a data set's pictures, by condition. Reading it needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from featlink.errors import CommandError
from featlink.shared.evaluation.confidence_intervals import Interval
from featlink.shared.files import replace

LEAK = "leak.json"
PICTURES = "leak"
"""Folder of pictures beside it."""


class Measured(msgspec.Struct, frozen=True):
    """A mean over pictures, and its 95 % interval; None where there are too few of them."""

    value: float
    interval: Interval | None = None


class Leak(msgspec.Struct, frozen=True):
    """What one attacker recovered under one condition.

    Attributes:
        name: of the condition, as the attacker's file is called.
        condition: as text.
        kind: ``ridge``, ``network``, ``inversion`` of the edge's half that goes on from them, or ``guess``: one colour
            for all pictures, without a look at the link.
        levels: that it looked at.
        seed: of its training.
        trained: pictures that it learned from, and rounds; of an inversion, steps for each picture.
        data: which pictures those were.
        images: how many it was judged on.
        kilobytes: that crossed for a picture, on average.
        psnr: of the recovered picture, dB, mean over pictures; at most 100 each.
        ssim: mean over R, G and B.
        ms_ssim: likewise.
        read: share of the marks' characters that can be read; None where no picture has marks.
        pictures: file by image id, of those that are kept.
    """

    name: str
    condition: str
    kind: str
    levels: list[str]
    seed: int
    trained: tuple[int, int]
    data: str
    images: int
    kilobytes: float
    psnr: Measured
    ssim: Measured
    ms_ssim: Measured
    read: Measured | None = None
    pictures: dict[int, str] = {}

    @property
    def key(self) -> tuple[str, str, tuple[str, ...], int]:
        """What tells it from others."""
        return self.condition, self.kind, tuple(self.levels), self.seed


class Leaks(msgspec.Struct, frozen=True):
    """Attackers judged on the same pictures of the same network.

    Attributes:
        dataset: name of the data set.
        model: architecture of the network.
        weights: identity of its weights.
        size: (height, width) of the first picture as the network takes it, at which all are judged.
        images: ids of the pictures.
        originals: file of the truth by image id, of those that are kept.
        leaks: one for each attacker.
    """

    dataset: str
    model: str
    weights: str
    size: tuple[int, int]
    images: list[int]
    originals: dict[int, str]
    leaks: list[Leak]

    def strongest(self) -> dict[str, Leak]:
        """By condition, the attacker that recovered most, by PSNR; guesses look at nothing and do not count."""
        best: dict[str, Leak] = {}
        for one in self.leaks:
            known = best.get(one.condition)
            if one.kind != "guess" and (known is None or one.psnr.value > known.psnr.value):
                best[one.condition] = one
        return best


def read_leaks(folder: Path) -> Leaks | None:
    """What is known of a folder; None where there is no such file.

    Raises:
        CommandError: the file is damaged.
    """
    path = folder / LEAK
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Leaks)
    except (OSError, msgspec.DecodeError) as error:
        raise CommandError(f"{path} is not what `featlink leak` writes: {error}") from None


def write_leaks(folder: Path, leaks: Leaks) -> Leaks:
    """Write them beside those of other attackers that are known of the same pictures; returns all of them.

    Raises:
        CommandError: the folder has leaks of other pictures or another network.
        StorageError: it cannot be written.
    """
    before = read_leaks(folder)
    if before is not None:
        for name in ("dataset", "model", "weights", "size", "images"):
            old, new = getattr(before, name), getattr(leaks, name)
            if old != new:
                raise CommandError(f"{folder / LEAK} has another {name}: take another folder, or delete that file")
        leaks = msgspec.structs.replace(
            leaks, leaks=_merged(before.leaks, leaks.leaks), originals={**before.originals, **leaks.originals}
        )
    replace(folder / LEAK, msgspec.json.format(msgspec.json.encode(leaks), indent=1))
    return leaks


def _merged(old: Iterable[Leak], new: Iterable[Leak]) -> list[Leak]:
    return list({one.key: one for one in (*old, *new)}.values())
