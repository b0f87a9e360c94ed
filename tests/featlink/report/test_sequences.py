"""The section of sequences: rates with their anchors, what a stream is judged by, and films of bounded size."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from drawn_sweep import Made, make_drawn
from PIL import Image
from tiny_model import TINY

import featlink as fl
from featlink.channel.transmit import Stream
from featlink.report import sequences
from featlink.report.builder import ReportOptions, make_page
from featlink.report.conditions import summary_table
from featlink.report.curves import Figure, compare
from featlink.report.gallery import Strip
from featlink.report.sequences import (
    FILM_BYTES,
    FILM_FRAMES,
    film,
    rate_blocks,
    sequence_curves,
    sequence_findings,
    shown_rows,
    stream_table,
)
from featlink.report.sweep import Sweep, about, open_sweep
from featlink.report.table import Table
from featlink.results import Row
from featlink.shared.conditions.language import parse
from featlink.shared.features import Sizes
from featlink.shared.frames.wire import Frame, Meta, Tensor
from featlink.shared.result import Telemetry
from featlink.starter.folder import write_clips

APS = (0.6, 0.5, 0.4, 0.25)
SIZES = {"pixels.live": 1.0, "pixels.vvc_ld": 0.5, "features.tiled": 8.0, "features.pca": 2.0}
TEXTS = {
    "pixels.live": "image: hevc(qp={qp}) @ at=original",
    "pixels.vvc_ld": "image: vvenc(qp={qp}) @ at=original",
    "features.tiled": "feature: hevc(qp={qp}, bit_depth=10)",
    "features.pca": "feature: pca(components=256) | vvenc(qp={qp}, bit_depth=10)",
}
ROWS = {
    f"seq.{name}.qp{20 + 5 * i}": Made(text.format(qp=20 + 5 * i), ap, 100 * SIZES[name] / 2**i)
    for name, text in TEXTS.items()
    for i, ap in enumerate(APS)
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return make_drawn(tmp_path_factory.mktemp("seq") / "sweep", ROWS, images=48, frames=4)


def test_curves_are_in_kbit_a_second_with_intervals_over_clips(sweep: Sweep) -> None:
    curves = sequence_curves(sweep)
    assert [one.name for one in curves] == list(SIZES)
    for one in curves:  # 10 frames a second
        expected = [8000 * SIZES[one.name] / 2**i for i in (3, 2, 1, 0)]
        assert [rate for rate, _ in one.points] == pytest.approx(expected, rel=0.01)
        assert one.draws is not None
    figure, bd, points = rate_blocks(sweep)
    assert isinstance(figure, Figure)
    assert "kbit/s" in figure.layout["xaxis"]["title"]["text"]
    assert "over clips" in figure.caption
    assert isinstance(bd, Table)
    segm = {(line[0], line[1]): line[3] for line in bd.rows if line[2] == "segm"}
    assert {anchor for _, anchor in segm} == {"pixels.live", "pixels.vvc_ld"}
    assert segm["features.pca", "pixels.live"].startswith("+100.0 % (")
    assert segm["features.pca", "pixels.vvc_ld"].startswith("+300.0 % (")
    assert isinstance(points, Table)
    assert [column.title for column in points.columns][2:4] == ["kbit/s", "kB/image"]
    assert points.rows[0][2] == "8,000.0"


def test_findings_name_both_anchors_and_the_sign(sweep: Sweep) -> None:
    live, low_delay = sequence_findings(sweep)
    assert "features.pca, the nearest of the features, needs 100 % more bits than pixels.live" in live
    assert "features.pca, the nearest of the features, needs 300 % more bits than pixels.vvc_ld" in low_delay
    assert "95 % interval over clips +100 to +100 %" in live


def test_points_that_chance_puts_off_the_front_leave_an_interval(tmp_path: Path) -> None:
    """Two points are nearly equal, so one of them is off the front in many draws."""
    rows = {
        f"seq.{name}.qp{20 + 5 * i}": Made(TEXTS[name].format(qp=20 + 5 * i), ap, SIZES[name] / 2**i)
        for name in ("pixels.live", "features.pca")
        for i, ap in enumerate((0.58, 0.55, 0.48, 0.3))
    }
    found = make_drawn(tmp_path / "sweep", rows, images=48, frames=4)
    live, features = sequence_curves(found)
    assert compare(live, features, 4).interval is None
    ends = compare(live, features, 4, 2).interval
    assert ends is not None
    assert ends[0] <= 100.1
    assert ends[1] >= 99.9
    assert "95 % interval" in sequence_findings(found)[0]


def test_of_each_curve_the_cheapest_good_row_is_shown(sweep: Sweep) -> None:
    """0.5 of 0.6 is less than 95 %."""
    assert [row.id for row in shown_rows(sweep)] == [f"seq.{name}.qp20" for name in SIZES]


def test_the_page_leads_with_the_rates(sweep: Sweep) -> None:
    page = make_page(sweep, ReportOptions(images=0, planes=False))
    assert isinstance(page.opening[0], Figure)
    assert page.opening[0].id == "sequence-coding"
    assert "kB a frame, 4,000 kbit/s" in page.headline
    section = next(one for one in page.sections if one.id == "sequences")
    tables = [one.caption for one in section.blocks if isinstance(one, Table)]
    assert "What a stream is judged by" in tables
    assert any("Left out" in one for one in section.blocks if isinstance(one, str))  # there is no database


def test_the_summary_and_the_facts_have_clips_and_rates(sweep: Sweep) -> None:
    table = summary_table(sweep)
    at = [column.title for column in table.columns].index("kbit/s")
    assert table.rows[2][at] == "8,000.0"
    assert "interval of AP over clips" in table.notes[0]
    assert ("Clips", "12 at 10 frames a second") in about(sweep).facts


def test_stills_have_no_such_section(tmp_path: Path) -> None:
    page = make_page(make_drawn(tmp_path / "sweep", ROWS, images=8), ReportOptions(images=0, planes=False))
    assert "sequences" not in [one.id for one in page.sections]
    assert "an image" in page.headline


def test_without_the_packages_it_says_what_is_missing(sweep: Sweep) -> None:
    table = stream_table(sweep)
    assert len(table.rows) == len(sweep.rows)
    assert "featlink[tracking]" in table.notes[-1]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0, 60])
def test_a_film_is_bounded_and_runs_in_real_time(noise: int) -> None:
    rng = np.random.default_rng(1)
    frames = [rng.integers(100 - noise, 101 + noise, (240, 320, 3), dtype=np.uint8) for _ in range(48)]
    for number, frame in enumerate(frames):
        frame[:20, :20] = 5 * number
    found = film(frames, 15, "noise")
    data = base64.b64decode(found.source.partition(",")[2])
    assert len(data) <= FILM_BYTES
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "WEBP"
        assert opened.size == (found.width, found.height) == (320, 240)
        shown = 24 if noise == 0 else opened.n_frames
        assert opened.n_frames == shown <= FILM_FRAMES
        opened.seek(opened.n_frames - 1)
        opened.load()
        assert opened.info["duration"] == round(2 / 15 * 1000)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("image: hevc(qp=30)", [0, 1, 2, 3, 4]),
        ("image: hevc(qp=30, gop=low_delay, period=3)", [0, 3]),
        ("image: jpeg(quality=50)", [0, 1, 2, 3, 4]),
        ("feature: quantize(bits=4)", [0, 1, 2, 3, 4]),
    ],
)
def test_key_frames_are_those_of_the_stream(text: str, keys: list[int]) -> None:
    row = Row("x", text, text.partition(":")[0], 1, {}, None, 8, 1, {}, {}, [])
    assert np.flatnonzero(sequences.key_frames(row, 5)).tolist() == keys
    if row.domain == "image":
        sizes = Sizes((48, 64), (48, 64), (64, 64))
        rng = np.random.default_rng(2)
        pictures = [rng.integers(0, 256, (3, 48, 64), dtype=np.uint8) for _ in range(5)]
        with Stream(parse(text), fidelity=False) as stream:
            frames = [Frame(Meta("image", "m", "w", sizes), (Tensor("image", one),)) for one in pictures]
            sent = [one for frame in frames for one in stream.push(frame, Telemetry())] + stream.close()
        assert [place for place, one in enumerate(sent) if one.key] == keys


@pytest.mark.slow
def test_a_swept_clip_is_shown_frame_by_frame(tmp_path: Path) -> None:
    list(write_clips(tmp_path / "clips", 2, 3, 1))
    coded = "image: hevc(qp=40, gop=low_delay)"
    fl.sweep(tmp_path / "clips", [coded], model=TINY, out=tmp_path / "out", fidelity=False)
    swept = open_sweep(tmp_path / "out")
    row = swept.by_id[coded]
    assert row.sequences is not None
    assert (row.sequences.clips, row.sequences.frames, row.sequences.fps) == (2, 6, 15)
    section = next(one for one in make_page(swept, ReportOptions(images=1)).sections if one.id == "sequences")

    bits, latency = (one for one in section.blocks if isinstance(one, Figure))
    assert [trace["x"] for trace in bits.traces] == [[0], [1, 2]]  # the key frame, and those predicted from it
    assert swept.samples is not None
    [run] = swept.samples.runs[coded]
    first = [kilobytes for trace in bits.traces for kilobytes in trace["y"]]
    assert first == pytest.approx((run.bits[:3] / 8000).tolist(), abs=1e-3)
    assert first[0] > max(first[1:])
    assert len(latency.traces[0]["y"]) == 3

    [strip] = [one for one in section.blocks if isinstance(one, Strip)]
    assert [one.title for one in strip.pictures] == ["clean", "hevc(qp=40, gop=low_delay)"]
    for one in strip.pictures:
        with Image.open(io.BytesIO(base64.b64decode(one.source.partition(",")[2]))) as opened:
            assert opened.n_frames == 3
