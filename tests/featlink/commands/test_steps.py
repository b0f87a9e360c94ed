"""``featlink steps`` says what is registered, also by other packages, and what could not be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from featlink.commands.catalogue import describe, values
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import Step, steps

OUTSIDE = '''
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from featlink.channel.distortions.base import Distortion, Planes
from featlink.shared.conditions.registry import register


@register
class Dim(Distortion):
    """Make samples darker."""

    strength: ClassVar[str | None] = "by"

    type: Literal["outside_dim"] = "outside_dim"
    by: float = Field(default=0.5, gt=0, lt=1, description="what samples are multiplied by")

    def apply(self, planes: Planes, rng: np.random.Generator) -> Planes:
        return planes
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a package of one step, and one that cannot be imported."""
    (tmp_path / "outside_dim.py").write_text(OUTSIDE)
    (tmp_path / "outside_broken.py").write_text("import no_such_library\n")
    installed = tmp_path / "outside-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[featlink.steps]\ndim = outside_dim\nbroken = outside_broken\n")
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def featlink_steps(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "featlink", "steps", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
def test_lists_every_step_and_what_could_not_be_loaded(environment: dict[str, str]) -> None:
    shown = featlink_steps(environment)
    blocks = {block.partition(":")[0]: block for block in shown.strip().split("\n\n")}
    assert blocks.keys() == {*steps(), "outside_dim", "Could not be loaded"}
    for name, step in steps().items():
        assert all(f"\n  {parameter}: " in blocks[name] for parameter in step.model_fields.keys() - {"type"})
    assert "  by: number above 0, below 1, 0.5 by default – what samples are multiplied by" in blocks["outside_dim"]
    assert "Make samples darker." in blocks["outside_dim"]
    assert "no_such_library" in blocks["Could not be loaded"]
    assert "outside_broken" not in shown
    assert "broken: ModuleNotFoundError" in shown


@pytest.mark.slow
def test_json_is_the_schema(environment: dict[str, str]) -> None:
    schema = json.loads(featlink_steps(environment, "--json"))
    jsonschema.validate(parse("image: quantize(bits=4)").model_dump(mode="json"), schema)
    assert any(
        definition.get("properties", {}).get("type", {}).get("const") == "outside_dim"
        for definition in schema["$defs"].values()
    )
    assert "no_such_library" in schema["x-featlink-failures"]["broken"]


@pytest.mark.parametrize("step", steps().values(), ids=steps())
def test_each_parameter_has_values_a_default_and_a_description(step: type[Step]) -> None:
    lines = list(describe(step))
    assert lines[0].startswith(f"{step.model_fields['type'].default}: ")
    for name, field in step.model_fields.items():
        if name == "type":
            continue
        [line] = [line for line in lines if line.startswith(f"  {name}: ")]
        assert ("required" in line) == field.is_required()
        assert field.description
        assert " – " in line


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 16}, "whole number from 1 to 16"),
        ({"type": "number", "exclusiveMinimum": 0}, "number above 0"),
        ({"type": "integer", "minimum": 2, "multipleOf": 2}, "whole number from 2, in steps of 2"),
        ({"enum": ["a", "b", "c"]}, "a, b or c"),
        ({"const": 10}, "10"),
        ({"type": "boolean"}, "true or false"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "whole number or text"),
        ({"$ref": "#/$defs/Way"}, "up or down"),
    ],
)
def test_values_in_words(field: dict[str, object], words: str) -> None:
    assert values(field, {"Way": {"enum": ["up", "down"]}}) == words
