"""Files to pixels, and detections drawn on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import featlink as fl

FOUND = fl.Detections(
    boxes=np.array([[5, 5, 35, 30], [1, 1, 60, 40]], np.float32),
    scores=np.array([0.9, 0.2], np.float32),
    labels=np.array([1, 2]),
    masks=None,
    categories=("__background__", "person", "bicycle"),
)
GREY = np.full((48, 64, 3), 100, np.uint8)


def test_a_picture_is_turned_as_it_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, 0] = 255, 10, 20
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = fl.read_image(str(tmp_path / "a.png"))
    assert (image.shape, image.dtype) == ((6, 4, 3), np.uint8)
    assert image[0, 3].tolist() == [255, 10, 20]
    image[0, 0] = 1  # a notebook may write to it


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(fl.FeatlinkError, match=r"cannot read .*none.jpg: No such file"):
        fl.read_image(tmp_path / "none.jpg")
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(fl.FeatlinkError, match=r"a.txt: not a JPEG"):
        fl.read_image(tmp_path / "a.txt")


def test_detections_above_the_threshold_are_drawn() -> None:
    picture = fl.draw(GREY, FOUND)
    assert (picture.size, picture.mode) == ((64, 48), "RGB")
    changed = (np.asarray(picture) != GREY).any(axis=2)
    assert changed[30, 5:35].all()
    assert not changed[41:].any(), "the second is too unsure"
    assert (np.asarray(fl.draw(GREY, FOUND, threshold=0.2)) != GREY).any(axis=2)[40, 1:60].all()
    assert (GREY == 100).all()


def test_categories_are_named() -> None:
    numbered = fl.Detections(FOUND.boxes, FOUND.scores, FOUND.labels, None)
    assert fl.draw(GREY, numbered).tobytes() != fl.draw(GREY, FOUND).tobytes()


def test_a_model_names_its_categories(model: fl.Model, image: npt.NDArray[np.uint8]) -> None:
    found = model.detect(image)
    assert found.categories[17] == "cat"
    assert len(found) == 10
    kept = found.above(float(found.scores[2]))
    assert len(kept) == 3
    assert kept.masks is not None
    assert found.masks is not None
    np.testing.assert_array_equal(kept.masks[2], found.masks[2])


@pytest.mark.parametrize("image", [GREY[..., 0], GREY.astype(np.float32), GREY.tolist(), GREY[:0]])
def test_what_is_no_image_is_refused(image: object, model: fl.Model) -> None:
    for use in (lambda: fl.draw(image, FOUND), lambda: model.pyramid(image), lambda: fl.transmit(image, "jpeg")):  # type: ignore[arg-type]
        with pytest.raises(fl.FeatlinkError, match=r"an image is a uint8 array \(H, W, 3\)"):
            use()
