"""COCO val2017: 5000 photos with instance annotations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from featlink.dataset import missing, open_dataset
from featlink.errors import CommandError
from featlink.fetch.download import Checksum, Progress, Source, download
from featlink.fetch.unpack import unpack

IMAGES = Source("http://images.cocodataset.org/zips/val2017.zip", Checksum("md5", "442b8da7639aecaf257c1dceb8ba8c80"))
ANNOTATIONS = Source(
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
    Checksum("md5", "f4bbac642086de4f52a3fdda2de5fa2c"),
)
"""COCO itself publishes no checksums; these MD5 sums are the widely published ones."""

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
        CommandError: see :func:`featlink.fetch.download.download` and :func:`featlink.fetch.unpack.unpack`.
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
