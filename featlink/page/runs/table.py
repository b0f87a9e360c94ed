"""Runs as rows of a table, and two of them compared."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError

Run = Mapping[str, Any]
"""A run as ``GET /v1/runs`` has it, or a run's metrics as ``GET /v1/runs/ID/metrics`` has them."""

_MEASURES = (
    ("Images done", "done", 1, ".0f"),
    ("Mask AP %", "segm", 100, ".2f"),
    ("Box AP %", "bbox", 100, ".2f"),
    ("kB per image", "bits_per_image", 1 / 8000, ",.1f"),
    ("Bits per pixel", "bpp", 1, ".3f"),
)


def row(run: Run, metrics: Run | None) -> dict[str, Any]:
    """A table's row.

    Args:
        run: of the list.
        metrics: of the run; None if they are not known yet.
    """
    total = run["total"] or 0
    return {
        "id": run["id"],
        "name": run["name"] or run["id"][:8],
        "dataset": run["dataset"],
        "condition": short(run["condition"]),
        "domain": run["domain"],
        "done": run["done"],
        "total": total,
        "share": run["done"] / total if total else 0,
        "segm": _points(metrics, "segm"),
        "bbox": _points(metrics, "bbox"),
        "kB": None if not metrics or metrics["bits_per_image"] is None else round(metrics["bits_per_image"] / 8000, 1),
        "created": run["created"].replace("T", " ")[:16],
    }


def short(condition: str) -> str:
    """A condition without its domain, which has a column of its own.

    Example:
        >>> short("image: vvenc(qp=40)"), short("feature: identity")
        ('vvenc(qp=40)', 'clean')
    """
    try:
        text = str(parse(condition)).partition(":")[2].strip()
    except ConditionError:  # of another version
        return condition
    return "clean" if text == "identity" else text


def _points(metrics: Run | None, kind: str) -> float | None:
    scores = None if metrics is None else metrics[kind]
    ap = None if scores is None else scores["AP"]
    return None if ap is None else round(100 * ap, 1)


def comparison(pair: Sequence[Run]) -> list[tuple[str, str, str, str]]:
    """Two runs' measures: (measure, first, second, second less first).

    Args:
        pair: metrics of both.
    """
    first, second = pair
    rows = []
    for title, name, scale, form in _MEASURES:
        values = [_measure(one, name) for one in (first, second)]
        rows.append((title, *_cells(values, scale, form)))
    for title, group, scale, form in (("fidelity", "fidelity", 1.0, ".3f"), ("time, ms", "timings", 1.0, ",.1f")):
        names = dict.fromkeys([*first[group], *second[group]])
        for name in names:
            values = [one[group].get(name) for one in (first, second)]
            rows.append((f"{name} ({title})", *_cells(values, scale, form)))
    return rows


def _measure(run: Run, name: str) -> float | None:
    if name == "done":
        return float(run["run"]["done"])
    value = run[name]
    if isinstance(value, Mapping):
        value = value["AP"]
    return None if value is None else float(value)


def _cells(values: Sequence[float | None], scale: float, form: str) -> tuple[str, str, str]:
    texts = ["–" if value is None else f"{value * scale:{form}}" for value in values]
    first, second = values
    difference = "–" if first is None or second is None else f"{(second - first) * scale:+{form}}"
    return texts[0], texts[1], difference


def to_csv(runs: Iterable[Run]) -> str:
    """Metrics of runs, a line each.

    Args:
        runs: their metrics.
    """
    lines = [_flat(one) for one in runs]
    names = list(dict.fromkeys(name for line in lines for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _flat(metrics: Run) -> dict[str, Any]:
    line = dict(metrics["run"])
    line |= {"bits_per_image": metrics["bits_per_image"], "bpp": metrics["bpp"]}
    for group in ("bbox", "segm", "fidelity", "timings"):
        line |= {f"{group}.{name}": value for name, value in (metrics[group] or {}).items()}
    return line
