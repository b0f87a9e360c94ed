"""The section of sequences: rates with their anchors, what a stream is judged by, and films of bounded size."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from drawn_sweep import Made, make_drawn
from PIL import Image

from featlink.report import sequences
from featlink.report.builder import ReportOptions, make_page
from featlink.report.curves import Figure
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
from featlink.report.sweep import Sweep
from featlink.report.table import Table

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
    found = sequence_findings(sweep)
    assert [("+100.0 %" in one, "pixels.live" in one) for one in found] == [(True, True), (False, False)]
    assert "+300.0 %" in found[1]
    assert all("features.pca" in one for one in found)


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


def test_stills_have_no_such_section(tmp_path: Path) -> None:
    page = make_page(make_drawn(tmp_path / "sweep", ROWS, images=8), ReportOptions(images=0, planes=False))
    assert "sequences" not in [one.id for one in page.sections]
    assert "an image" in page.headline


def test_without_the_packages_it_says_what_is_missing(sweep: Sweep) -> None:
    table = stream_table(sweep)
    assert len(table.rows) == len(sweep.rows)
    assert "featlink[tracking]" in table.notes[-1]


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


def test_predicted_frames_are_known_from_those_that_decode_alone(sweep: Sweep) -> None:
    row = sweep.by_id["seq.pixels.live.qp20"]
    assert sequences.key_frames(row, 4).all()  # each is coded by itself
