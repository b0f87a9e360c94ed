"""A table as text for a terminal of any width: what tells rows apart is never cut."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import accumulate, takewhile

import typer
from rich.cells import cell_len

from featlink.report.table import Column, Table

_GAP = "  "
_LEAST = 3
"""Columns of numbers that are kept even if a row then needs two lines."""
_NARROWEST = 20
"""Below this width lines are left to the terminal, which wraps them."""

Cells = Sequence[Sequence[str]]


def show(table: Table) -> None:
    """Print a table as wide as the terminal; where the output is no terminal, as wide as the table."""
    typer.echo(as_text(table, _width()))


def say(text: str) -> None:
    """Print prose, wrapped between words where the output is a terminal."""
    typer.echo("\n".join(_paragraphs([text], _width())))


def as_text(table: Table, width: int | None = None) -> str:
    """Lay a table out.

    In a table that is too wide, long names fold between words; then columns go from the right, down to three of
    numbers. If that does not do, each row gets two lines: its name, folded anywhere if need be, and its numbers below.

    Args:
        table: whose leading columns of text name the rows; the most important number comes first.
        width: in characters; None for no limit.

    Example:
        >>> table = Table("Two", [Column("condition", number=False), Column("AP")], [["resize(factor=2)", "40.3"]])
        >>> print(as_text(table))
        Two
        <BLANKLINE>
        condition           AP
        ──────────────────────
        resize(factor=2)  40.3
        >>> print(as_text(table, 21))
        Two
        <BLANKLINE>
        condition
            AP
        ────────────────
        resize(factor=2)
          40.3
    """
    width = None if width is None else max(width, _NARROWEST)
    names = max(1, sum(1 for _ in takewhile(lambda column: not column.number, table.columns)))
    kept = _most(table.columns, table.rows, names + _LEAST, width)
    if kept is None:
        lines, kept = _stacked(table, names, width or 0)
    else:
        heading, rows = _grid(table.columns[:kept], _first(table.rows, kept), width)
        lines = [*heading, _rule([*heading, *rows]), *rows]
    notes = list(table.notes)
    if kept < len(table.columns):
        left_out = ", ".join(column.heading for column in table.columns[kept:])
        notes.append(f"Left out at this width: {left_out}.")
    before, after = ([*_paragraphs(texts, width)] for texts in ([table.caption], notes))
    return "\n".join([*before, "", *lines, *([""] if notes else []), *after])


def _most(columns: Sequence[Column], rows: Cells, least: int, width: int | None) -> int | None:
    """How many of the first columns fit beside one another; None where fewer than ``least`` do."""
    if width is None:
        return len(columns)
    least_widths = _widths(columns, rows)
    if not columns[0].number:
        words = [
            *columns[0].heading.split(),
            *(line for row in rows for line in _folded(row[0], 1, between_words=True)),
        ]
        least_widths[0] = max(map(cell_len, [*columns[0].heading.split(), *words]), default=0)
    ends = [end - len(_GAP) for end in accumulate(len(_GAP) + one for one in least_widths)]
    fitting = sum(end <= width for end in ends)
    return fitting if fitting >= min(least, len(columns)) else None


def _stacked(table: Table, names: int, width: int) -> tuple[list[str], int]:
    """Lines with each row's name above its numbers, and how many columns they show."""
    numbers, cells = table.columns[names:], [row[names:] for row in table.rows]
    kept = _most(numbers, cells, 1, width - len(_GAP)) or 0
    heading, below = _grid(numbers[:kept], _first(cells, kept)) if kept else ([], [""] * len(table.rows))
    rows: list[str] = []
    for row, line in zip(table.rows, below, strict=True):
        rows += [*_folded(_GAP.join(row[:names]), width), *([_GAP + line] if line else [])]
    top = [_GAP.join(column.heading for column in table.columns[:names]), *(_GAP + line for line in heading)]
    return [*top, _rule([*top, *rows]), *rows], names + kept


def _grid(columns: Sequence[Column], rows: Cells, width: int | None = None) -> tuple[list[str], list[str]]:
    """The heading's lines and the rows', the first column folded between words where the rest leaves it less room."""
    widths = _widths(columns, rows)
    if width is not None:
        widths[0] -= max(0, sum(widths) + len(_GAP) * (len(widths) - 1) - width)
    folded = [_folded(column.heading, width, indent="") for column, width in zip(columns, widths, strict=True)]
    height = max(map(len, folded))
    heading = zip(*([""] * (height - len(lines)) + lines for lines in folded), strict=True)
    lines = []
    for row in rows:
        first, *more = _folded(row[0], widths[0], between_words=True) or [""]
        lines += [_line(columns, widths, [first, *row[1:]]), *more]
    return [_line(columns, widths, cells) for cells in heading], lines


def _paragraphs(texts: Iterable[str], width: int | None) -> Iterable[str]:
    for text in texts:
        yield from [text] if width is None else _folded(text, width)


def _first(rows: Cells, columns: int) -> Cells:
    return [row[:columns] for row in rows]


def _rule(lines: Iterable[str]) -> str:
    return "─" * max(map(cell_len, lines))


def _widths(columns: Sequence[Column], rows: Cells) -> list[int]:
    """Each column is as wide as its widest cell, or the longest word of its heading."""
    return [
        max(cell_len(text) for text in (*column.heading.split(), "", *(row[index] for row in rows)))
        for index, column in enumerate(columns)
    ]


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    parts = []
    for column, width, cell in zip(columns, widths, cells, strict=True):
        space = " " * (width - cell_len(cell))
        parts.append(space + cell if column.number else cell + space)
    return _GAP.join(parts).rstrip()


def _folded(text: str, width: int, indent: str = 2 * _GAP, between_words: bool = False) -> list[str]:
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=not between_words
    )


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
