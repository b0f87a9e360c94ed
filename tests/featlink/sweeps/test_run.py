"""A sweep from beginning to end: what it writes, refuses, continues and merges."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_engine import open_fake
from PIL import Image
from rich.console import Console
from tiny_model import other_weights
from waiting import wait_until

from featlink import results
from featlink.errors import CommandError
from featlink.shared.models.config import ModelConfig
from featlink.shared.store import Store
from featlink.sweeps.folder import locked
from featlink.sweeps.plan import SweepOptions, read_seeds, read_shard, read_time
from featlink.sweeps.run import merge, run_sweep

Make = Callable[..., SweepOptions]
CONSOLE = Console(quiet=True)
RENAMED = """
import tiny_model

def build(config, heads=True):
    model = tiny_model.build(config, heads)
    model.name = "another"
    return model
"""


def comparable(rows: list[results.Row]) -> list[dict[str, Any]]:
    """Everything but times and the ids of runs."""
    found: list[dict[str, Any]] = []
    for row in rows:
        fields = {name: getattr(row, name) for name in row.__struct_fields__ if name != "timings"}
        fields["seeds"] = [(s.seed, s.bbox, s.segm, s.bits_per_image, s.bpp, s.fidelity) for s in row.seeds]
        found.append(fields)
    return found


def stored(folder: Path) -> set[tuple[str, int, str]]:
    """What is in the database: run, image, and when it was stored."""
    with sqlite3.connect(folder / "runs.sqlite") as connection:
        return set(connection.execute("SELECT run_id, image_id, created FROM results"))


@pytest.mark.slow
def test_limit_grows_seeds_are_medians_and_shards_merge_to_the_whole(options: Make, tmp_path: Path) -> None:
    ended = run_sweep(options(limit=1), CONSOLE, open_fake)
    assert (ended.why, {row.images for row in ended.rows}) == ("complete", {1})
    before = stored(tmp_path / "sweep")
    assert len(before) == 2 + 1 + 2
    whole = run_sweep(options(limit=3), CONSOLE, open_fake)
    assert before < stored(tmp_path / "sweep")
    assert len(stored(tmp_path / "sweep")) == 3 * len(before)
    assert [(row.id, row.images, len(row.seeds)) for row in whole.rows] == [
        ("clean.feature", 3, 1),
        ("clean.image", 3, 1),
        ("feature: quantize(bits=2)", 3, 1),
        ("image: gaussian_noise(sigma=20)", 3, 2),
    ]
    noise = whole.rows[-1]
    assert noise.seeds[0].fidelity != noise.seeds[1].fidelity
    manifest = results.load_manifest(tmp_path / "sweep")
    assert manifest["images"] == 3
    assert manifest["dataset"]["images"] == 4
    assert manifest["finished"]

    shards = [tmp_path / f"shard{i}" for i in range(2)]
    for i, folder in enumerate(shards):
        run_sweep(options(limit=3, shard=(i, 2), out=folder), CONSOLE, open_fake)
    merged = merge(shards, tmp_path / "merged", CONSOLE)
    assert comparable(merged) == comparable(whole.rows)
    assert (tmp_path / "merged" / "detections" / "clean.image.json").read_bytes() == (
        tmp_path / "sweep" / "detections" / "clean.image.json"
    ).read_bytes()
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(shards[0] / "manifest.json", begun)
    Store(f"sqlite:///{begun / 'runs.sqlite'}").close()
    assert comparable(merge([begun, *shards], tmp_path / "three", CONSOLE)) == comparable(whole.rows)
    with pytest.raises(CommandError, match="no results yet"):
        merge([begun], tmp_path / "none", CONSOLE)
    run_sweep(options(out=tmp_path / "other", conditions=("quantize:bits=3",), limit=1), CONSOLE, open_fake)
    with pytest.raises(CommandError, match="another sweep"):
        merge([shards[0], tmp_path / "other"], tmp_path / "none", CONSOLE)


@pytest.mark.slow
def test_another_sweep_in_the_same_folder_is_refused_and_the_difference_named(
    options: Make, tiny: Path, config: ModelConfig, tmp_path: Path
) -> None:
    first = options(limit=1)
    run_sweep(first, CONSOLE)
    kept = (first.out / "results.json").read_bytes(), (first.out / "manifest.json").read_bytes()

    other_data = tmp_path / "tiny"
    shutil.copytree(tiny, other_data)
    truth = other_data / "annotations" / "instances_val.json"
    truth.write_text(truth.read_text().replace("750", "751", 1))
    other_picture = tmp_path / "tinier"
    shutil.copytree(tiny, other_picture)
    Image.new("RGB", (64, 48)).save(other_picture / "val" / "5.png")
    renamed = tmp_path / "renamed.py"
    renamed.write_text(RENAMED)
    changes: list[tuple[str, dict[str, Any]]] = [
        ("dataset.digest", {"dataset": other_data}),
        ("the picture of image 5 is another", {"dataset": other_picture}),
        ("model.identity", {"config": config.but(weights=other_weights(tmp_path / "other.safetensors"))}),
        ("model.max_size", {"config": config.but(max_size=128)}),
        ("model.proposals", {"config": config.but(proposals=51)}),
        ("model.profile", {"config": config.but(profile="exact")}),
        ("model.name", {"config": config.but(model=f"{renamed}:build")}),
        ("quantize(bits=2)", {"conditions": ("image: gaussian_noise(sigma=20)",)}),
        ("seeds", {"seeds": (0, 2)}),
        ("fidelity", {"fidelity": False}),
    ]
    for named, change in changes:
        with pytest.raises(CommandError, match="holds another sweep") as error:
            run_sweep(replace(first, **change), CONSOLE)
        assert named in str(error.value)
        assert "\n" not in str(error.value)
    assert kept == ((first.out / "results.json").read_bytes(), (first.out / "manifest.json").read_bytes())


def test_conditions_are_added_and_alone_computed(options: Make) -> None:
    first = options(limit=2)
    run_sweep(first, CONSOLE, open_fake)
    before = stored(first.out)
    more = replace(first, conditions=("quantize:bits=3", *first.conditions))
    ended = run_sweep(more, CONSOLE, open_fake)
    assert before < stored(first.out)
    assert len(stored(first.out)) == len(before) + 2
    assert [row.id for row in ended.rows][2] == "feature: quantize(bits=3)"
    assert {row.images for row in ended.rows} == {2}
    with pytest.raises(CommandError, match=r"quantize\(bits=3\)"):
        run_sweep(first, CONSOLE, open_fake)


def test_a_time_budget_ends_it_and_results_are_of_whole_images(options: Make, tmp_path: Path) -> None:
    ended = run_sweep(options(limit=2, time_budget=0), CONSOLE, open_fake)
    assert (ended.why, ended.rows) == ("time budget", [])
    assert len(stored(tmp_path / "sweep")) == 1
    assert results.load_manifest(tmp_path / "sweep")["finished"] is None
    before = stored(tmp_path / "sweep")
    assert run_sweep(options(limit=2, time_budget=0), CONSOLE, open_fake).why == "time budget"
    assert before < stored(tmp_path / "sweep")
    assert len(stored(tmp_path / "sweep")) == 2
    ended = run_sweep(options(limit=2, time_budget=3600), CONSOLE, open_fake)
    assert ended.why == "complete"
    assert {row.images for row in ended.rows} == {2}


def test_the_manifest_says_what_was_otherwise_in_earlier_calls(options: Make) -> None:
    run_sweep(options(limit=1), CONSOLE, open_fake)
    run_sweep(options(limit=1), CONSOLE, open_fake)
    assert results.load_manifest(options().out)["before"] == []
    run_sweep(options(limit=2), CONSOLE, open_fake)
    manifest = results.load_manifest(options().out)
    [before] = manifest["before"]
    assert before.keys() == {"until", "engine"}
    assert (before["engine"]["limit"], manifest["engine"]["limit"]) == (1, 2)


def test_one_sweep_a_folder(options: Make, tmp_path: Path) -> None:
    with locked(tmp_path / "sweep"), pytest.raises(CommandError, match="another sweep is running"):
        run_sweep(options(), CONSOLE, open_fake)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_seeds, "0,0"),
        (read_seeds, "0,x"),
        (read_seeds, "-1"),
        (read_shard, "2/2"),
        (read_shard, "1"),
        (read_time, "soon"),
    ],
)
def test_options_that_mean_nothing_are_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(CommandError):
        read(text)


def command(tiny: Path, config: ModelConfig, out: Path) -> list[str]:
    options = {"dataset": tiny, "model": config.model, "out": out, "threads": 1, "conditions": "paper.table4"}
    return [sys.executable, "-m", "featlink", "bench", *(f"--{name}={value}" for name, value in options.items())]


@pytest.mark.extended
def test_the_command_stops_on_ctrl_c_and_for_want_of_space_and_goes_on(
    tiny: Path, config: ModelConfig, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    with subprocess.Popen(command(tiny, config, out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:

        def nine_are_stored() -> bool:
            assert process.poll() is None
            return (out / "runs.sqlite").exists() and len(_count(out)) >= 9

        wait_until(nine_are_stored, "nine results")
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0].decode()
    assert process.returncode == 130, output
    assert "same command continues" in output
    partial = results.load(out)
    assert 1 <= partial[0].images < 4
    before = _count(out)

    size = max(path.stat().st_size for path in out.glob("runs.sqlite*"))
    full = subprocess.run(
        command(tiny, config, out),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert re.fullmatch(r"featlink: .*runs.sqlite: .*", full.stderr.splitlines()[-1])  # below the progress

    done = subprocess.run(command(tiny, config, out), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert before <= _count(out)
    rows = results.load(out)
    assert [row.id for row in rows][2] == "paper.table4.feature.bits8"
    assert {row.images for row in rows} == {4}
    assert json.loads((out / "manifest.json").read_text())["finished"]


def _count(out: Path) -> set[tuple[str, int, str]]:
    try:
        return stored(out)
    except sqlite3.OperationalError:  # the tables are being made
        return set()
