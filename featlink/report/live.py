"""The report of one live stream: its figures, and every frame's bits and latency."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featlink.dataset import find_clip, ground_truth, open_dataset
from featlink.report.curves import Figure, axis, colour
from featlink.report.html import Page, Section
from featlink.report.table import MISSING, Column, Table, number
from featlink.shared.evaluation.categories import match
from featlink.shared.evaluation.coco import items
from featlink.shared.evaluation.protocol import ClipResult, FrameResult, evaluators
from featlink.shared.evaluation.streaming import AnswerTimes, StreamingEvaluator
from featlink.shared.timing import in_order
from featlink.stream_records import FrameRecord, StreamAbout, load_stream

_DEADLINES_S = (0.1, 0.3, 1.0, 3.0)


def stream_page(folder: Path) -> tuple[Page, Table]:
    """A stream's report, and its main table.

    Args:
        folder: that ``featlink stream --out`` wrote.

    Raises:
        CommandError: it is no such folder.
    """
    about, frames = load_stream(folder)
    answered = [one for one in frames if one.bits is not None]
    table = figures_table(about, frames)
    facts = [
        ("source", f"{about.source} {about.clip}".strip()),
        ("condition", about.condition or "the channel's own"),
        ("link", ", ".join(f"{name} {value}" for name, value in about.link.items())),
        ("camera", f"sends {about.policy}"),
        ("network", f"{about.model} {about.weights}"),
        ("begun", about.begun),
        ("ended", about.ended or "not yet, or it was killed"),
    ]
    sections = [
        Section("figures", "In figures", "", [table]),
        Section(
            "accuracy", "What it is worth", "", [] if (scores := accuracy_table(about, frames)) is None else [scores]
        ),
        Section("frames", "Frame by frame", "", [bits_figure(answered), latency_figure(frames)] if answered else []),
        Section("stages", "Where the time goes", "", [stages_table(answered)] if answered else []),
    ]
    statement = f"One stream through the services of Featlink {about.featlink}, measured on one machine."
    shown = [section for section in sections if section.blocks]
    return Page("Featlink: a live stream", "", statement, facts, [], shown), table


def figures_table(about: StreamAbout, frames: list[FrameRecord]) -> Table:
    """Rates, latencies and counts."""
    answered = [one for one in frames if one.bits is not None]
    seconds = max((one.answered_s for one in frames), default=0.0)
    latencies = [one.latency_ms for one in answered]
    sizes = {kind: [one.bits or 0 for one in answered if one.key is kind] for kind in (True, False)}

    def rate(count: float) -> str:
        return number(count / seconds if seconds else None, 1)

    def percentile(share: float) -> str:
        return number(float(np.percentile(latencies, share)) if latencies else None, 0)

    def kilobytes(bits: list[int]) -> str:
        return number(sum(bits) / len(bits) / 8000, 2) if bits else MISSING

    rows = [
        ("frames a second taken, answered", f"{rate(about.taken)}, {rate(len(answered))}"),
        ("kbit/s over the link", rate(sum(one.bits or 0 for one in answered) / 1e3)),
        ("kB a key frame, another frame", f"{kilobytes(sizes[True])}, {kilobytes(sizes[False])}"),
        ("latency, median, 95 %, 99 %, ms", ", ".join(percentile(share) for share in (50, 95, 99))),
        ("pictures taken, dropped by the camera", f"{number(about.taken, 0)}, {number(about.dropped, 0)}"),
        ("frames answered, refused", f"{number(len(answered), 0)}, {number(len(frames) - len(answered), 0)}"),
        (
            "begun anew",
            ", ".join(f"frame {one.frame}: {one.restarted}" for one in answered if one.restarted) or "never",
        ),
    ]
    return Table(about.source, [Column("", number=False), Column("")], rows)


def accuracy_table(about: StreamAbout, frames: list[FrameRecord]) -> Table | None:
    """AP of a data set's clip, the first time that it was sent; None for another source.

    Of the frames that were answered; and, as streaming AP, of all that were taken: where the camera dropped a picture,
    or its answer is late, what counts is the last answer that was there.

    Raises:
        FeatlinkError: the data set has changed or gone.
    """
    if not about.clip:
        return None
    truth, _ = ground_truth(open_dataset(about.source))
    clip, there = find_clip(truth, about.clip), items(truth)
    labels = match(truth.categories, about.categories)
    first = {one.picture: one for one in frames if one.picture < min(len(clip.images), about.taken)}
    answered = {number: one for number, one in first.items() if one.bits is not None}
    if not answered:
        return None
    numbers = np.arange(max(first) + 1)
    taken = np.interp(numbers, sorted(first), [first[number].taken_s for number in sorted(first)])
    answers = [answered[n].answered_s if n in answered else np.inf for n in numbers.tolist()]
    found = {clip.images[n].id: labels.apply(one.detections) for n, one in answered.items()}
    results = [
        FrameResult(image.item, there[image.id], found.get(image.id, [])) for image in clip.images[: len(numbers)]
    ]
    whole = ClipResult(results, None if clip.video is None else clip.video.fps, AnswerTimes(taken, np.array(answers)))
    judge = evaluators()[0]
    scores = judge.compute([judge.update(there[id].image.item, there[id], one) for id, one in found.items()])
    rows = [
        [figure.label, number(None if (value := scores[figure.name]) is None else figure.scale * value, 1)]
        for figure in judge.figures
        if figure.name in scores and figure.name.endswith(".AP")
    ]
    for deadline in _DEADLINES_S:
        streaming = StreamingEvaluator(deadline)
        in_time = streaming.compute([streaming.update_clip(whole)])
        rows += [
            [f"{figure.label}, {1e3 * deadline:.0f} ms after a picture is taken", number(figure.scale * value, 1)]
            for figure in streaming.figures[:1]
            if (value := in_time.get(figure.name)) is not None
        ]
    caption = f"{len(answered)} of the first {len(numbers)} pictures of clip {about.clip} were answered; AP in %"
    return Table(caption, [Column("", number=False), Column("AP")], rows)


def bits_figure(answered: list[FrameRecord]) -> Figure:
    """Bits of each frame; key frames apart."""
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": [one.frame for one in answered if one.key is key],
            "y": [(one.bits or 0) / 8000 for one in answered if one.key is key],
            "marker": {"color": colour("image" if key else "feature")},
            "hovertemplate": "frame %{x}: %{y:.2f} kB",
        }
        for key, name in ((True, "key frames"), (False, "others"))
    ]
    layout = {"xaxis": axis("frame"), "yaxis": axis("kB"), "bargap": 0, "barmode": "overlay"}
    return Figure("bits", "Bits by frame", "What crossed the link, headers included.", traces, layout, 320)


def latency_figure(frames: list[FrameRecord]) -> Figure:
    """From the camera to the answer, and what of it was the wait to be sent."""
    series = (
        ("camera to answer", "feature", [one.latency_ms for one in frames]),
        ("waiting at the camera", "muted", [1e3 * (one.sent_s - one.taken_s) for one in frames]),
        ("link and its queue", "image", [one.timings.get("transfer") for one in frames]),
    )
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": [one.frame for one in frames],
            "y": values,
            "line": {"color": colour(of), "width": 2},
            "hovertemplate": "frame %{x}: %{y:.0f} ms",
        }
        for name, of, values in series
    ]
    layout = {"xaxis": axis("frame"), "yaxis": axis("ms", rangemode="tozero")}
    caption = "A line that rises means a stage that does not keep up, and frames that wait for it."
    return Figure("latency", "Latency by frame", caption, traces, layout, 320)


def stages_table(answered: list[FrameRecord]) -> Table:
    """Mean milliseconds of each stage."""
    names = dict.fromkeys(name for one in answered for name in one.timings)
    rows = []
    for stage in in_order(names):
        spent = [one.timings.get(stage.name, 0.0) for one in answered]
        rows.append([stage.label, stage.place, *(number(float(np.percentile(spent, share)), 1) for share in (50, 95))])
    columns = [Column("stage", number=False), Column("at", number=False), Column("median, ms"), Column("95 %, ms")]
    note = "Stages of different frames go on at the same time; frames of one stream wait for one another between them."
    return Table("Of an answered frame", columns, rows, [note])
