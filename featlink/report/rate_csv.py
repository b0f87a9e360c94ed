"""Rate–accuracy points as a CSV file, in the columns of MPEG's reporting sheets for coding for machines."""

from __future__ import annotations

import csv
import io

from featlink.report.families import families
from featlink.report.feature_coding import DECODING, ENCODING, PREFIX
from featlink.report.latency import stages
from featlink.report.sweep import Sweep, condition_of
from featlink.results import Row
from featlink.shared.conditions import registry

COLUMNS = (
    *("curve", "domain", "condition", "QP", "bpp", "AP", "AP_low", "AP_high"),
    *("AP_bbox", "AP_bbox_low", "AP_bbox_high", "encode_s", "decode_s"),
)


def rate_csv(sweep: Sweep) -> str:
    """One line per row of a curve whose strength trades bits for AP, and per clean run.

    ``AP`` is the sweep's leading one, in percent, with its 95 % interval; ``QP`` the strength, whatever the step calls
    it; times are seconds an image, of reducing and encoding, and of decoding and restoring.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    written = {row.id for family in families(sweep.rows) if family.changes_bits for row in family.rows}
    names = {row.id: family.name for family in families(sweep.rows) for row in family.rows}
    for row in sweep.rows:
        if row.clean or row.id in written or row.id.startswith(PREFIX):
            name = row.id.split(".")[1] if row.id.startswith(PREFIX) else "clean" if row.clean else names[row.id]
            writer.writerow([name, row.domain, row.condition, _strength(row), f"{row.bpp:.6g}", *_figures(sweep, row)])
    return text.getvalue()


def _figures(sweep: Sweep, row: Row) -> list[str]:
    cells: list[float | None] = []
    for kind in (sweep.kind, "bbox"):
        ends = sweep.interval(row, kind) or (None, None)
        cells += [None if one is None else 100 * one for one in (sweep.ap(row, kind), *ends)]
    times = dict(stages(row))
    seconds = [sum(times.get(name, 0.0) for name in names) / 1e3 for names in (ENCODING, DECODING)]
    return ["" if one is None else f"{one:.4f}" for one in [*cells, *seconds]]


def _strength(row: Row) -> str:
    varied = [getattr(step, step.strength) for step in registry.chain(condition_of(row)) if step.strength]
    given = [value for value in varied if value is not None]
    return f"{given[-1]:g}" if given else ""
