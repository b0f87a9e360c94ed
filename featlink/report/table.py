"""Tables as data: one description, shown as HTML, Markdown or in a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile

import typer
from rich.cells import cell_len

from featlink.results import Row

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: its heading.
        group: heading it shares with its neighbours of the same group.
        number: its cells are numbers, to be aligned right.
    """

    title: str
    group: str = ""
    number: bool = True

    @property
    def heading(self) -> str:
        """Heading where groups cannot be shown."""
        return f"{self.group} {self.title}".strip()


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        caption: what is to be seen in it.
        columns: the first one names the rows.
        rows: cells by row.
        notes: remarks below it.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def begins(self, index: int) -> bool:
        """Whether a column begins another group than its left neighbour's."""
        return index > 0 and self.columns[index].group != self.columns[index - 1].group

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Runs of neighbouring columns of one group: its heading and width; ungrouped ones are runs of their own."""
        runs: list[tuple[str, int]] = []
        for column in self.columns:
            if column.group and runs and runs[-1][0] == column.group:
                runs[-1] = (column.group, runs[-1][1] + 1)
            else:
                runs.append((column.group, 1))
        return runs


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 1 in percent.

    Example:
        >>> percent(0.4034), percent(None)
        ('40.3', '–')
    """
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def between(found: tuple[float, float] | None, digits: int = 1) -> str:
    """An interval of a share of 1, in percent.

    Example:
        >>> between((0.4034, 0.512)), between(None)
        ('40.3–51.2', '–')
    """
    return MISSING if found is None else f"{percent(found[0], digits)}–{percent(found[1], digits)}"


def with_interval(text: str, found: tuple[float, float] | None, unit: float = 100) -> str:
    """A figure with its 95 % interval, where there is one.

    Args:
        text: the figure.
        found: its interval.
        unit: what the interval's numbers are multiplied by.

    Example:
        >>> with_interval("40.3", (0.38, 0.4251)), with_interval("+2.0", (-1, 4), 1), with_interval("40.3", None)
        ('40.3 (38.0 to 42.5)', '+2.0 (−1.0 to 4.0)', '40.3')
    """
    if found is None:
        return text
    low, high = (number(unit * end, 1) for end in found)
    return f"{text} ({low} to {high})"


def number(value: float | None, digits: int) -> str:
    """A number, thousands apart.

    Example:
        >>> number(12345.678, 1)
        '12,345.7'
    """
    return MISSING if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 1) -> str:
    """A difference.

    Example:
        >>> signed(-0.31), signed(2), signed(0.004)
        ('−0.3', '+2.0', '0.0')
    """
    if value is None:
        return MISSING
    text = f"{abs(value):,.{digits}f}"
    if not float(text.replace(",", "")):
        return text
    return ("+" if value > 0 else "−") + text


def fidelity(row: Row, metric: str, digits: int) -> str:
    """A row's PSNR, SSIM or rank correlation; the PSNR of what nothing changed is infinite.

    Example:
        >>> from featlink.results import Row
        >>> row = Row("x", "quantize(bits=8)", "image", 1, {}, None, 8, 1, {"psnr_i": None}, {}, [])
        >>> fidelity(row, "psnr_i", 2), fidelity(row, "psnr_f", 2)
        ('∞', '–')
    """
    value = row.fidelity.get(metric)
    if value is None and metric in row.fidelity and metric.startswith("psnr"):
        return "∞"
    return number(value, digits)


def kilobytes(row: Row) -> str:
    """A row's kB per image (1000 bytes).

    Example:
        >>> from featlink.results import Row
        >>> kilobytes(Row("x", "identity", "image", 1, {}, None, 12_340, 1, {}, {}, []))
        '1.54'
    """
    value = row.bits_per_image / 8000
    return number(value, 2 if value < 10 else 1 if value < 1000 else 0)


def markdown(table: Table) -> str:
    """A table in GitHub's Markdown, caption above, notes below.

    Example:
        >>> print(markdown(Table("Two", [Column("a", number=False), Column("b")], [["x", "1"]])))
        **Two**
        <BLANKLINE>
        | a | b |
        |---|--:|
        | x | 1 |
        <BLANKLINE>
    """
    lines = [f"**{table.caption}**", ""]
    lines.append(_line(column.heading for column in table.columns))
    lines.append("|" + "|".join("--:" if column.number else "---" for column in table.columns) + "|")
    lines += [_line(row) for row in table.rows]
    lines += ["", *(f"{note}\n" for note in table.notes)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


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
        lines += [_terminal_line(columns, widths, [first, *row[1:]]), *more]
    return [_terminal_line(columns, widths, cells) for cells in heading], lines


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


def _terminal_line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
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
