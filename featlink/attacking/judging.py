"""Judge attackers: how much of pictures that they were not trained on do they recover?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from featlink.attacking.attacker import Attacker, Origin, recover
from featlink.attacking.inverting import Inverter
from featlink.attacking.observing import Observation, Tap
from featlink.attacking.reading import read_marks
from featlink.errors import CommandError
from featlink.leaks import PICTURES, Leak, Leaks, Measured
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ModelError
from featlink.shared.evaluation.confidence_intervals import DRAWS, LEAST_IMAGES, draw_images, interval
from featlink.shared.features import Array
from featlink.shared.files import replace
from featlink.shared.metrics.fidelity import compare_images
from featlink.shared.metrics.ms_ssim import ms_ssim
from featlink.shared.models.protocol import SplitModel
from featlink.starter.marks import Mark

_MOST_DB = 100.0


@dataclass(frozen=True)
class Suspect:
    """An attacker that is to be judged.

    Attributes:
        name: of its condition, as its file is called.
        attacker: trained.
        origin: on what.
    """

    name: str
    attacker: Attacker
    origin: Origin


@dataclass
class _Account:
    """What one attacker recovered of each picture so far."""

    rows: list[tuple[float, float, float, int, int, int]] = field(default_factory=list)
    pictures: dict[int, str] = field(default_factory=dict)


def judge(
    model: SplitModel,
    suspects: Sequence[Suspect],
    images: Mapping[int, Path],
    marks: Mapping[int, Sequence[Mark]],
    dataset: str,
    folder: Path,
    shown: int,
    done: Callable[[], None],
    inverter: Inverter | None = None,
) -> Leaks:
    """Send pictures over the link, let attackers recover them, and compare with what was sent.

    Args:
        model: whose features they recover pictures from; its backbone half is enough.
        suspects: attackers. A network is judged with its correction and without, as a ridge regression.
        images: picture files by image id.
        marks: by image id.
        dataset: name of the data set.
        folder: to keep pictures in.
        shown: how many of the pictures to keep there.
        done: called after each picture.
        inverter: goes on from what attackers recover of features.

    Raises:
        ModelError: an attacker is of another network.
        CommandError: there are no pictures.
        FeatlinkError: a file is no picture, or the channel fails.
    """
    for one in suspects:
        if (one.origin.weights, one.origin.model) != (model.weights, model.name):
            raise ModelError(
                f"the attacker on {one.name} is of {one.origin.model} with weights {one.origin.weights}, "
                f"not of {model.name} with {model.weights}"
            )
    accounts: dict[tuple[int, str], _Account] = {}
    originals: dict[int, str] = {}
    sizes: list[tuple[int, int]] = []
    for number, (image_id, path) in enumerate(images.items()):
        tap = Tap(model, path.read_bytes(), image_id)
        seen: dict[str, Observation] = {}
        for place, suspect in enumerate(suspects):
            text = suspect.origin.condition
            if text not in seen:
                seen[text] = tap.observe(parse(text))
            found = seen[text]
            for kind, made in _recovered(suspect, found, inverter, guess=place == 0):
                account = accounts.setdefault((place, kind), _Account())
                read = read_marks(made, found.original, marks.get(image_id, ()))
                account.rows.append((*_compared(found.truth, made), *read, found.bits))
                if number < shown:
                    stem = f"{image_id}.{suspect.name}.{'-'.join(one.name for one in suspect.attacker.sees)}"
                    name = f"{PICTURES}/{stem}.{kind}.seed{suspect.origin.seed}.webp"
                    account.pictures[image_id] = _kept(folder, name, made)
        truth = next(iter(seen.values())).truth
        sizes.append((truth.shape[1], truth.shape[2]))
        if number < shown:
            originals[image_id] = _kept(folder, f"{PICTURES}/{image_id}.truth.webp", truth)
        done()
    if not sizes:
        raise CommandError(f"{dataset} has no pictures to judge by")
    steps = 0 if inverter is None else inverter.steps
    leaks = [_leak(suspects[place], kind, account, steps) for (place, kind), account in accounts.items()]
    return Leaks(dataset, model.name, model.weights, sizes[0], list(images), originals, leaks)


def _recovered(suspect: Suspect, seen: Observation, inverter: Inverter | None, guess: bool) -> list[tuple[str, Array]]:
    attacker = suspect.attacker
    made = [("ridge", recover(attacker, seen, corrected=False))]
    if attacker.correct:
        made.append(("network", recover(attacker, seen)))
    if inverter is not None and parse(suspect.origin.condition).domain == "feature":
        made.append(("inversion", inverter.recover(attacker, seen, start=made[-1][1])))
    if guess:
        colour = attacker.linear.bias
        if colour is not None:
            mean = 255 * colour.detach().reshape(3, -1).mean(1).cpu().numpy()
            made.append(("guess", np.broadcast_to(mean[:, None, None], seen.truth.shape).astype(np.float32)))
    return made


def _compared(truth: Array, made: Array) -> tuple[float, float, float]:
    found = compare_images(truth, made)
    scales = [ms_ssim(clean, bad) for clean, bad in zip(truth, made, strict=True)]
    return min(found.psnr, _MOST_DB), found.ssim, math.fsum(scales) / len(scales)


def _leak(suspect: Suspect, kind: str, account: _Account, steps: int) -> Leak:
    rows = np.array(account.rows)
    drawn = draw_images(len(rows), DRAWS if len(rows) >= LEAST_IMAGES else 0)
    psnr, ssim, scales = (_measured(rows[:, place], np.ones(len(rows)), drawn) for place in range(3))
    read = _measured(rows[:, 3], rows[:, 4], drawn) if rows[:, 4].any() else None
    origin = suspect.origin
    seen = kind != "guess"
    return Leak(
        suspect.name if seen else "guess",
        origin.condition if seen else "",
        kind,
        [one.name for one in suspect.attacker.sees] if seen else [],
        origin.seed if seen else 0,
        (origin.pictures, {"network": origin.rounds, "inversion": steps}.get(kind, 0)),
        origin.data,
        len(rows),
        float(rows[:, 5].mean()) / 8000 if seen else 0.0,
        psnr,
        ssim,
        scales,
        read,
        account.pictures,
    )


def _measured(
    values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], drawn: npt.NDArray[np.int64]
) -> Measured:
    """Σ values / Σ weights, over pictures and over draws of them."""
    with np.errstate(invalid="ignore"):
        draws = (drawn @ values) / (drawn @ weights)
    return Measured(float(values.sum() / weights.sum()), interval(draws) if len(draws) else None)


def _kept(folder: Path, name: str, made: Array) -> str:
    pixels = np.rint(made).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)[..., ::-1]
    encoded = cv2.imencode(".webp", np.ascontiguousarray(pixels), [cv2.IMWRITE_WEBP_QUALITY, 90])[1]
    replace(folder / name, encoded.tobytes(), durable=False)
    return name
