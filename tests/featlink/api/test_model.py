"""Loading a model, and detecting whatever comes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny_model import TINY

import featlink as fl
from featlink.shared.evaluation.coco_results import to_coco


def test_the_split_is_the_whole(model: fl.Model, image: npt.NDArray[np.uint8], clean: fl.Pyramid) -> None:
    whole = to_coco(model.split.detect_image(image), None)
    assert to_coco(model.detect(image), None) == whole
    assert to_coco(model.detect(clean), None) == whole
    assert to_coco(model.detect(fl.transmit(clean, "identity")), None) == whole
    assert to_coco(model.detect(fl.transmit(image, "identity")), None) == whole


def test_a_model_says_what_it_is(model: fl.Model) -> None:
    assert "tiny" in repr(model)
    assert "exact" in repr(model)
    assert model.categories[1] == "person"


def test_changed_features_are_detected(model: fl.Model, clean: fl.Pyramid) -> None:
    without = replace(clean, levels={name: level for name, level in clean.levels.items() if name != "p6"})
    assert to_coco(model.detect(without), None) == to_coco(model.detect(clean), None), "p6 is made of p5"
    zeros = replace(clean, levels={name: np.zeros_like(level) for name, level in clean.levels.items()})
    assert to_coco(model.detect(zeros), None) != to_coco(model.detect(clean), None)
    with pytest.raises(fl.FeatlinkError, match="frame has no tensor 'p2'"):
        model.detect(replace(clean, levels={}))


@pytest.mark.slow
def test_another_models_features_are_refused(
    clean: fl.Pyramid, random_checkpoint: Callable[[str], Path], image: npt.NDArray[np.uint8]
) -> None:
    name = "fasterrcnn_resnet50_fpn"
    other = fl.load(random_checkpoint(name), model=name, profile="exact", min_size=64, max_size=96, max_detections=2)
    with pytest.raises(fl.FeatlinkError, match="tiny with weights"):
        other.detect(clean)
    found = other.detect(image)
    assert found.masks is None
    assert len(found.above(2)) == 0


def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    from featlink.api.model import model_config

    monkeypatch.setenv("FEATLINK_PROFILE", "exact")
    monkeypatch.setenv("FEATLINK_MIN_SIZE", "64")
    config = model_config(max_size=96)
    assert (config.profile, config.min_size, config.max_size) == ("fast", None, 96)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": "none.pth"}, r"no weights at .*none\.pth"),
        ({"model": "yolo"}, "unknown model 'yolo'; known are"),
        ({"profile": "quick"}, "profile: Input should be 'fast', 'exact' or 'bf16'"),
        ({"min_size": 3}, "min_size: Input should be greater than or equal to 32"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(fl.FeatlinkError, match=message) as caught:
        fl.load(**wrong)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


FORKED = """
import multiprocessing, sys
import numpy as np
import featlink as fl

tiny, image = sys.argv[1], np.zeros((64, 64, 3), np.uint8)
model = fl.load(model=tiny)
model.detect(image)


def told(call):
    try:
        call()
    except fl.FeatlinkError as error:
        return str(error)


def refused(queue):
    calls = lambda: model.detect(image), lambda: fl.load(model=tiny), lambda: fl.sweep("starter", "identity")
    queue.put(list(map(told, calls)))


fork = multiprocessing.get_context("fork")
queue = fork.Queue()
fork.Process(target=refused, args=(queue,)).start()
assert all("spawn" in line for line in queue.get())
assert len(model.detect(image)), "the parent goes on"
"""


@pytest.mark.slow
def test_after_a_fork_a_model_says_so_instead_of_hanging() -> None:
    subprocess.run([sys.executable, "-c", FORKED, TINY], check=True, timeout=300)
