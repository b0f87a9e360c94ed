"""`featlink check-model`: a right model passes; each usual mistake is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tiny_model import TINY
from typer.testing import CliRunner

from featlink.cli import app
from featlink.errors import CommandError
from featlink.model_check import check_model
from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.registry import build

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OWN = (EXAMPLES / "own_model.py").read_text()


def written(folder: Path, *changes: tuple[str, str]) -> ModelConfig:
    """The example with mistakes."""
    text = OWN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "model.py").write_text(text)
    return ModelConfig(model=f"{folder}/model.py:build")


def test_the_example_is_right(tmp_path: Path) -> None:
    found = check_model(written(tmp_path))
    assert not found.faults
    assert len(found.proven) == 2
    assert [(one.name, one.shape, one.needed) for one in found.crossing] == [
        ("fine", (8, 26, 34), True),
        ("coarse", (16, 13, 17), True),
    ]
    # 97×131 is padded to 104×136: 26·34 outputs of 8 channels from 3·4·4, 13·17 of 16 from 8·2·2, 13·17 of 3 from 16.
    edge = 26 * 34 * 8 * 48 + 13 * 17 * 16 * 32
    assert found.multiply_adds == (edge, 13 * 17 * 3 * 16)
    assert found.reductions.keys() == {"pca", "bottleneck"}
    assert all(f"run `featlink fit {name}`" in why for name, why in found.reductions.items())
    assert not any(found.conditions.values())


@pytest.mark.slow
def test_torchvisions_network_is_compared_with_its_whole() -> None:
    found = check_model(ModelConfig(model=TINY))
    assert not found.faults
    assert not any("detect_image" in remark for remark in found.remarks)
    assert [one.name for one in found.crossing if one.source] == ["p6"]
    assert not check_model(ModelConfig(model=TINY, split="c2")).faults


FINE, COARSE = "fine = self.fine(torch.from_numpy(padded)).relu()", '"coarse": coarse[0].numpy()'
SKIP = 'features.levels["fine"].mean()'
PADDED = "padded = np.zeros((1, 3, *sizes.padded), np.float32)"
MISTAKES = {
    "a skip connection is kept in the object": (
        ((FINE, FINE.replace("=", "= self.kept =", 1)), (SKIP, "self.kept.mean()")),
        "fails on what crossed the link: AttributeError",
    ),
    "one of the picture before": (
        ((FINE, FINE.replace("=", "= OwnModel.kept =", 1)), (SKIP, "OwnModel.kept.mean()")),
        "skip connection|kept from picture",
    ),
    "another stride": ((('fl.TensorSpec("coarse", 16, 8)', 'fl.TensorSpec("coarse", 16, 16)'),), "coarse is float32"),
    "not float32": (((COARSE, COARSE.replace(".numpy", ".double().numpy")),), "float64"),
    "a tensor that spec does not name": (((COARSE, f'{COARSE}, "more": coarse[0].numpy()'),), "more"),
    "odd sizes are not padded": (((PADDED, PADDED.replace("padded)", "resized)")),), "fine is|coarse is"),
    "a tensor of torch's": ((("fine[0].numpy()", "fine[0]"),), "fine as torch.Tensor"),
    "tensors alone": ((("return fl.FeatureMaps({", "return fine; ({"),), "torch.Tensor, not featlink.FeatureMaps"),
    "detections of another kind": ((("return fl.Detections(", "return tuple, ("),), "tuple, not featlink.Detections"),
    "labels that nobody named": (((".numpy() + 1, None", ".numpy() + 2, None"),), "label 3"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_usual_mistakes_are_named(name: str, tmp_path: Path) -> None:
    changes, fault = MISTAKES[name]
    found = check_model(written(tmp_path, *changes))
    assert re.search(fault, "; ".join(found.faults)), found.faults


def test_what_no_detection_needs_is_remarked(tmp_path: Path) -> None:
    found = check_model(written(tmp_path, ('+ features.levels["fine"].mean()', "")))
    assert not found.faults
    assert [one.needed for one in found.crossing] == [False, True]
    assert any("fine is sent, but no detection depends on it" in remark for remark in found.remarks)


SPEC = 'spec = fl.FeatureSpec((fl.TensorSpec("fine", 8, 4), fl.TensorSpec("coarse", 16, 8)), divisor=8)'
NAMES = '("background", "person", "car")'


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('weights = "000000000000002a"', "kept = 42", "has no `weights`"),
        ('name = "own_model"', "kept = 42", "has no `name`"),
        (SPEC, "kept = 42", "has no `spec`"),
        (SPEC, "spec = {'fine': 8}", "spec is dict"),
        (f"categories = {NAMES}", f"categories = dict(enumerate({NAMES}))", "categories is dict"),
        ("return OwnModel()", "return nn.Conv2d(1, 1, 1)", "Conv2d, no subclass"),
        ("return OwnModel()", "OwnModel()", "NoneType, no subclass"),
    ],
)
def test_what_does_not_say_what_it_is_cannot_be_built(old: str, new: str, fault: str, tmp_path: Path) -> None:
    text = OWN.replace("len(self.categories)", "3")
    assert old in text
    (tmp_path / "model.py").write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=fault):
        build(ModelConfig(model=f"{tmp_path}/model.py:build"))


def test_the_command(tmp_path: Path) -> None:
    config = written(tmp_path)
    done = CliRunner().invoke(app, ["check-model", "--model", config.model], catch_exceptions=False)
    assert done.exit_code == 0
    assert "bit for bit on 4 pictures" in done.output


@pytest.mark.parametrize("name", ["another stride", "a tensor of torch's"])
def test_the_command_ends_with_a_line_where_something_is_wrong(name: str, tmp_path: Path) -> None:
    wrong = written(tmp_path, *MISTAKES[name][0])
    with pytest.raises(CommandError, match="not a network in two halves yet"):
        CliRunner().invoke(app, ["check-model", "--model", wrong.model], catch_exceptions=False)
