"""Tables as data: one description, shown as HTML, Markdown or in a terminal."""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

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
        folded: shown only on request.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    folded: bool = False

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


def mbps(rate: float) -> str:
    """A link rate in Mbit/s, three digits or more.

    Example:
        >>> mbps(0.0468), mbps(1234.5)
        ('0.0468', '1,234')
    """
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


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


_GAP = 2
_NARROWEST = 8
"""Characters that the first column folds down to."""


def show(table: Table) -> None:
    """Print a table as wide as the terminal; where the output is no terminal, as wide as the table."""
    sys.stdout.write(as_text(table, _terminal_width()) + "\n")


def say(text: str) -> None:
    """Print prose, wrapped between words where the output is a terminal."""
    sys.stdout.write(_wrapped(text, _terminal_width()) + "\n")


def as_text(table: Table, width: int | None = None) -> str:
    """Lay a table out.

    In a table that is too wide, the first column folds between words; then columns go from the right, and a note names
    them. The columns of text that name the rows and the first number always stay.

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
    """
    from rich import box  # only here: the page reads tables, and has no rich
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table as Grid

    cells = [[*column.heading.split(), *(row[i] for row in table.rows)] for i, column in enumerate(table.columns)]
    widths = [max(map(cell_len, column)) for column in cells]
    words = max(cell_len(word) for text in cells[0] for word in text.split())
    least = sum(1 for _ in takewhile(lambda column: not column.number, table.columns)) + 1
    count = len(widths)
    if width is not None:
        while count > least and words + sum(_GAP + one for one in widths[1:count]) > width:
            count -= 1
        widths[0] = max(_NARROWEST, min(widths[0], width - sum(_GAP + one for one in widths[1:count])))
    grid = Grid(
        box=box.Box("    \n    \n────\n" + 5 * "    \n"), show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0)
    )
    for column, wide in zip(table.columns[:count], widths, strict=False):
        grid.add_column(column.heading, justify="right" if column.number else "left", width=wide, overflow="fold")
    for name, *rest in table.rows:
        folded = textwrap.wrap(name, widths[0], subsequent_indent="  ", break_on_hyphens=False)
        grid.add_row("\n".join(folded), *rest[: count - 1])
    drawn = io.StringIO()
    Console(file=drawn, width=sum(widths) + 2 * _GAP * count, color_system=None, markup=False, emoji=False).print(grid)
    lines = [line.rstrip() for line in drawn.getvalue().splitlines()]
    notes = list(table.notes)
    if count < len(table.columns):
        left_out = ", ".join(column.heading for column in table.columns[count:])
        notes.append(f"Left out at this width: {left_out}.")
    return "\n".join(
        [
            _wrapped(table.caption, width),
            "",
            *lines,
            *([""] if notes else []),
            *(_wrapped(note, width) for note in notes),
        ]
    )


def _wrapped(text: str, width: int | None) -> str:
    return (
        text if width is None else textwrap.fill(text, max(width, 20), subsequent_indent="    ", break_on_hyphens=False)
    )


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
