"""Open Images' files: by their columns, in the parts that a user has, with a subset's list; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_model import TINY

import featlink as fl
from featlink.dataset import ground_truth, open_dataset
from featlink.errors import CommandError

ENTITY, PERSON, MAN, CAR = "/m/0bl9f", "/m/01g317", "/m/04yx4", "/m/0k4j"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "validation").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    for name in ("00a1", "ffb2", "0003"):
        cv2.imwrite(str(tmp_path / "validation" / f"{name}.jpg"), rng.integers(0, 256, (60, 80, 3), np.uint8))
    notes = tmp_path / "annotations"
    (notes / "class-descriptions-boxable.csv").write_text(f'{MAN},Man\n{PERSON},Person\n{CAR},"Car, any"\n')
    (notes / "validation-annotations-bbox.csv").write_text(
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
        f"00a1,xclick,{MAN},1,0.25,0.5,0.5,1,0,0,0,0,0\n"
        f"00a1,xclick,{CAR},1,0,1,0,1,0,0,1,0,0\n"
        f"ffb2,xclick,{PERSON},1,0.1,0.2,0.1,0.2,0,0,0,0,0\n"
        f"ffb2,xclick,/m/unknown,1,0.1,0.2,0.1,0.2,0,0,0,0,0\n"
    )
    (notes / "validation-human-imagelabels.csv").write_text(
        f"ImageID,Source,LabelName,Confidence\n0003,verification,{PERSON},0\n00a1,verification,{MAN},1\n"
    )
    tree = {
        "LabelName": ENTITY,
        "Subcategory": [{"LabelName": PERSON, "Subcategory": [{"LabelName": MAN}]}, {"LabelName": CAR}],
    }
    (notes / "challenge-2019-label500-hierarchy.json").write_text(json.dumps(tree))
    return tmp_path


def test_boxes_groups_labels_and_hierarchy_are_read(folder: Path) -> None:
    data = open_dataset(folder)
    truth, repairs = ground_truth(data)
    assert not repairs
    assert [path.stem for path in data.images.values()] == ["0003", "00a1", "ffb2"]
    man, person, car = truth.categories
    assert (man.name, person.name, car.name) == ("Man", "Person", "Car, any")
    assert (man.parents, person.parents, car.parents) == ((person.id,), (), ())
    one, group, other = truth.annotations
    assert one.bbox == (20, 30, 20, 30)
    assert (one.area, one.iscrowd, group.iscrowd, other.category_id) == (600, 0, 1, person.id)
    verified = {data.images[image.id].stem: image.verified for image in truth.images}
    assert verified == {
        "0003": [man.id, person.id],  # without people there are no men
        "00a1": [man.id, person.id, car.id],
        "ffb2": [person.id],
    }


def test_a_list_chooses_and_orders_the_images(folder: Path) -> None:
    (folder / "mpeg.txt").write_text("ffb2\n0003\n")
    data = open_dataset(folder / "mpeg.txt")
    assert [path.stem for path in data.images.values()] == ["ffb2", "0003"]
    assert len(ground_truth(data)[0].annotations) == 1
    (folder / "mpeg.txt").write_text("ffb2\nnone\n")
    with pytest.raises(CommandError, match=r"1 of 2 pictures are not there, such as none\.jpg"):
        open_dataset(folder / "mpeg.txt")


def test_masks_are_read_at_the_pictures_size(folder: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[10:20, 10:30] = 255
    cv2.imwrite(str(folder / "masks" / "m.png"), mask)
    file = folder / "annotations" / "validation-annotations-object-segmentation.csv"
    file.write_text(
        "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
        f"m.png,00a1,{MAN},b,0.25,0.75,0.33,0.67,0.9,\n"
    )
    truth = ground_truth(open_dataset(file))[0]
    assert truth.has_masks
    assert truth.annotations[0].area == 4 * 200
    assert not ground_truth(open_dataset(folder))[0].has_masks, "boxes come first"
    file.write_text(file.read_text().replace("m.png", "n.png"))
    with pytest.raises(CommandError, match=r"n\.png is not a mask"):
        open_dataset(file)


def test_a_sweep_has_its_figure(folder: Path, tmp_path: Path) -> None:
    rows = fl.sweep(folder, ["quantize(bits=4)"], model=TINY, out=tmp_path / "out")
    assert all(0 <= row["openimages_mAP50"] <= 1 for row in rows)
    assert "openimages_segm_mAP50" not in rows[0]


def test_what_is_missing_is_told(folder: Path) -> None:
    (folder / "annotations" / "class-descriptions-boxable.csv").unlink()
    with pytest.raises(CommandError, match="class descriptions"):
        open_dataset(folder)
