"""``featlink``: the command line."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from featlink.commands.catalogue import check_model, conditions, decode, steps
from featlink.commands.data import fetch, fit, scenes
from featlink.commands.decide import decide
from featlink.commands.export import export
from featlink.commands.leak import attacker, leak
from featlink.commands.report import report
from featlink.commands.services import infer, page, up
from featlink.commands.stream import stream
from featlink.commands.sweeps import bench, demo, estimate, merge
from featlink.shared.errors import FeatlinkError

app = typer.Typer(
    help="Featlink: what a link, a codec or a distortion does to a detector's mAP.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What writing to a terminal, a pipe or a file may end with, beside EPIPE, which Click knows."""

for command in (
    demo,
    up,
    page,
    infer,
    stream,
    bench,
    estimate,
    merge,
    report,
    decide,
    leak,
    decode,
    conditions,
    steps,
    check_model,
    scenes,
):
    app.command()(command)
fit.command()(attacker)
app.add_typer(fetch, name="fetch")
app.add_typer(fit, name="fit")
app.add_typer(export, name="export")


def main() -> None:
    """Entry point: errors the user can fix are one line on stderr and exit code 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop child processes as on Ctrl-C
    _tolerant_streams()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except FeatlinkError as error:
        typer.echo(f"featlink: {error}", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        typer.echo(f"featlink: cannot write the output: {error.strerror}", err=True)
        raise SystemExit(1) from None


def _tolerant_streams() -> None:
    """Let no output end a command: streams that are closed lead nowhere, signs that they lack become question marks."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # and the next file that is opened would pass for it
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="replace")


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(f"featlink {installed_version('featlink')}")
    except PackageNotFoundError:  # run from a folder of sources
        typer.echo("featlink, not installed")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version  # its callback has shown it
