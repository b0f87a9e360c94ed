"""A bad picture does not end a sweep: it is named, left out, and taken up once it is mended."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from fake_engine import open_fake
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from featlink import results
from featlink.commands.sweeps import INCOMPLETE, end
from featlink.errors import CommandError
from featlink.shared.errors import ConflictError
from featlink.sweeps.engine import ItemError
from featlink.sweeps.folder import Failures, failure_lines
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import SweepResult, merge, run_sweep

Make = Callable[..., SweepOptions]
CONSOLE = Console(quiet=True)


@pytest.fixture
def damaged(tiny: Path, tmp_path: Path) -> Path:
    """The second picture is cut short behind its header, the third of another size, the last is missing."""
    folder = shutil.copytree(tiny, tmp_path / "damaged")
    photo = io.BytesIO()
    Image.effect_noise((64, 48), 90).convert("RGB").save(photo, "JPEG")
    (folder / "val" / "2.png").write_bytes(photo.getvalue()[:-200])
    Image.new("RGB", (32, 24)).save(folder / "val" / "9.png")
    (folder / "val" / "4.png").unlink()
    return folder


@pytest.mark.slow
def test_the_others_are_evaluated_and_the_bad_ones_taken_up_when_mended(
    options: Make, damaged: Path, tiny: Path, tmp_path: Path
) -> None:
    few = options(dataset=damaged, conditions=("quantize:bits=2",), fidelity=False)
    ended = run_sweep(few, CONSOLE, open_fake)
    assert (ended.why, {row.images for row in ended.rows}) == ("complete", {1})
    told = list(failure_lines(ended.failed, ended.runs))
    assert [line.split(":")[0] for line in told] == ["image 2 (2.png)", "image 4 (4.png)", "image 9 (9.png)"]
    assert "Premature end of JPEG file" in told[0]
    assert "No such file" in told[1]
    assert "has 32×24 pixels, its annotations are for 64×48" in told[2]
    manifest = results.load_manifest(few.out)
    assert (manifest["failed"], manifest["finished"]) == (ended.failed, None)
    with pytest.raises(typer.Exit) as stop:
        end(ended)
    assert stop.value.exit_code == INCOMPLETE

    shutil.copy(tiny / "val" / "2.png", damaged / "val")
    ended = run_sweep(few, CONSOLE, open_fake)
    assert ({row.images for row in ended.rows}, [one["image"] for one in ended.failed]) == ({2}, [4, 9])
    for name in ("4.png", "9.png"):
        shutil.copy(tiny / "val" / name, damaged / "val")
    ended = run_sweep(few, CONSOLE, open_fake)
    assert ({row.images for row in ended.rows}, ended.failed) == ({4}, [])
    assert results.load_manifest(few.out)["finished"]
    whole = run_sweep(options(conditions=few.conditions, fidelity=False, out=tmp_path / "whole"), CONSOLE, open_fake)
    assert [row.bbox for row in whole.rows] == [row.bbox for row in ended.rows]

    Image.new("RGB", (64, 48)).save(damaged / "val" / "2.png")
    with pytest.raises(CommandError, match="the picture of image 2 is another than was evaluated"):
        run_sweep(few, CONSOLE, open_fake)


def test_pictures_that_are_not_chosen_need_not_be_there(options: Make, tiny: Path, tmp_path: Path) -> None:
    first = shutil.copytree(tiny, tmp_path / "first")
    for name in ("2.png", "9.png", "4.png"):
        (first / "val" / name).unlink()
    ended = run_sweep(
        options(dataset=first, limit=1, conditions=("quantize:bits=2",), fidelity=False), CONSOLE, open_fake
    )
    assert ({row.images for row in ended.rows}, ended.failed) == ({1}, [])


def test_shards_hand_on_what_failed(options: Make, damaged: Path, tmp_path: Path) -> None:
    shards = [tmp_path / f"shard{i}" for i in range(2)]
    few = {"dataset": damaged, "conditions": ("quantize:bits=2",), "fidelity": False}
    run_sweep(options(**few, shard=(0, 2), out=shards[0]), CONSOLE, open_fake)
    with pytest.raises(CommandError, match="none of the pictures"):  # 2 is found damaged only once it is decoded
        run_sweep(options(**few, shard=(3, 4), out=shards[1]), CONSOLE, open_fake)
    run_sweep(options(**few, shard=(1, 4), out=shards[1]), CONSOLE, open_fake)
    merge(shards, tmp_path / "merged", CONSOLE)
    merged = results.load_manifest(tmp_path / "merged")
    assert ([one["image"] for one in merged["failed"]], merged["finished"]) == ([9, 2], None)
    assert json.loads((tmp_path / "merged" / "pictures.json").read_bytes()).keys() == {"5", "9", "2"}


def test_categories_that_the_model_does_not_know_are_refused_before_anything_is_computed(
    options: Make, tiny: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny, tmp_path / "named")
    path = folder / "annotations" / "instances_val.json"
    truth = json.loads(path.read_bytes())
    truth["categories"] = [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut"}]
    path.write_text(json.dumps(truth))
    with pytest.raises(ConflictError, match="these are bolt, nut; the model's are person, bicycle"):
        run_sweep(options(dataset=folder, limit=1), CONSOLE, open_fake)
    assert not (tmp_path / "sweep" / "runs.sqlite").exists()


@pytest.mark.slow
def test_categories_with_other_numbers_give_the_same_figures(options: Make, tiny: Path, tmp_path: Path) -> None:
    from torchvision.models import get_model_weights

    names = get_model_weights("maskrcnn_resnet50_fpn")["COCO_V1"].meta["categories"]
    found = []
    for shift in (0, 1000):
        folder = shutil.copytree(tiny, tmp_path / f"shift{shift}")
        path = folder / "annotations" / "instances_val.json"
        truth = json.loads(path.read_bytes())
        truth["categories"] = [{"id": i + shift, "name": names[i]} for i in range(1, 91) if names[i] != "N/A"]
        for one in truth["annotations"]:
            one["category_id"] += shift
        path.write_text(json.dumps(truth))
        few = options(dataset=folder, conditions=("quantize:bits=8",), fidelity=False, out=tmp_path / f"out{shift}")
        ended = run_sweep(few, CONSOLE)
        found.append([(row.bbox, row.segm) for row in ended.rows])
        detections = json.loads((few.out / "detections" / "clean.image.json").read_bytes())
        assert detections
        assert all(shift <= one["category_id"] <= shift + 90 for one in detections)
    assert found[0] == found[1]


def test_a_list_that_is_long_is_cut_and_a_condition_is_named() -> None:
    failures = Failures(["a", "b", "c"], {1: Path("x/1.png")})
    failures.add(ItemError(1, (0, 1), "why"))
    failures.add(ItemError(2, (0, 1, 2), "other"))
    failures.add(ItemError(3, (0,), "third"))
    failures.mended(3, 0)
    assert list(failure_lines(failures.entries(), 3)) == [
        "image 1 (1.png) under a and 1 more: why",
        "image 2 (): other",
    ]
    assert list(failure_lines(failures.entries(), 3, most=1))[-1] == "and 1 more"
    again = Failures(["a", "b", "c"], {})
    again.recall({"failed": failures.entries()})
    assert [one["conditions"] for one in again.entries()] == [["a", "b"], ["a", "b", "c"]]


def test_a_stopped_sweep_keeps_its_own_exit_code() -> None:
    app = typer.Typer()
    app.command()(lambda: end(SweepResult([], "interrupted", [], 1)))
    assert CliRunner().invoke(app).exit_code == 130
