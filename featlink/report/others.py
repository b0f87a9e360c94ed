"""Curves of others: points of rate and accuracy from a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from featlink.errors import CommandError
from featlink.report.curve import Curve

_COLUMNS = ("bpp", "ap")
_MOST_POINTS = 1000


def read_curves(given: Iterable[str]) -> list[Curve]:
    """Curves from ``NAME=FILE`` texts.

    Args:
        given: each a name and a CSV file with the columns ``bpp`` (bits per pixel of the original picture) and ``AP``,
            in percent if one of them is above 1. Other columns may be there.

    Raises:
        CommandError: not such a text, or such a file; names are given twice.
    """
    curves: dict[str, Curve] = {}
    for text in given:
        name, found, file = text.partition("=")
        if not (found and name.strip() and file.strip()):
            raise CommandError(f"a curve is NAME=FILE.csv, not {text!r}")
        if name.strip() in curves:
            raise CommandError(f"two curves are called {name.strip()!r}")
        curves[name.strip()] = Curve(name.strip(), _points(Path(file.strip())))
    return list(curves.values())


def _points(path: Path) -> list[tuple[float, float]]:
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{path} is not a CSV file: {error}") from None
    heading = [cell.strip().lower() for cell in lines[0]] if lines else []
    if any(heading.count(column) != 1 for column in _COLUMNS):
        raise CommandError(f"{path} needs a first line that names the columns bpp and AP")
    rows = [line for line in lines[1:] if any(cell.strip() for cell in line)]
    if not 1 <= len(rows) <= _MOST_POINTS:
        raise CommandError(f"{path} has {len(rows)} points, not 1 to {_MOST_POINTS}")
    places = [heading.index(column) for column in _COLUMNS]
    points = [_numbers(path, number, line, places) for number, line in enumerate(rows, 2)]
    unit = 100 if max(ap for _, ap in points) > 1 else 1
    if max(ap for _, ap in points) > 100:
        raise CommandError(f"{path} has an AP above 100 %")
    return sorted((bpp, ap / unit) for bpp, ap in points)


def _numbers(path: Path, number: int, line: list[str], places: list[int]) -> tuple[float, float]:
    try:
        bpp, ap = (float(line[place]) for place in places)
    except (ValueError, IndexError):
        raise CommandError(f"{path}, line {number}: bpp and AP are not both numbers") from None
    if not (math.isfinite(bpp) and bpp > 0 and math.isfinite(ap) and ap >= 0):
        raise CommandError(f"{path}, line {number}: bpp is to be above 0, AP from 0 on")
    return bpp, ap
