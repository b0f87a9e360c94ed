"""``samples.npz``: each image's contribution to a sweep, so that figures can be recomputed on resampled images.

It holds bits and times by image, how every detection fares, and AP in each bootstrap draw. Plain arrays: nothing in it
is executed, and every index is checked before it is followed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from featlink.errors import CommandError
from featlink.shared.evaluation.coco_metrics import IOUS, Floats, Ints, Pool
from featlink.shared.evaluation.confidence_intervals import DRAWS, LEAST_IMAGES, draw_images
from featlink.shared.evaluation.protocol import Resampler
from featlink.shared.files import replace

SAMPLES = "samples.npz"


@dataclass(frozen=True, eq=False)
class RunSamples:
    """One condition under one seed.

    Attributes:
        bits: (N,) that crossed the link.
        timings: stage to (N,) milliseconds; NaN where an image lacks the stage.
        pools: how its detections fare, by the group of COCO figures that they make.
        others: what draws the first figure of every other group; not written, only what it gives is.
        keys: (N,) whether each decodes without the frames before it; None where results do not say.
        held: (N,) how many later frames the coder had been given when each came out; None likewise.
    """

    bits: Ints
    timings: Mapping[str, Floats]
    pools: Mapping[str, Pool]
    others: Mapping[str, Resampler] = field(default_factory=dict)
    keys: npt.NDArray[np.bool_] | None = None
    held: Ints | None = None

    @property
    def resamplers(self) -> Mapping[str, Resampler]:
        """What draws the first figure of every group."""
        return {**self.pools, **self.others}


@dataclass(frozen=True, eq=False)
class Samples:
    """A sweep by image.

    Attributes:
        images: (N,) ids, rising.
        draws: (B, N) how often each image is drawn; no draws where there are too few images or clips.
        runs: by row id, one for each seed.
        ap: by group of figures and row id, (B,): its first figure in each draw, median over seeds; of AP, without the
            bias of few images.
        clips: (N,), whose frame each image is; None for stills.
    """

    images: Ints
    draws: Ints
    runs: Mapping[str, Sequence[RunSamples]]
    ap: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)
    clips: Ints | None = None

    def mean_bits(self, row: str) -> Floats:
        """Bits an image in each draw, (B,), median over seeds."""
        drawn = self.draws.sum(axis=1)
        means: Floats = np.median([self.draws @ run.bits / drawn for run in self.runs[row]], axis=0)
        return means


def sample(images: Sequence[int], runs: Mapping[str, Sequence[RunSamples]], draws: int = DRAWS) -> Samples:
    """Draw images, or the clips whose frames they are, and take every group's first figure in every draw.

    Args:
        images: ids.
        runs: by row id.
        draws: how many.
    """
    ids = np.array(sorted(images), np.int64)
    pools = (pool for of_seeds in runs.values() for run in of_seeds for pool in run.pools.values())
    clips = next((pool.clips for pool in pools), None)
    count = len(ids) if clips is None else len(np.unique(clips))
    drawn = draw_images(len(ids), draws if count >= LEAST_IMAGES else 0, clips=clips)
    ap: dict[str, dict[str, Floats]] = {}
    for row, of_seeds in runs.items():
        for group in of_seeds[0].resamplers:
            values = [run.resamplers[group].draws(drawn) for run in of_seeds if group in run.resamplers]
            ap.setdefault(group, {})[row] = np.median(values, axis=0)
    return Samples(ids, drawn, runs, ap, clips)


def save(samples: Samples, folder: Path) -> None:
    """Write ``samples.npz``.

    Raises:
        CommandError: it cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"images": samples.images, "draws": samples.draws.astype(np.uint16)}
    index = []
    for number, (row, of_seeds) in enumerate(samples.runs.items()):
        kinds = [kind for kind in of_seeds[0].pools if all(kind in run.pools for run in of_seeds)]
        others = [group for group in samples.ap if row in samples.ap[group] and group not in of_seeds[0].pools]
        entry = {"id": row, "kinds": kinds, "stages": [list(run.timings) for run in of_seeds]}
        index.append(entry | ({"others": others} if others else {}))
        for group in (*kinds, *others):
            arrays[f"{number}.{group}"] = samples.ap[group][row]
        for seed, run in enumerate(of_seeds):
            at = f"{number}.{seed}"
            arrays[f"{at}.bits"] = run.bits
            arrays[f"{at}.timings"] = np.array(list(run.timings.values())).reshape(-1, len(samples.images))
            if run.keys is not None and run.held is not None:
                arrays |= {f"{at}.keys": run.keys, f"{at}.held": run.held}
            for kind in kinds:
                found = run.pools[kind]
                arrays[f"objects.{kind}"] = found.objects
                arrays |= {f"{at}.{kind}.{name}": getattr(found, name) for name in ("starts", "image", "fate")}
    pools = [found for of_seeds in samples.runs.values() for run in of_seeds for found in run.pools.values()]
    if pools and pools[0].importance is not None:
        arrays["importance"] = pools[0].importance
    if samples.clips is not None:
        arrays["clips"] = samples.clips
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its stubs take names for its own options
    replace(folder / SAMPLES, buffer.getvalue())


def load(folder: Path) -> Samples | None:
    """Read what :func:`save` wrote; None where there is no such file, as in sweeps of earlier versions.

    Raises:
        CommandError: it is damaged or no such file.
    """
    path = folder / SAMPLES
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return _read({name: file[name] for name in file.files})
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise CommandError(f"{path} is not a sweep's samples: {error}; `featlink bench` makes it anew") from None


def _read(arrays: Mapping[str, npt.NDArray[Any]]) -> Samples:
    images, draws = arrays["images"].astype(np.int64), arrays["draws"].astype(np.int64)
    clips = arrays["clips"].astype(np.int64) if "clips" in arrays else None
    _check(clips is None or clips.shape == images.shape, "clips")
    _check(draws.ndim == 2 and draws.shape[1] == len(images) and (draws >= 0).all(), "draws")
    _check((draws.sum(axis=1) == len(images)).all() if clips is None else draws.any(axis=1).all(), "images of draws")
    runs: dict[str, list[RunSamples]] = {}
    ap: dict[str, dict[str, Floats]] = {}
    for number, entry in enumerate(json.loads(arrays["index"].tobytes())):
        for group in (*entry["kinds"], *entry.get("others", ())):
            values = arrays[f"{number}.{group}"].astype(np.float64)
            _check(values.shape == (len(draws),), f"{group} of {entry['id']}")
            ap.setdefault(group, {})[entry["id"]] = values
        runs[entry["id"]] = [
            _run(arrays, f"{number}.{seed}", stages, entry["kinds"], images)
            for seed, stages in enumerate(entry["stages"])
        ]
    return Samples(images, draws, runs, ap, clips)


def _run(
    arrays: Mapping[str, npt.NDArray[Any]], at: str, stages: list[str], kinds: list[str], images: Ints
) -> RunSamples:
    bits, timings = arrays[f"{at}.bits"].astype(np.int64), arrays[f"{at}.timings"].astype(np.float64)
    _check(bits.shape == images.shape, f"bits of {at}")
    _check(timings.shape == (len(stages), len(images)), f"times of {at}")
    pools = {kind: _pool(arrays, f"{at}.{kind}", arrays[f"objects.{kind}"], images) for kind in kinds}
    keys = arrays[f"{at}.keys"].astype(np.bool_) if f"{at}.keys" in arrays else None
    held = arrays[f"{at}.held"].astype(np.int64) if f"{at}.held" in arrays else None
    _check(keys is None or keys.shape == images.shape, f"key frames of {at}")
    _check(held is None or (held.shape == images.shape and (held >= 0).all()), f"frames held back of {at}")
    return RunSamples(bits, dict(zip(stages, timings, strict=True)), pools, keys=keys, held=held)


def _pool(arrays: Mapping[str, npt.NDArray[Any]], at: str, objects: npt.NDArray[Any], images: Ints) -> Pool:
    starts = arrays[f"{at}.starts"].astype(np.int64)
    image, fate = arrays[f"{at}.image"].astype(np.int32), arrays[f"{at}.fate"].astype(np.uint8)
    objects = objects.astype(np.int32)
    _check(objects.ndim == 2 and objects.shape[1] == len(images), f"objects of {at}")
    _check(starts.shape == (len(objects) + 1,) and starts[0] == 0 and starts[-1] == len(image), f"starts of {at}")
    _check((np.diff(starts) >= 0).all() and fate.shape == (len(image), len(IOUS)), f"detections of {at}")
    _check(not len(image) or (image.min() >= 0 and image.max() < len(images)), f"images of {at}")
    importance = arrays["importance"].astype(np.float64) if "importance" in arrays else None
    _check(importance is None or (importance.shape == IOUS.shape and (importance > 0).all()), "weights of thresholds")
    clips = arrays["clips"].astype(np.int64) if "clips" in arrays else None
    return Pool(images, starts, image, np.ascontiguousarray(fate), np.ascontiguousarray(objects), importance, clips)


def _check(right: object, what: str) -> None:
    if not right:
        raise ValueError(f"{what} do not fit")
