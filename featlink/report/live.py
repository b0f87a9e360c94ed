"""The report of one live stream: its figures, and every frame's bits and latency."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featlink.report.curves import Figure, axis, colour
from featlink.report.html import Page, Section
from featlink.report.table import MISSING, Column, Table, number
from featlink.shared.timing import in_order
from featlink.stream_records import FrameRecord, StreamAbout, load_stream


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
        ("source", about.source),
        ("condition", about.condition or "the channel's own"),
        ("link", ", ".join(f"{name} {value}" for name, value in about.link.items())),
        ("camera", f"sends {about.policy}"),
        ("network", f"{about.model} {about.weights}"),
        ("begun", about.begun),
        ("ended", about.ended or "not yet, or it was killed"),
    ]
    sections = [
        Section("figures", "In figures", "", [table]),
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
