"""``import featlink``: what it has, and that it costs nothing."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import featlink as fl

NAMES = [
    "Array",
    "ClipEvaluator",
    "Codec",
    "CodecError",
    "Condition",
    "Delivery",
    "Detections",
    "Distortion",
    "Evaluator",
    "FeatlinkError",
    "FeatureMaps",
    "FeatureSpec",
    "Fidelity",
    "Figure",
    "Model",
    "ModelConfig",
    "Planes",
    "Pyramid",
    "Samples",
    "Sizes",
    "SplitModel",
    "Step",
    "StillCodec",
    "Stream",
    "TensorSpec",
    "Tools",
    "compare",
    "decide",
    "draw",
    "evaluate",
    "load",
    "open_dataset",
    "open_stream",
    "parse",
    "read_image",
    "register",
    "register_evaluator",
    "steps",
    "stream",
    "sweep",
    "transmit",
    "write_report",
]


def after(code: str) -> set[str]:
    """Modules loaded by a fresh interpreter that has run the code."""
    command = [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"]
    return set(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout))


def test_the_names_are_these() -> None:
    assert fl.__all__ == NAMES
    assert dir(fl) == NAMES


def test_every_name_is_there_and_says_what_it_is() -> None:
    for name in NAMES:
        value = getattr(fl, name)
        assert value is getattr(fl, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="module 'featlink' has no attribute 'detect'"):
        fl.detect  # noqa: B018


def test_importing_loads_neither_torch_nor_numpy_nor_pydantic() -> None:
    assert not after("import featlink as fl; dir(fl)") & {"torch", "numpy", "pydantic", "cv2", "PIL", "rich"}


def test_a_step_of_another_package_needs_no_torch() -> None:
    loaded = after("from featlink import Codec, Distortion, Planes, Step, Tools, register, stream")
    assert "featlink.channel.distortions.base" in loaded
    assert not loaded & {"torch", "torchvision", "openvino", "plotly"}


@pytest.mark.slow
def test_sending_needs_no_torch() -> None:
    code = """
import numpy as np, featlink as fl
sent = fl.transmit(np.zeros((16, 24, 3), np.uint8), 'jpeg @ at=original')
assert sent.image.shape == (16, 24, 3)"""
    assert "torch" not in after(code)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["import featlink.sweeps.plan", "import featlink; featlink.sweep", ""])
def test_sweep_is_called_whatever_was_imported_before(first: str) -> None:
    code = f"""
{first}
import featlink as fl
from featlink import sweep
assert sweep is fl.sweep
try:
    fl.sweep('starter', [], engine='steam')
except fl.FeatlinkError as error:
    assert 'steam' in str(error)
else:
    raise SystemExit('no error')"""
    assert "featlink.sweeps.plan" in after(code)
    assert list(inspect.signature(fl.sweep).parameters)[:2] == ["dataset", "conditions"]  # type: ignore[arg-type]
