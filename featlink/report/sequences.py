"""The section of sequences: kbit/s against AP beside pixel anchors, bits and latency by frame, and short films."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featlink.channel.codecs.base import Codec
from featlink.channel.transmit import Stream
from featlink.deciding.question import DEFAULT_KEEP
from featlink.report.coding import (
    LEAST_POINTS,
    SEQ,
    SEQ_BY_FRAME,
    Kind,
    coding_bd_table,
    coding_curves,
    coding_figure,
    points_table,
)
from featlink.report.curves import Curve, Figure, axis, colour, compare
from featlink.report.gallery import Picture, shrink
from featlink.report.sweep import Sweep, condition_of, is_choice
from featlink.report.table import Column, Table, kilobytes, number, signed, with_interval
from featlink.report.timing import stages
from featlink.results import Row, described_figures
from featlink.samples import RunSamples
from featlink.shared.conditions import registry
from featlink.shared.evaluation.coco import Clip
from featlink.shared.evaluation.tracking import HINT

MOST_ROWS = 6
"""Conditions whose frames are shown one by one."""
FILM_FRAMES = 32
FILM_WIDTH = 320
FILM_BYTES = 250_000
"""At most, of one film; coarser and then shorter until it fits."""
_QUALITIES = (60, 40, 20)
_FPS = 10


def sequence_kind(sweep: Sweep) -> Kind:
    """The named rows of sequences, by kbit/s, or by kB a frame where the data set has no frame rate."""
    return SEQ if all(row.kbps is not None for row in sweep.rows) else SEQ_BY_FRAME


def sequence_curves(sweep: Sweep, ap: str | None = None) -> list[Curve]:
    """The sets of ``seq`` rows or, in a sweep without them, whatever trades bits for AP."""
    return coding_curves(sweep, (), ap, sequence_kind(sweep), any_family=True)


def rate_blocks(sweep: Sweep) -> list[Table | Figure]:
    """AP against the rate, BD-rates and every point; none of stills, or of a sweep without curves."""
    curves = sequence_curves(sweep) if sweep.sequences else []
    if not curves:
        return []
    kind = sequence_kind(sweep)
    bd = coding_bd_table(sweep, (), kind, any_family=True)
    held = (Column("frames held back"), lambda row: str(delay(row)))
    return [coding_figure(sweep, curves, (), kind), *([bd] if bd else []), points_table(sweep, curves, kind, [held])]


def row_name(sweep: Sweep, row: Row) -> str:
    """What a row is called: its set and point, or else its distortions."""
    return row.id.removeprefix(SEQ.prefix) if SEQ.set_of(row) else sweep.names[row.id]


def sequence_findings(sweep: Sweep) -> list[str]:
    """What features need against each pixel anchor, in a sentence each: of the curve that comes nearest."""
    curves = sequence_curves(sweep) if sweep.sequences else []
    features = [one for one in curves if one.rows and one.rows[0].domain == "feature"]
    findings = []
    for anchor in (one for one in curves if one.name in SEQ.anchors):
        found = [(compare(anchor, one, LEAST_POINTS, SEQ.least_of_draws), one.name) for one in features]
        known = [(result.percent, result, name) for result, name in found if result.percent is not None]
        if known:
            value, result, name = min(known, key=lambda one: one[0])
            ends = result.interval
            sure = "" if ends is None else f", 95 % interval over clips {signed(ends[0], 0)} to {signed(ends[1], 0)} %"
            findings.append(
                f"As streams: at equal AP, {name}, the nearest of the features, needs {abs(value):,.0f} % "
                f"{'more' if value > 0 else 'fewer'} bits than {anchor.name} (BD-rate{sure})."
            )
    return findings


def delay(row: Row) -> int:
    """How many frames the row's coder holds back."""
    with Stream(condition_of(row), fidelity=False) as stream:
        return stream.delay


def shown_rows(sweep: Sweep, most: int = MOST_ROWS) -> list[Row]:
    """Of each curve the cheapest row that keeps 95 % of the clean AP, or else its most accurate one.

    Without curves, whatever could be chosen to be sent.
    """
    chosen = []
    for one in sequence_curves(sweep):
        good = [row for row in one.rows if (sweep.retention(row) or 0) >= DEFAULT_KEEP]
        if one.rows:
            chosen.append(good[0] if good else max(one.rows, key=lambda row: sweep.ap(row) or 0))
    return (chosen or [row for row in sweep.rows if is_choice(row) and not row.clean])[:most]


def stream_table(sweep: Sweep) -> Table:
    """What evaluators of clips say of every row."""
    groups = {"flicker", "tracking", *(name for row in sweep.rows for name in row.figures if "streaming" in name)}
    described = described_figures(sweep.folder).values()
    known = [one for one in described if one.group in groups and any(one.group in row.figures for row in sweep.rows)]
    columns = [Column("condition", number=False), Column("domain", number=False), Column(f"AP {sweep.kind} %")]
    columns += [Column(f"{one.label} {one.unit}".strip()) for one in known]
    lines = []
    for row in sweep.rows:
        cells = [row_name(sweep, row), row.domain, sweep.ap_text(row)]
        for one in known:
            name = one.name.partition(".")[2]
            value = row.figures.get(one.group, {}).get(name)
            text = number(None if value is None else one.scale * value, 1 if one.scale > 1 else 2)
            leads = next(iter(row.figures.get(one.group, {})), "") == name
            cells.append(with_interval(text, sweep.interval(row, one.group) if leads else None, one.scale))
        lines.append(cells)
    notes = [
        "Flicker of objects: in how many pairs of neighbouring frames an object is found in one alone. False flicker: "
        "false detections that come or go. HOTA with its parts for detection (DetA) and association (AssA), IDF1 and "
        "MOTA: of ByteTrack on the detected boxes. In brackets the 95 % bootstrap interval over clips."
    ]
    if not any(one.group == "tracking" for one in known):
        notes.append(f"{HINT}; objects need ids.")
    return Table("What a stream is judged by", columns, lines, notes)


# Frame by frame.


@dataclass(frozen=True, eq=False)
class ShownClip:
    """The clip whose frames are shown.

    Attributes:
        clip: as the data set has it.
        places: (F,), of its evaluated frames among the sweep's images.
    """

    clip: Clip
    places: npt.NDArray[np.int64]

    @property
    def name(self) -> str:
        """What it is called."""
        return (self.clip.video and self.clip.video.name) or f"clip {self.clip.id}"

    @property
    def fps(self) -> float | None:
        """Frames a second, where the data set says so."""
        return None if self.clip.video is None else self.clip.video.fps

    def ids(self, sweep: Sweep) -> list[int]:
        """Image ids of its evaluated frames."""
        return [] if sweep.samples is None else sweep.samples.images[self.places].tolist()


def shown_clip(sweep: Sweep, clips: Iterable[Clip]) -> ShownClip | None:
    """The first video of which frames were evaluated; None where there is none, or no samples."""
    if sweep.samples is None:
        return None
    images = sweep.samples.images
    for clip in clips:
        ids = np.array([image.id for image in clip.images])
        places = np.searchsorted(images, ids[np.isin(ids, images)])
        if clip.video is not None and len(places):
            return ShownClip(clip, places)
    return None


def frame_figures(sweep: Sweep, shown: ShownClip) -> list[Figure]:
    """Bits and computing time of each frame of a clip, a strip for each of some conditions."""
    rows = shown_rows(sweep)
    samples = sweep.samples
    if samples is None or not rows:
        return []
    kilobytes = {row.id: samples.runs[row.id][0].bits[shown.places] / 8000 for row in rows}
    times = {row.id: _milliseconds(sweep, row, shown) for row in rows}
    keys = {row.id: _keys(samples.runs[row.id][0], row, shown) for row in rows}
    bits = (
        f"Frames of {shown.name}. Strong: key frames, which decode alone; pale: frames predicted from others. "
        "The scales differ."
    )
    latency = (
        "From picture to answer without the link: computing at edge and cloud, and the wait for later pictures where "
        "the coder holds some back. `featlink decide --fps` adds the link and its queue."
    )
    return [
        _strips(sweep, "frame-bits", "Bits by frame", bits, rows, "kB", lambda row: _bars(row, kilobytes, keys)),
        _strips(sweep, "frame-latency", "Latency by frame", latency, rows, "ms", lambda row: [_line(row, times)]),
    ]


def _keys(run: RunSamples, row: Row, shown: ShownClip) -> npt.NDArray[np.bool_]:
    """As the results say, or those of earlier versions by the condition."""
    return key_frames(row, len(shown.places)) if run.keys is None else run.keys[shown.places]


def key_frames(row: Row, count: int) -> npt.NDArray[np.bool_]:
    """Which of a clip's frames decode without those before, by the codecs' period of intra pictures; (F,)."""
    periods = [step.prediction_period for step in registry.chain(condition_of(row)) if isinstance(step, Codec)]
    keys: npt.NDArray[np.bool_] = np.arange(count) % math.lcm(*periods) == 0
    return keys


def _milliseconds(sweep: Sweep, row: Row, shown: ShownClip) -> npt.NDArray[np.float64]:
    run = sweep.samples.runs[row.id][0] if sweep.samples is not None else None
    computing = [] if run is None else [run.timings[stage.name][shown.places] for stage in stages(row)]
    total = np.nansum(computing, axis=0) if computing else np.zeros(len(shown.places))
    held = np.minimum(delay(row), np.arange(len(total))[::-1])
    if run is not None and run.held is not None:
        held = run.held[shown.places]
    wait = held / (shown.fps or math.inf)
    latency: npt.NDArray[np.float64] = total + 1e3 * wait
    return latency


def _bars(
    row: Row, kilobytes: Mapping[str, npt.NDArray[np.float64]], keys: Mapping[str, npt.NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    traces = []
    for is_key, opacity in ((True, 1.0), (False, 0.45)):
        places = np.flatnonzero(keys[row.id] == is_key)
        what = "key frame" if is_key else "frame"
        traces.append(
            {
                "type": "bar",
                "x": places.tolist(),
                "y": kilobytes[row.id][places].round(3).tolist(),
                "marker": {"color": colour(row.domain), "opacity": opacity},
                "hovertemplate": f"{what} %{{x}}: %{{y}} kB<extra></extra>",
            }
        )
    return traces


def _line(row: Row, times: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(range(len(times[row.id]))),
        "y": times[row.id].round(1).tolist(),
        "line": {"color": colour(row.domain), "width": 2},
        "hovertemplate": "frame %{x}: %{y} ms<extra></extra>",
    }


def _strips(
    sweep: Sweep,
    id: str,
    title: str,
    caption: str,
    rows: Sequence[Row],
    unit: str,
    traces: Callable[[Row], list[dict[str, Any]]],
) -> Figure:
    """One strip under another, with a common axis of frames."""
    drawn: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"barmode": "overlay", "bargap": 0.1, "showlegend": False, "annotations": []}
    for place, row in enumerate(rows, 1):
        nth = "" if place == 1 else str(place)
        top = 1 - (place - 1) / len(rows)
        layout[f"yaxis{nth}"] = axis(unit, domain=[top - 0.8 / len(rows), top - 0.2 / len(rows)], rangemode="tozero")
        text = {"text": row_name(sweep, row), "x": 0, "xanchor": "left", "y": top, "yanchor": "top", "showarrow": False}
        layout["annotations"].append({**text, "xref": "paper", "yref": "paper"})
        drawn += [{**trace, "yaxis": f"y{nth}"} for trace in traces(row)]
    layout["xaxis"] = axis("frame", anchor=f"y{len(rows)}" if len(rows) > 1 else "y")
    return Figure(id, title, caption, drawn, layout, height=90 + 110 * len(rows))


# Films.


def film(
    frames: Sequence[npt.NDArray[np.uint8]], fps: float | None, title: str, domain: str = "", note: str = ""
) -> Picture:
    """Make frames a looping film of the page: an animated WebP of at most :data:`FILM_BYTES`.

    Args:
        frames: RGB (H, W, 3), at least one; of more than :data:`FILM_FRAMES`, every second, third, … is shown.
        fps: at which they were taken, and are shown; None: 10.
        title: what it is.
        domain: ``feature`` or ``image``, or nothing.
        note: what to see in it.
    """
    from PIL import Image

    step = math.ceil(len(frames) / FILM_FRAMES)
    first, *rest = [Image.fromarray(shrink(one, FILM_WIDTH)) for one in frames[::step]]
    data = b""
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            options = {"quality": quality, "method": 3, "duration": round(1e3 * step / (fps or _FPS)), "loop": 0}
            first.save(buffer, "WEBP", save_all=True, append_images=rest, **options)
            data = buffer.getvalue()
            if len(data) <= FILM_BYTES:
                break
        if len(data) <= FILM_BYTES or not rest:
            break
        rest = rest[: len(rest) // 2]
    source = "data:image/webp;base64," + base64.b64encode(data).decode()
    return Picture(source, first.width, first.height, title, domain, note)


def film_rows(sweep: Sweep) -> list[Row]:
    """The rows that are filmed: of the first pixel anchor that the sweep has, and of the cheapest features."""
    rows = shown_rows(sweep, len(sweep.rows))
    pixels = [row for row in rows if row.domain == "image"]
    features = [row for row in rows if row.domain == "feature"]
    best = [row for row in features if (sweep.retention(row) or 0) >= DEFAULT_KEEP] or features
    return [*pixels[:1], *sorted(best, key=lambda row: row.bits_per_image)[:1]]


def rate_text(row: Row) -> str:
    """A row's rate in words.

    Example:
        >>> from featlink.results import Row, Sequences
        >>> row = Row("x", "identity", "image", 1, {}, None, 8000, 1, {}, {}, [], sequences=Sequences(1, 1, 15, 120))
        >>> rate_text(row)
        '1.00 kB a frame, 120 kbit/s'
    """
    if row.sequences is None:
        return f"{kilobytes(row)} kB an image"
    rate = SEQ.rate(row)
    return f"{kilobytes(row)} kB a frame" + (
        "" if rate is None else f", {number(rate, 0 if rate >= 100 else 1)} kbit/s"
    )
