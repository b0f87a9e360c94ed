"""``samples.npz``: written, read, and refused where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_sweep import Made, make_drawn

from featlink import samples
from featlink.errors import CommandError
from featlink.shared.evaluation.confidence_intervals import LEAST_IMAGES, interval

ROWS = {"a": Made("feature: vvenc(qp=22)", 0.5, 30), "b": Made("image: vvenc(qp=22)", 0.4, 20)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    sweep = make_drawn(tmp_path / "sweep", ROWS)
    read = sweep.samples
    assert read is not None
    assert list(read.runs) == ["clean.feature", "clean.image", "a", "b"]
    again = samples.sample(read.images.tolist(), read.runs, len(read.draws))
    assert (again.draws == read.draws).all()
    for kind in ("bbox", "segm"):
        for row in read.runs:
            assert (again.ap[kind][row] == read.ap[kind][row]).all()
    assert read.mean_bits("a").mean() == pytest.approx(240_000, rel=0.01)
    [run] = read.runs["a"]
    assert set(run.timings) == {"decode", "compress", "decompress", "heads", "fidelity"}
    assert run.keys is None, "results of earlier versions do not say"
    keys, held = np.arange(40) % 4 == 0, 3 - np.arange(40) % 4
    of_clips = replace(read, runs={**read.runs, "a": [replace(run, keys=keys, held=held)]})
    samples.save(of_clips, tmp_path)
    said = samples.load(tmp_path)
    assert said is not None
    assert [run.keys is None for [run] in said.runs.values()] == [True, True, False, True]
    np.testing.assert_array_equal(said.runs["a"][0].keys, keys)
    np.testing.assert_array_equal(said.runs["a"][0].held, held)


def test_an_interval_is_about_the_spread_of_the_mean(tmp_path: Path) -> None:
    sweep = make_drawn(tmp_path / "sweep", ROWS, images=100)
    found = sweep.interval(sweep.by_id["a"])
    assert found is not None
    deviation = 0.08 / 100**0.5  # AP is close to the mean over images here
    assert found[1] - found[0] == pytest.approx(2 * 1.96 * deviation, rel=0.2)
    one, other = (sweep.draws(sweep.by_id[name]) for name in ("a", "b"))
    assert one is not None
    assert other is not None
    difference = interval(one - other)
    assert difference[1] - difference[0] < 0.3 * (found[1] - found[0])  # paired: images are equally hard for both
    assert difference[0] < 0.1 < difference[1] or difference == pytest.approx((0.1, 0.1), abs=0.01)


def test_too_few_images_have_no_interval(tmp_path: Path) -> None:
    sweep = make_drawn(tmp_path / "sweep", ROWS, images=LEAST_IMAGES - 1)
    assert sweep.interval(sweep.by_id["a"]) is None
    assert sweep.retention_interval(sweep.by_id["a"]) is None


def test_a_sweep_of_earlier_versions_has_none(tmp_path: Path) -> None:
    assert samples.load(tmp_path) is None


def _short(arrays: dict[str, Any]) -> None:
    arrays["0.0.bits"] = arrays["0.0.bits"][1:]


def _far(arrays: dict[str, Any]) -> None:
    arrays["1.0.segm.image"] = arrays["1.0.segm.image"] + 1000


def _beyond(arrays: dict[str, Any]) -> None:
    arrays["1.0.segm.starts"] = np.array([0, 10**6])


def _few(arrays: dict[str, Any]) -> None:
    arrays["objects.segm"] = arrays["objects.segm"][:, 1:]


def _uneven(arrays: dict[str, Any]) -> None:
    arrays["draws"][0, 0] += 1


def _none(arrays: dict[str, Any]) -> None:
    del arrays["index"]


@pytest.mark.parametrize("spoil", [_short, _far, _beyond, _few, _uneven, _none])
def test_what_does_not_fit_is_refused(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    sweep = make_drawn(tmp_path / "sweep", ROWS, images=9)
    path = sweep.folder / samples.SAMPLES
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    spoil(arrays)
    np.savez(path, **arrays)
    with pytest.raises(CommandError, match="not a sweep's samples"):
        samples.load(sweep.folder)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / samples.SAMPLES, images=np.array([{}], dtype=object))
    with pytest.raises(CommandError, match="not a sweep's samples"):
        samples.load(tmp_path)
    (tmp_path / samples.SAMPLES).write_bytes(b"no zip")
    with pytest.raises(CommandError, match="not a sweep's samples"):
        samples.load(tmp_path)
