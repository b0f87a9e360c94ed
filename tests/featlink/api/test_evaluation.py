"""COCO's numbers of detections at hand, and fidelity of signals at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import featlink as fl

PERFECT = fl.Detections(
    boxes=np.array([[5, 5, 35, 30]], np.float32),
    scores=np.array([0.9], np.float32),
    labels=np.array([1]),
    masks=None,
)
NOTHING = PERFECT.above(1)


def test_only_the_images_given_count(tiny: Path) -> None:
    assert fl.evaluate(tiny, {5: PERFECT}).bbox["AP"] == pytest.approx(1)
    assert fl.evaluate(tiny, {5: PERFECT, 2: NOTHING}).bbox["AR100"] == 0.5
    assert fl.evaluate(tiny, {5: PERFECT}).segm is None
    assert fl.evaluate(tiny, {}).bbox["AP"] is None


def test_the_ground_truth_comes_in_many_forms(tiny: Path) -> None:
    file = tiny / "annotations" / "instances_val.json"
    for truth in (tiny, str(tiny), file, str(file), json.loads(file.read_bytes())):
        assert fl.evaluate(truth, {5: PERFECT, 9: NOTHING}).bbox["AR1"] == 0.5


def test_masks_count_where_there_are_some(model: fl.Model, image: npt.NDArray[np.uint8], tiny: Path) -> None:
    metrics = fl.evaluate(tiny, {5: model.detect(image)})
    assert metrics.segm is not None
    assert metrics.segm.keys() == metrics.bbox.keys()


def test_the_bundled_scenes_have_a_name() -> None:
    image_id = next(iter(fl.open_dataset("starter").images))
    assert fl.evaluate("starter", {image_id: NOTHING}).bbox["AP"] == 0


def test_what_cannot_be_scored_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(fl.FeatlinkError, match="image 77 is not in the data set"):
        fl.evaluate(tiny, {77: PERFECT})
    with pytest.raises(fl.FeatlinkError, match=r"cannot read .*none.json: No such file"):
        fl.evaluate(tmp_path / "none.json", {})
    with pytest.raises(fl.FeatlinkError, match="has no annotations"):
        fl.evaluate(tmp_path, {})
    with pytest.raises(fl.FeatlinkError, match="missing required field `images`"):
        fl.evaluate({}, {})


def test_signals_are_compared(clean: fl.Pyramid, image: npt.NDArray[np.uint8]) -> None:
    sent = fl.transmit(clean, "quantize(bits=4)")
    assert fl.compare(clean, sent.pyramid) == sent.fidelity
    other = image.copy()
    other[0] ^= 1
    assert fl.compare(image, other).psnr == pytest.approx(10 * np.log10(255**2 * 48))
    with pytest.raises(fl.FeatlinkError, match="an image is a uint8 array"):
        fl.compare(clean, image)
    with pytest.raises(fl.FeatlinkError, match="two arrays of one shape"):
        fl.compare(image, image[:40])


def test_repairs_of_the_ground_truth_are_told(tiny: Path) -> None:
    data = json.loads((tiny / "annotations" / "instances_val.json").read_text())
    for one in data["annotations"]:
        del one["iscrowd"]
    with pytest.warns(UserWarning, match=r"was mended: missing iscrowd \(\d+\)"):
        fl.evaluate(data, {5: NOTHING})
