"""Finished sweeps in a folder, and the pictures behind their points."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.page.pictures import Pictures, decoded, jpeg
from featlink.report.sweep import Sweep, about, open_sweep
from featlink.results import MANIFEST, RESULTS, Row
from featlink.shared.errors import NotFoundError
from featlink.shared.models.overlay import paint
from featlink.shared.store import Store
from featlink.sweeps.records import DATABASE
from featlink.views import Matching, match, received_overlay

_DEPTH = 3


def names(root: Path) -> list[str]:
    """Folders under ``root`` that hold a finished sweep, relative to it, the newest first."""
    found = []
    for depth in range(1, _DEPTH + 1):
        for results in root.glob("*/" * depth + RESULTS):
            if (results.parent / MANIFEST).is_file():
                found.append((-results.stat().st_mtime, str(results.parent.relative_to(root))))
    return [name for _, name in sorted(found)]


def load(root: Path, name: str) -> Sweep:
    """A sweep of :func:`names`.

    Raises:
        CommandError: there is no such, or it cannot be read.
    """
    if name not in names(root):
        raise CommandError(f"there is no finished sweep {name!r} in {root}")
    return open_sweep(root / name)


def images(sweep: Sweep) -> dict[int, Path]:
    """Picture files of the sweep's data set, by image id.

    Raises:
        CommandError: the data set is not on this machine.
    """
    folder = about(sweep).folder
    if folder is None or not folder.exists():
        raise CommandError(f"the sweep's data set is not here ({folder or 'the manifest does not say where it is'})")
    return dict(open_dataset(folder).images)


@dataclass(frozen=True)
class Shot:
    """One picture of a sweep under one condition.

    Attributes:
        clean, received: keys of the pictures with their detections.
        matching: of both.
        picture: key of the file itself.
    """

    clean: str
    received: str
    matching: Matching
    picture: str


def shot(sweep: Sweep, row: Row, image_id: int, path: Path, drawn: Pictures, uploads: Pictures) -> Shot:
    """Draw what a condition left of one picture's detections, beside the clean ones.

    Args:
        sweep: of the row.
        row: the condition; its first seed is shown.
        image_id: the picture.
        path: its file.
        drawn: takes the drawings.
        uploads: takes the file, for the playground.

    Raises:
        CommandError: the detections are not there.
    """
    database = sweep.folder / DATABASE
    clean_row = sweep.clean(row.domain)
    if clean_row is None:
        raise CommandError(f"the sweep has no clean run of the {row.domain} domain")
    if not database.is_file():  # SQLite would make it
        raise CommandError(f"there is no {database}, which has the detections")
    with contextlib.closing(Store(f"sqlite:///{database}")) as store:
        try:
            clean, received = (store.result(one.seeds[0].run, image_id).detections for one in (clean_row, row))
        except NotFoundError as error:
            raise CommandError(str(error)) from None
    data = path.read_bytes()
    pixels, labels = decoded(data), open_dataset(_folder(sweep)).categories()
    matching = match(clean, received)
    return Shot(
        drawn.put(jpeg(paint(pixels, clean, labels))),
        drawn.put(jpeg(received_overlay(pixels, matching, labels))),
        matching,
        uploads.put(data),
    )


def _folder(sweep: Sweep) -> Path:
    folder = about(sweep).folder
    if folder is None:
        raise CommandError("the manifest does not say where the pictures are")
    return folder
