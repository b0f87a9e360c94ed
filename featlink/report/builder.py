"""A sweep's folder → its report, pictures included where they can be had."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from featlink.dataset import Dataset, open_dataset
from featlink.deciding.decision import decision_blocks
from featlink.errors import CommandError
from featlink.report.coding import coding_blocks
from featlink.report.conditions import (
    agreement_table,
    by_table,
    equal_noise_table,
    metrics_table,
    other_table,
    paper_tables,
    size_table,
)
from featlink.report.curves import (
    Curve,
    bd_findings,
    bd_table,
    curve_figures,
    equal_bits_table,
    equal_psnr_table,
    paper_figure,
)
from featlink.report.gallery import THRESHOLD, Strip, chosen_images, chosen_pairs, overlays, plane_strips
from featlink.report.html import Block, Page, Section
from featlink.report.sweep import Sweep, about, condition_of, label, manifest_table
from featlink.report.table import Table, markdown, percent
from featlink.report.timing import break_even_table, coding_times_table, latency_figures, multiply_adds_table, overlaps
from featlink.results import DATABASE, Row
from featlink.shared.errors import FeatlinkError
from featlink.shared.store import Store, sqlite_url

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
        pictures: the folder of the pictures; None takes the manifest's, or where they are found.
    """

    dataset: Path | None = None
    images: int = 3
    planes: bool = True
    others: Sequence[Curve] = ()
    pictures: Path | None = None


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
    if wanted.dataset is None and not folder.exists():
        raise CommandError(f"there is no data set at {folder}; give it with --dataset")
    return open_dataset(folder, sweep.truth, wanted.pictures or (None if wanted.dataset else about(sweep).pictures))


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


_OVERLAP = (
    " Stages of this sweep overlapped: their times include waiting for one another, and are no basis for a decision. A "
    "sweep of a few images with --threads 1 or --engine http gives times that are."
)
_DECISION = (
    "The fastest way to keep 95 % of the clean AP over some links, with both machines as measured. `featlink decide` "
    "answers for other links, traces, machines, floors and deadlines."
)
_CODING = "What coded pixels, features and reduced features need for the same AP, over every set of `fcm` rows."


def page(
    sweep: Sweep, gallery: Sequence[Strip | str], planes: Sequence[Strip | str], others: Sequence[Curve] = ()
) -> Page:
    """Put a sweep's report together.

    Args:
        sweep: whose report.
        gallery: overlays, or why there are none.
        planes: packed planes, or why there are none.
        others: curves of others, to stand beside ours.
        pictures: the folder of the pictures; None takes the manifest's, or where they are found.
    """
    what = about(sweep)
    coding, decision = coding_blocks(sweep, others), decision_blocks(sweep)
    sections = [
        Section("paper", "The paper's tables", _paper_lead(sweep), _present(*_paper_blocks(sweep))),
        Section(
            "equal",
            "At equal cost",
            "The paper compares both domains at the same setting of a distortion. Here they are compared where they "
            "cost the same bits, or where the errors are equally large.",
            _present(*curve_figures(sweep), bd_table(sweep), equal_bits_table(sweep), equal_psnr_table(sweep)),
        ),
        *([Section("coding", "Feature coding", _CODING, coding)] if coding else []),
        Section(
            "other",
            "Beyond the paper",
            "Mixes of distortions, losses, further strengths, and rank probes: rank_shuffle keeps the histogram of the "
            "features and breaks their order, monotone keeps their order and changes the histogram.",
            _present(other_table(sweep) or "This sweep has no such conditions."),
        ),
        *_own_metrics(sweep),
        Section("sizes", "Small and large objects", "What a distortion costs by size of object.", [size_table(sweep)]),
        Section(
            "latency",
            "Time",
            "Mean time of one image by stage, and the link rate from which sending features pays."
            + (_OVERLAP if overlaps(sweep) else ""),
            _present(
                *latency_figures(sweep),
                break_even_table(sweep) or "This sweep has no timings of both domains.",
                coding_times_table(sweep),
                multiply_adds_table(sweep),
            ),
        ),
        *([Section("decision", "Which to send", _DECISION, decision)] if decision else []),
        Section(
            "gallery",
            "What is detected",
            f"Detections with a score from {THRESHOLD} under the costliest strength of each distortion: what was sent "
            "as features above, as an image below.",
            gallery,
        ),
        Section("planes", "What crosses the link", "The features of one image as the planes that are sent.", planes),
        Section("manifest", "Manifest", "", [manifest_table(sweep)]),
    ]
    return Page(
        "Featlink report: features or pixels over the link", what.statement, what.facts, findings(sweep), sections
    )


def findings(sweep: Sweep) -> list[str]:
    """What the numbers say, in one sentence each."""
    found = []
    retentions = [(sweep.retention(feature), sweep.retention(image)) for feature, image in sweep.twins()]
    kept = [(f, i) for f, i in retentions if f is not None and i is not None]
    if kept:
        wins = sum(f > i for f, i in kept)
        found.append(
            f"Under the same distortion, features keep more of their clean AP than the image in {wins} of {len(kept)} "
            "pairs of conditions."
        )
    overall = by_table(sweep, sweep.kind)["overall"]
    if overall.spearman is not None:
        found.append(
            f"Over {overall.rows} rows of the paper, retention correlates with the paper's by Spearman's "
            f"ρ = {overall.spearman:.2f}; it differs by {percent(overall.error)} percentage points on average."
        )
    return found + bd_findings(sweep)


def to_markdown(report: Page) -> str:
    """The report's texts and tables in Markdown, without the manifest, which is of one machine."""
    parts = [f"# {report.title}", report.statement]
    parts.append("\n".join(f"- {what}: {value}" for what, value in report.facts))
    parts += report.findings
    for section in report.sections:
        tables = [markdown(block).strip() for block in section.blocks if isinstance(block, Table)]
        if tables and section.id != "manifest":
            parts += [f"## {section.title}", *([section.lead] if section.lead else []), *tables]
    return "\n\n".join(parts) + "\n"


def _paper_lead(sweep: Sweep) -> str:
    spread = max((_spread(sweep, row) for row in sweep.rows), default=0.0)
    lead = (
        "Each row beside the paper's own numbers. Retention is AP over the AP without distortion in the same domain; "
        "the paper's is relative to its mAP of 40.3. Δ is ours less the paper's, in percentage points."
    )
    if spread:
        lead += f" Random distortions: median over seeds, whose APs lie at most {100 * spread:.1f} points apart."
    return lead


def _own_metrics(sweep: Sweep) -> list[Section]:
    table = metrics_table(sweep)
    return [] if table is None else [Section("metrics", "Further metrics", "Of evaluators beside COCO's.", [table])]


def _spread(sweep: Sweep, row: Row) -> float:
    """Greatest less least AP of a row's seeds."""
    scores = [seed.scores.get(sweep.kind, {}) for seed in row.seeds]
    values = [ap for one in scores if (ap := one.get("AP")) is not None]
    return max(values) - min(values) if values else 0.0


def _paper_blocks(sweep: Sweep) -> list[Block | None]:
    tables: list[Block | None] = [*paper_tables(sweep)]
    tables.insert(2, equal_noise_table(sweep))
    return [paper_figure(sweep), agreement_table(sweep), *tables]


def _present(*blocks: Block | None) -> list[Block]:
    return [block for block in blocks if block is not None]
