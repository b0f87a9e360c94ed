"""Tables as data: one description, shown as HTML, Markdown or in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

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
