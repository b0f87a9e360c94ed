"""A sweep's folder → its report, pictures included where they can be had."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from featlink.dataset import Dataset, open_dataset
from featlink.errors import CommandError
from featlink.report.about import about
from featlink.report.curve import Curve
from featlink.report.gallery import Strip, chosen_images, chosen_pairs, overlays, plane_strips
from featlink.report.page import Page, page
from featlink.report.sweep import Sweep, condition_of, label
from featlink.shared.errors import FeatlinkError
from featlink.shared.store import Store, sqlite_url
from featlink.sweeps.records import DATABASE

if TYPE_CHECKING:  # it loads torch
    from featlink.report.replay import Replay

_LEVELS = ("p2", "p3", "p4", "p5")


@dataclass(frozen=True)
class ReportOptions:
    """Which pictures a report gets.

    Attributes:
        dataset: the data set's folder; None takes the manifest's.
        images: how many images the gallery shows; 0 for no gallery.
        planes: recompute what crossed the link, which needs the sweep's weights and some seconds.
        others: curves of others, to stand beside ours.
    """

    dataset: Path | None = None
    images: int = 3
    planes: bool = True
    others: Sequence[Curve] = ()


def make_page(sweep: Sweep, wanted: ReportOptions) -> Page:
    """Make a report; a part that cannot be made says why in its place."""
    try:
        dataset = _dataset(sweep, wanted)
        with contextlib.closing(_store(sweep)) as store:
            ids = chosen_images(sweep, store, dataset.images, max(1, wanted.images))
            replay = _replay(sweep, wanted)
            gallery = _gallery(sweep, store, dataset, ids[: wanted.images], replay)
        planes = [replay] if isinstance(replay, str) else _planes(sweep, replay, dataset, ids[:1])
    except (FeatlinkError, OSError, SQLAlchemyError) as error:
        reason = f"Left out: {str(error).splitlines()[0]}"
        return page(sweep, [reason], [reason], wanted.others)
    return page(sweep, gallery, planes, wanted.others)


def _dataset(sweep: Sweep, wanted: ReportOptions) -> Dataset:
    folder = wanted.dataset or about(sweep).folder
    if folder is None:
        raise CommandError("the manifest does not say where the pictures are; give the data set with --dataset")
    if wanted.dataset is None and not folder.is_dir():
        raise CommandError(f"there is no data set at {folder}; give it with --dataset")
    return open_dataset(folder, sweep.truth)


def _store(sweep: Sweep) -> Store:
    path = sweep.folder / DATABASE
    if not path.is_file():  # SQLite would make it
        raise CommandError(f"there is no {path}, which has the detections")
    return Store(sqlite_url(path))


def _replay(sweep: Sweep, wanted: ReportOptions) -> Replay | str:
    if not wanted.planes:
        return "Left out on request (--no-planes)."
    from featlink.report.replay import open_replay

    try:
        return open_replay(about(sweep))
    except FeatlinkError as error:
        return f"Left out: {error}"


def _gallery(sweep: Sweep, store: Store, dataset: Dataset, ids: list[int], replay: Replay | str) -> list[Strip | str]:
    if not ids:
        return ["No pictures were asked for, or none of the data set was evaluated."]
    names = dataset.categories() or ({} if isinstance(replay, str) else replay.categories)
    images = [image for _, image in chosen_pairs(sweep)]
    blocks: list[Strip | str] = []
    for image_id in ids:
        path = dataset.images[image_id]
        distorted = None if isinstance(replay, str) else replay.pictures(path, image_id, images)
        blocks.append(overlays(sweep, store, image_id, path, names, distorted))
    told = "Features cannot be seen, so their detections are drawn on the clean picture"
    blocks.append(
        f"{told}, as are the image domain's."
        if isinstance(replay, str)
        else f"{told}; the image domain's on what was received."
    )
    return blocks


def _planes(sweep: Sweep, replay: Replay, dataset: Dataset, ids: list[int]) -> list[Strip | str]:
    from featlink.shared.frames.visualisation import planes

    clean = sweep.clean("feature")
    if clean is None or not ids:
        return ["Left out: no image was evaluated with clean features."]
    path = dataset.images[ids[0]]
    rows = [clean, *(feature for feature, _ in chosen_pairs(sweep))]
    found = {label(row): planes(replay.received(path, ids[0], condition_of(row))) for row in rows}
    return list(plane_strips(found, _LEVELS))
