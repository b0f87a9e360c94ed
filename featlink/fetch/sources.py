"""What can be fetched: COCO val2017, with instance annotations, and official weights of torchvision and detectron2."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
from torchvision.models import get_model_weights

from featlink.dataset import missing, open_dataset
from featlink.errors import CommandError
from featlink.fetch.download import Checksum, Progress, Source, download, unpack
from featlink.shared.models.checkpoints import path_hash
from featlink.shared.models.config import DETECTORS, MODELS

IMAGES = Source("http://images.cocodataset.org/zips/val2017.zip", Checksum("md5", "442b8da7639aecaf257c1dceb8ba8c80"))
ANNOTATIONS = Source(
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    Checksum("md5", "f4bbac642086de4f52a3fdda2de5fa2c"),
)
"""COCO itself publishes no checksums; these MD5 sums are the widely published ones."""

_ZOO = "https://dl.fbaipublicfiles.com/detectron2"
DETECTRON2 = {
    "mask_rcnn_R_50_FPN_3x.pkl": Source(
        f"{_ZOO}/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl", None
    ),
    "faster_rcnn_R_50_FPN_3x.pkl": Source(
        f"{_ZOO}/COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl", None
    ),
}
"""By the name that the file gets here. detectron2's model zoo publishes no checksums; its models are under the Creative
Commons Attribution-ShareAlike 3.0 licence, its code under the Apache License 2.0."""

_TRUTH = "annotations/instances_val2017.json"


def fetch_val2017(
    folder: Path,
    progress: Callable[[str], Progress],
    images: Source = IMAGES,
    annotations: Source = ANNOTATIONS,
) -> None:
    """Fetch COCO val2017 in the layout :func:`featlink.dataset.open_dataset` reads; what is there stays.

    The archives are deleted once they are unpacked.

    Args:
        folder: gets ``val2017/`` and ``annotations/instances_val2017.json``.
        progress: gives the display for a file or step of that name.
        images: archive of the photos.
        annotations: archive of the ground truth.

    Raises:
        CommandError: see :mod:`featlink.fetch.download`.
    """
    if not (folder / _TRUTH).is_file():
        _fetch(annotations, folder, progress, lambda name: name == _TRUTH)
    if not _complete(folder):
        _fetch(images, folder, progress, lambda name: name.startswith("val2017/"))


def _complete(folder: Path) -> bool:
    try:
        data = open_dataset(folder / _TRUTH)
    except CommandError:
        return False
    return bool(data.images) and not missing(data)


def _fetch(source: Source, folder: Path, progress: Callable[[str], Progress], wanted: Callable[[str], bool]) -> None:
    name = source.url.rpartition("/")[2]
    archive = folder / name
    download(source, archive, progress(name))
    if not unpack(archive, folder, wanted, progress(f"unpack {name}")):
        raise CommandError(f"{archive} has no files of val2017")
    archive.unlink()


def fetch_detectron2(
    folder: Path, progress: Callable[[str], Progress], sources: Mapping[str, Source] = DETECTRON2
) -> dict[str, str]:
    """Fetch the R50-FPN 3x checkpoints of detectron2's model zoo; what is there stays.

    Args:
        folder: gets them.
        progress: gives the display for a file of that name.
        sources: by the name that the file gets.

    Returns:
        SHA-256 of each file, by name.

    Raises:
        CommandError: see :mod:`featlink.fetch.download`.
    """
    for name, source in sources.items():
        download(source, folder / name, progress(name))
    digests = {}
    for name in sources:
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def cached_path(model: str) -> Path:
    """Where ``--weights coco`` finds a model's official file (torch.hub's cache).

    Raises:
        CommandError: there is no such model.
    """
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(official(model).url).path).name


def official(model: str) -> Source:
    """A model's official file; torchvision's file names carry the beginning of the SHA-256.

    Raises:
        CommandError: there is no such model.
    """
    if model not in (*MODELS, *DETECTORS):
        raise CommandError(f"unknown model {model!r}; known are {', '.join((*MODELS, *DETECTORS))}")
    weights = get_model_weights(model)["COCO_V1"]
    return Source(weights.url, Checksum("sha256", path_hash(weights)))
