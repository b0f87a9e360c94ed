"""Build a sweep's report: the result and pictures first, then tables by subject; missing parts state the reason."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from featlink.dataset import Dataset, open_dataset
from featlink.deciding.decision import decision_blocks
from featlink.deciding.question import DEFAULT_KEEP
from featlink.deciding.streams import stream_blocks
from featlink.errors import CommandError
from featlink.report.coding import coding_blocks
from featlink.report.conditions import (
    absent_table,
    agreement_table,
    by_table,
    other_table,
    paper_tables,
    size_table,
    summary_table,
)
from featlink.report.curves import (
    Curve,
    Figure,
    bd_findings,
    bd_table,
    curve_figures,
    equal_bits_table,
    equal_psnr_table,
    paper_figure,
)
from featlink.report.gallery import THRESHOLD, Strip, chosen_images, chosen_pairs, overlay, overlays, plane_strips
from featlink.report.html import Block, Page, Section
from featlink.report.leak import LEAD, leak_blocks
from featlink.report.loss import loss_blocks, loss_findings
from featlink.report.sequences import (
    FILM_FRAMES,
    ShownClip,
    film,
    film_rows,
    frame_figures,
    rate_blocks,
    rate_text,
    row_name,
    sequence_findings,
    shown_clip,
    stream_table,
)
from featlink.report.sweep import DOMAINS, Sweep, about, condition_of, is_choice, label, manifest_table
from featlink.report.table import percent
from featlink.report.timing import break_even_table, coding_times_table, latency_figures, multiply_adds_table, overlaps
from featlink.results import DATABASE, Row
from featlink.shared.errors import FeatlinkError
from featlink.shared.evaluation.coco import clips
from featlink.shared.evaluation.confidence_intervals import LEAST_IMAGES
from featlink.shared.frames.visualisation import planes
from featlink.shared.store import Store, open_finished

if TYPE_CHECKING:  # it loads torch, which a report without planes need not wait for
    from featlink.report.replay import Replay

_FEW_IMAGES = 30
_SHORT = 24
"""Up to so many conditions, a report shows them in one table, and folds what is not looked at first."""
_OVERLAP = (
    " Stages of this sweep overlapped: their times include waiting for one another, and are no basis for a decision. A "
    "sweep of a few images with --threads 1 or --engine http gives times that are."
)
_DECISION = (
    "The fastest way to keep 95 % of the clean AP over some links, with both machines as measured. `featlink decide` "
    "answers for other links, traces, machines, floors and deadlines."
)
_SEQUENCES = (
    "Codecs predict from frame to frame here. Pixels coded by x265 without delay (`live`) and by VVC in low delay "
    "(`vvc_ld`) are the anchors; VVC in random access (`vvc_ra`) waits for later frames, which a live camera cannot."
)
_LOSS = (
    "Packets of coded units are lost: what did not arrive and parity did not bring back is concealed, and a picture of "
    "which nothing came counts as one in which nothing was found."
)
_BEYOND = (
    "Mixes of distortions, losses, further strengths, and rank probes: rank_shuffle keeps the histogram of the "
    "features and breaks their order, monotone keeps their order and changes the histogram."
)


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


@dataclass(frozen=True)
class _Pictures:
    """A report's pictures, or texts why there are none."""

    scene: Strip | None
    gallery: Sequence[Strip | str]
    planes: Sequence[Strip | str]
    films: Sequence[Strip | str]


def make_page(sweep: Sweep, options: ReportOptions) -> Page:
    """Make a report; a part that cannot be made says why in its place."""
    try:
        pictures = _pictures(sweep, options)
    except (FeatlinkError, OSError, SQLAlchemyError) as error:
        reason = f"Left out: {str(error).splitlines()[0]}"
        pictures = _Pictures(None, [reason], [reason], [reason])
    short = len(sweep.rows) <= _SHORT
    curves, coding, sequences = curve_figures(sweep), coding_blocks(sweep, options.others), rate_blocks(sweep)
    plots = [block for block in (*sequences, *coding) if isinstance(block, Figure)] + curves
    opening: list[Block] = [*plots[:1], *([pictures.scene] if pictures.scene is not None else [])]
    curves = [figure for figure in curves if figure not in opening]
    coding = [block for block in coding if block not in opening]
    sections = [
        Section(
            "sequences",
            "Sequences",
            _SEQUENCES,
            _present(
                *(block for block in sequences if block not in opening),
                stream_table(sweep),
                *_frames(sweep),
                *pictures.films,
            )
            if sweep.sequences
            else [],
        ),
        Section("conditions", "All conditions", "", [summary_table(sweep)] if short and sweep.rows else []),
        Section("paper", "The paper's tables", _paper_lead(sweep), _paper_blocks(sweep), short),
        Section(
            "equal",
            "At equal cost",
            "The paper compares both domains at the same setting of a distortion. Here they are compared where they "
            "cost the same bits, or where the errors are equally large.",
            _present(*curves, bd_table(sweep), equal_bits_table(sweep), equal_psnr_table(sweep)),
            short,
        ),
        Section(
            "coding",
            "Feature coding",
            "What coded pixels, features and reduced features need for the same AP, over every set of `fcm` rows.",
            coding,
        ),
        Section("loss", "Packet loss", _LOSS, loss_blocks(sweep)),
        Section("leak", "What an eavesdropper recovers", LEAD, leak_blocks(sweep)),
        Section("other", "Beyond the paper", _BEYOND, _present(other_table(sweep)), short),
        Section(
            "sizes", "Small and large objects", "What a distortion costs by size of object.", [size_table(sweep)], True
        ),
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
            short,
        ),
        Section("decision", "Which to send", _DECISION, decision_blocks(sweep), short)
        if not sweep.sequences
        else Section("decision", "Which to send", "", stream_blocks(sweep)),
        Section(
            "gallery",
            "What is detected",
            f"Detections with a score from {THRESHOLD} under the costliest strength of each distortion: what was sent "
            "as features above, as an image below.",
            pictures.gallery,
            short,
        ),
        Section(
            "planes",
            "What crosses the link",
            "The features of one image as the planes that are sent.",
            pictures.planes,
            short,
        ),
        Section("manifest", "Manifest", "", [manifest_table(sweep)], True),
    ]
    what = about(sweep)
    return Page(
        "Featlink report: features or pixels over the link",
        headline(sweep),
        what.statement,
        what.facts,
        findings(sweep),
        [section for section in sections if section.blocks],
        opening,
    )


def headline(sweep: Sweep) -> str:
    """What was seen, in a sentence: the cheapest way to keep 95 % of the clean AP in each domain.

    Where the sweep has not both domains, it says what one needs; without a clean run, what else was found.
    """
    cheapest = _cheapest(sweep)
    if not cheapest:
        nothing = "No AP of a clean run is above 0, so there is nothing to compare with." if sweep.rows else ""
        return next(iter(findings(sweep)), nothing)
    goal = f"To keep {percent(DEFAULT_KEEP, 0)} % of the clean AP, "
    first, *others = sorted(cheapest.values(), key=lambda row: row.bits_per_image)
    need = f"the cheapest {_kind(first)} tried need {rate_text(first)} ({_sent_as(first)})"
    few = _few(first)
    if not others:
        return f"{goal}{need}.{few}"
    [more] = others
    times = more.bits_per_image / first.bits_per_image
    factor = "as many bits" if times < 1.05 else f"{times:,.{1 if times < 10 else 0}f} times as many bits"
    rate = rate_text(more).replace(" an image", "")
    return f"{goal}{need}, the cheapest {_kind(more)} {rate} ({_sent_as(more)}): {factor}.{few}"


def _kind(row: Row) -> str:
    return "features" if row.domain == DOMAINS[0] else "pixels"


def _sent_as(row: Row) -> str:
    return "as they are" if row.clean else label(row).partition(" @ ")[0]


def _few(row: Row) -> str:
    """A sentence where a row is of so few images or clips that it says little."""
    count, what = (row.images, "image") if row.sequences is None else (row.sequences.clips, "clip")
    enough = _FEW_IMAGES if row.sequences is None else LEAST_IMAGES
    return f" That is on {count} {what}{'' if count == 1 else 's'}." if count < enough else ""


def _cheapest(sweep: Sweep) -> dict[str, Row]:
    """By domain, the row of fewest bits that keeps enough, among those that could be chosen."""
    cheapest: dict[str, Row] = {}
    for row in sorted(sweep.rows, key=lambda row: row.bits_per_image):
        if is_choice(row) and (sweep.retention(row) or 0) >= DEFAULT_KEEP:
            cheapest.setdefault(row.domain, row)
    return cheapest


def findings(sweep: Sweep) -> list[str]:
    """What else the numbers say, in one sentence each."""
    sentences = []
    retentions = [(sweep.retention(feature), sweep.retention(image)) for feature, image in sweep.twins()]
    kept = [(f, i) for f, i in retentions if f is not None and i is not None]
    if kept:
        wins = sum(f > i for f, i in kept)
        sentences.append(
            f"Under the same distortion, features keep more of their clean AP than the image in {wins} of {len(kept)} "
            "pairs of conditions."
        )
    overall = by_table(sweep, sweep.kind)["overall"]
    if overall.spearman is not None:
        sentences.append(
            f"Over {overall.rows} rows of the paper, retention correlates with the paper's by Spearman's "
            f"ρ = {overall.spearman:.2f}; it differs by {percent(overall.error)} percentage points on average."
        )
    sentences += loss_findings(sweep)
    return sentences + (sequence_findings(sweep) or bd_findings(sweep))


def _pictures(sweep: Sweep, options: ReportOptions) -> _Pictures:
    dataset = _dataset(sweep, options)
    with contextlib.closing(open_finished(sweep.folder / DATABASE)) as store:
        ids = chosen_images(sweep, store, dataset.images, max(1, options.images))
        replay = _replay(sweep, options)
        names = dataset.categories() or ({} if isinstance(replay, str) else replay.categories)
        gallery = _gallery(sweep, store, dataset, ids[: options.images], replay, names)
        scene = _scene(sweep, store, dataset, ids[:1] if options.images else [], replay, names)
        films = _films(sweep, store, dataset, replay, names) if options.images else []
    shown = [replay] if isinstance(replay, str) else _planes(sweep, replay, dataset, ids[:1])
    return _Pictures(scene, gallery, shown, films)


def _dataset(sweep: Sweep, options: ReportOptions) -> Dataset:
    folder = options.dataset or about(sweep).folder
    if folder is None:
        raise CommandError("the manifest does not say where the pictures are; give the data set with --dataset")
    if options.dataset is None and not folder.exists():
        raise CommandError(f"there is no data set at {folder}; give it with --dataset")
    pictures = options.pictures or (None if options.dataset else about(sweep).pictures)
    return open_dataset(folder, sweep.truth, pictures)


def _replay(sweep: Sweep, options: ReportOptions) -> Replay | str:
    if not options.planes:
        return "Left out on request (--no-planes)."
    from featlink.report.replay import open_replay

    try:
        return open_replay(about(sweep))
    except FeatlinkError as error:
        return f"Left out: {error}"


def _scene(
    sweep: Sweep, store: Store, dataset: Dataset, ids: list[int], replay: Replay | str, names: Mapping[str, str]
) -> Strip | None:
    """One image clean and as received by the headline's rows, or, where one is clean, under one distortion in both."""
    clean = sweep.clean(DOMAINS[0]) or sweep.clean(DOMAINS[1])
    cheapest = _cheapest(sweep)
    rows = [cheapest[domain] for domain in DOMAINS if domain in cheapest and not cheapest[domain].clean]
    if len(rows) < len(DOMAINS):
        alike = [pair for pair in sweep.twins() if any(row in pair for row in rows)] or chosen_pairs(sweep)
        rows = list(alike[0]) if alike else rows
    if clean is None or not rows or not ids:
        return None
    [image_id] = ids
    path = dataset.images[image_id]
    images = [row for row in rows if row.domain == DOMAINS[1]]
    distorted = None if isinstance(replay, str) else replay.pictures(path, image_id, images)
    first, *others = overlays(store, image_id, path, names, [clean, *rows], distorted)
    return Strip("One scene, clean and as received", 1, [replace(first, title="clean", domain=""), *others])


def _gallery(
    sweep: Sweep, store: Store, dataset: Dataset, ids: list[int], replay: Replay | str, names: Mapping[str, str]
) -> list[Strip | str]:
    if not ids:
        return ["No pictures were asked for, or none of the data set was evaluated."]
    chosen = chosen_pairs(sweep)
    clean = [row for domain in DOMAINS if (row := sweep.clean(domain)) is not None]
    rows = [*clean, *(row for pair in chosen for row in pair)]
    blocks: list[Strip | str] = []
    for image_id in ids:
        path = dataset.images[image_id]
        distorted = None if isinstance(replay, str) else replay.pictures(path, image_id, [image for _, image in chosen])
        shown = overlays(store, image_id, path, names, rows, distorted)
        blocks.append(Strip(f"Image {image_id} ({path.name})", len(clean), shown))
    note = "Features cannot be seen, so their detections are drawn on the clean picture"
    return [
        *blocks,
        f"{note}, as are the image domain's."
        if isinstance(replay, str)
        else f"{note}; the image domain's on what was received.",
    ]


def _shown_clip(sweep: Sweep, store: Store) -> ShownClip | None:
    truth = store.ground_truth(store.run(sweep.rows[0].seeds[0].run).dataset)
    return shown_clip(sweep, clips(truth))


def _frames(sweep: Sweep) -> list[Figure | str]:
    """Bits and latency of a clip's frames, or why they are not there."""
    try:
        with contextlib.closing(open_finished(sweep.folder / DATABASE)) as store:
            shown = _shown_clip(sweep, store)
    except (FeatlinkError, SQLAlchemyError) as error:
        return [f"Left out: {str(error).splitlines()[0]}"]
    return [] if shown is None else list(frame_figures(sweep, shown))


def _films(
    sweep: Sweep, store: Store, dataset: Dataset, replay: Replay | str, names: Mapping[str, str]
) -> list[Strip | str]:
    """A clip clean, and as received by the pixel anchor and by the cheapest features, with what is detected."""
    shown = _shown_clip(sweep, store) if sweep.sequences else None
    clean = sweep.clean(DOMAINS[0]) or sweep.clean(DOMAINS[1])
    if shown is None or clean is None:
        return []
    frames = [(id, dataset.images[id]) for id in shown.ids(sweep)[: 2 * FILM_FRAMES]]
    pictures = []
    for row in [clean, *film_rows(sweep)]:
        received = replay.clip(frames, row) if not isinstance(replay, str) and row.domain == DOMAINS[1] else {}
        painted = [overlay(store, id, path, names, row, received.get(id))[0] for id, path in frames]
        title, note = ("clean", "") if row is clean else (row_name(sweep, row), rate_text(row))
        pictures.append(film(painted, shown.fps, title, "" if row is clean else row.domain, note))
    return [Strip(f"{shown.name}, clean and as received; detections of features are on the clean frames", 1, pictures)]


def _planes(sweep: Sweep, replay: Replay, dataset: Dataset, ids: list[int]) -> list[Strip | str]:
    clean = sweep.clean(DOMAINS[0])
    if clean is None or not ids:
        return ["Left out: no image was evaluated with clean features."]
    path = dataset.images[ids[0]]
    rows = [clean, *(feature for feature, _ in chosen_pairs(sweep))]
    frames = {label(row): replay.received(path, ids[0], condition_of(row)) for row in rows}
    channels = {
        tensor.name: len(tensor.data) for tensor in frames[label(clean)].tensors if tensor.name in replay.levels
    }
    return list(plane_strips({title: planes(frame) for title, frame in frames.items()}, channels))


def _paper_lead(sweep: Sweep) -> str:
    spread = max((_spread(sweep, row) for row in sweep.rows), default=0.0)
    lead = (
        "Each row beside the paper's own numbers. Retention is AP over the AP without distortion in the same domain; "
        "the paper's is relative to its mAP of 40.3. Δ is ours less the paper's, in percentage points."
    )
    if spread:
        lead += f" Random distortions: median over seeds, whose APs lie at most {100 * spread:.1f} points apart."
    return lead


def _spread(sweep: Sweep, row: Row) -> float:
    """Greatest less least AP of a row's seeds."""
    aps = [next(iter(seed.scores.get(sweep.kind, {}).values()), None) for seed in row.seeds]
    values = [ap for ap in aps if ap is not None]
    return max(values) - min(values) if values else 0.0


def _paper_blocks(sweep: Sweep) -> list[Block]:
    tables = paper_tables(sweep)
    return _present(paper_figure(sweep), agreement_table(sweep), *tables, absent_table(sweep)) if tables else []


def _present(*blocks: Block | None) -> list[Block]:
    return [block for block in blocks if block is not None]
