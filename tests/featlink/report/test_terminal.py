"""Tables in a terminal: at any width, each row's name is there in full and tells it from the others."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from featlink.commands.sweeps import DEMO, rows_table
from featlink.report.conditions import compare_summary, summary_table
from featlink.report.sweep import Sweep
from featlink.report.table import Column, Table, as_text
from featlink.results import Row
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.names import NAMED
from featlink.sweeps.plan import by_condition, make_plan

WIDTHS = (40, 80, 120, None)


def row(name: str, text: str) -> Row:
    scores: dict[str, float | None] = {"AP": 0.4034}
    fidelity: dict[str, float | None] = {"psnr_f": 31.42, "ssim_f": 0.9, "psnr_i": 33.1, "ssim_i": 0.9}
    return Row(name, text, parse(text).domain, 5000, scores, scores, 1_234_567, 2.5, fidelity, {"heads": 900.0}, [])


def blocks(text: str) -> list[str]:
    """What stands below the rule and above the notes, a row each: the first line of a row is not indented."""
    found: list[str] = []
    for line in text.partition("─\n")[2].partition("\n\n")[0].splitlines():
        if line.startswith(" "):
            found[-1] += "\n" + line
        else:
            found.append(line)
    return found


def name_of(block: str) -> str:
    """What stands in a row's first column, which is folded where there is no room, without its spaces."""
    first, *more = block.splitlines()
    return "".join([re.split(" {2,}", first)[0], *more]).replace(" ", "")


def check_names(text: str, table: Table, names: int) -> None:
    """Each row's name is there, and no two rows have the same."""
    rows = blocks(text.replace("\r\n", "\n"))
    assert len(rows) == len(table.rows)
    for block, cells in zip(rows, table.rows, strict=True):
        assert name_of(block) == cells[0].replace(" ", ""), text
        assert set(cells[1:names]) <= set(block.split())
        assert cells[names] in block.split()  # and so is the number that matters most
    assert len({tuple(cells[:names]) for cells in table.rows}) == len(table.rows)


def check(table: Table, names: int) -> None:
    for width in WIDTHS:
        text = as_text(table, width)
        check_names(text, table, names)
        assert width is None or max(map(len, text.splitlines())) <= width


@pytest.fixture(scope="module")
def planned() -> list[Row]:
    """All named conditions, the demo's, and two long names that differ in the seed."""
    mix = (
        "image: resize(factor=2) | gaussian_blur(sigma=1.5, window=21) | packet_loss(rate=0.05, burst=3) @ at=original"
    )
    plan = make_plan([*NAMED, *(one for one in DEMO if one not in NAMED), mix], [0, 1, 2])
    return [row(id, str(runs[0].condition)) for id, runs in by_condition(plan).items()]


def test_bench_and_merge_show_every_name(planned: list[Row]) -> None:
    check(rows_table(planned), names=1)


def test_the_summary_and_the_comparison_show_every_name(planned: list[Row], tmp_path: Path) -> None:
    for engine in ("http", "local"):
        sweep = Sweep(tmp_path, planned, {"engine": {"name": engine, "threads": 2}})
        check(summary_table(sweep), names=2)
        check(compare_summary(sweep, sweep), names=2)


def heading(text: str) -> str:
    return text.partition("─")[0]


def test_times_are_shown_only_of_an_idle_deployment(planned: list[Row], tmp_path: Path) -> None:
    over_http, overlapping = (
        as_text(summary_table(Sweep(tmp_path, planned, {"engine": {"name": name, "threads": 2}})))
        for name in ("http", "local")
    )
    assert "ms" in heading(over_http).split()
    assert "ms" not in heading(overlapping).split()


def test_what_matters_least_goes_first_and_is_named(planned: list[Row]) -> None:
    table = rows_table([one for one in planned if one.id.startswith(("paper", "clean"))])
    assert "Left out" not in as_text(table, 120)
    narrow = as_text(table, 62)
    assert "Left out at this width: PSNR [F], PSNR [I]." in narrow
    assert all("\n" not in block for block in blocks(narrow))


def test_names_fold_between_words_before_a_column_goes() -> None:
    columns = [Column("condition", number=False), *map(Column, ("AP", "kept", "kB"))]
    table = Table(
        "t", columns, [["resize(factor=2) | vvenc(qp=40)", "40.3", "99.0", "12.5"], ["b", "1.0", "2.0", "3.0"]]
    )
    assert blocks(as_text(table, 36)) == [
        "resize(factor=2) |  40.3  99.0  12.5\n  vvenc(qp=40)",
        "b                    1.0   2.0   3.0",
    ]


def test_a_name_wider_than_the_terminal_is_folded_anywhere() -> None:
    table = Table("t", [Column("condition", number=False), Column("AP")], [["a" * 50 + " tail", "1.0"], ["b", "2.0"]])
    long, short = blocks(as_text(table, 24))
    assert name_of(long) == "a" * 50 + "tail"
    assert long.splitlines()[0].endswith("  1.0")
    assert short.split() == ["b", "2.0"]


def test_no_rows() -> None:
    table = Table("t", [Column("condition", number=False), Column("AP")], [], ["none"])
    assert [as_text(table, width).splitlines()[0] for width in WIDTHS] == ["t"] * len(WIDTHS)


def at_a_terminal(command: Iterable[str], columns: int) -> str:
    """What a command prints where its output is a terminal of that many columns."""
    main, sub = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns)}
    with subprocess.Popen([*command], stdin=subprocess.DEVNULL, stdout=sub, stderr=sub, env=environment) as process:
        os.close(sub)
        parts = []
        try:
            while part := os.read(main, 1 << 16):
                parts.append(part)
        except OSError:  # Linux's end of a terminal
            pass
        assert process.wait(60) == 0, b"".join(parts)
    os.close(main)
    return b"".join(parts).decode()


@pytest.mark.slow
def test_the_command_itself_at_80_columns_and_in_a_pipe(sweep: Sweep, tmp_path: Path) -> None:
    folder = shutil.copytree(sweep.folder, tmp_path / "sweep")
    command = [sys.executable, "-m", "featlink", "report", str(folder), "--no-planes", "--images", "0"]
    table = summary_table(sweep)
    shown = at_a_terminal(command, 80)
    check_names(shown, table, names=2)
    assert max(len(line) for line in shown.splitlines() if "written" not in line) <= 80
    piped = subprocess.run(command, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True)
    assert as_text(table) in piped.stdout
