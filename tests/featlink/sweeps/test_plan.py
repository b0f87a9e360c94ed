"""What a sweep runs, from what is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featlink.errors import CommandError
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import steps
from featlink.shared.errors import ConditionError
from featlink.sweeps.plan import CLEAN, by_condition, is_random, make_plan


def test_the_paper_is_33_rows_after_the_clean_ones_with_seeds_for_noise_alone() -> None:
    plan = make_plan(["paper"], [0, 1, 2])
    rows = by_condition(plan)
    assert list(rows)[:2] == list(CLEAN)
    assert len(rows) == 35
    seeded = [id for id, runs in rows.items() if [run.condition.seed for run in runs] == [0, 1, 2]]
    assert seeded == [id for id in rows if ".table2." in id]
    assert len(plan) == 35 + 2 * len(seeded) == len({run.name for run in plan})


def test_what_is_given_twice_runs_once() -> None:
    assert make_plan(["paper.table3", "paper", "paper"], [0]) == make_plan(["paper.table3", "paper"], [0])
    assert len(make_plan(["paper.table3", "paper"], [0])) == 35


def test_files(tmp_path: Path) -> None:
    texts = {"coarse": "quantize:bits=2", "mixed": "image: resize(factor=2) | gaussian_noise(sigma=5)"}
    (tmp_path / "a.json").write_text(json.dumps(texts))
    (tmp_path / "b.yaml").write_text(
        "coarse: quantize:bits=2\nmixed: 'image: resize(factor=2) | gaussian_noise(sigma=5)'"
    )
    (tmp_path / "c.yml").write_text(
        "- quantize:bits=2\n- 'image: resize(factor=2) | gaussian_noise(sigma=5)'\n- paper.table4"
    )
    by_id = make_plan([str(tmp_path / "a.json")], [3])
    assert by_id == make_plan([str(tmp_path / "b.yaml")], [3])
    assert {row.id: row.condition for row in by_id[2:]} == {
        "coarse": parse(texts["coarse"]),
        "mixed": parse(texts["mixed"] + " @ seed=3"),
    }
    listed = make_plan([str(tmp_path / "c.yml")], [3])
    assert [row.condition for row in listed[2:4]] == [row.condition for row in by_id[2:]]
    assert [row.id for row in listed[2:4]] == [
        "feature: quantize(bits=2)",
        "image: resize(factor=2) | gaussian_noise(sigma=5)",
    ]
    assert len(listed) == 2 + 2 + 6


def test_a_seed_of_its_own_is_kept() -> None:
    [run] = make_plan(["gaussian_noise(sigma=5) @ seed=0"], [1, 2])[2:]
    assert run.condition.seed == 0


def test_random_is_what_draws_numbers() -> None:
    parameters = {
        "packet_loss": "rate=0.1",
        "bit_error": "ber=0.1",
        "rank_shuffle": "span=9",
        "gaussian_noise": "sigma=1",
    }
    others = {"gaussian_blur": "sigma=1", "resize": "factor=2", "quantize": "bits=3", "monotone": "gamma=2"}
    assert parameters.keys() | others.keys() <= steps().keys()
    assert all(is_random(parse(f"quantize:bits=4 | {name}({text})")) for name, text in parameters.items())
    assert not any(is_random(parse(f"{name}({text}) | vvenc(qp=40)")) for name, text in others.items())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot read"),
        ("[1]", "neither"),
        ('{"a": {"b": 1}}', "neither"),
        ("3", "neither"),
        (None, "No such file"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CommandError, match=words) as error:
        make_plan([str(path)], [0])
    assert "\n" not in str(error.value)


def test_conditions_that_cannot_run_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConditionError, match="no_such"):
        make_plan(["no_such(thing=1)"], [0])
    with pytest.raises(ConditionError, match="table9"):
        make_plan(["paper.table9"], [0])
    (tmp_path / "a.json").write_text(json.dumps({"clean.image": "image: quantize(bits=2)"}))
    with pytest.raises(CommandError, match="names both"):
        make_plan([str(tmp_path / "a.json")], [0])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_file_nested_without_end_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    path.write_text("[" * 100_000)
    with pytest.raises(CommandError, match="nested too deeply"):
        make_plan([str(path)], [0])
