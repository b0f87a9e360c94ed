"""Run one program on bytes, without ever hanging on it or hiding its failure."""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from featlink.shared import cancelling
from featlink.shared.errors import FeatlinkError

_MOST_MEMORY = 8 << 30
_MOST_FILE = 1 << 30

Buffer = bytes | memoryview


class CodecError(FeatlinkError):
    """An encoder or decoder that is missing, fails, takes too long or gives the wrong output."""

    status = 500
    title = "Codec failure"


def run(command: Sequence[str], data: Buffer, timeout_s: float, pass_fds: Sequence[int] = ()) -> bytes:
    """Give a program its standard input and take its standard output.

    The program works in a private folder that is deleted after it, under limits on its memory, its processor time and
    the files it writes. It gets a process group of its own, which is killed and reaped whenever this function
    leaves early, so that neither it nor a child of it is left behind.

    Args:
        command: the program and its arguments.
        data: what it reads on standard input; a memoryview must be of bytes.
        timeout_s: seconds until it is killed.
        pass_fds: further file descriptors that it may use.

    Returns:
        What it wrote on standard output.

    Raises:
        AbandonedError: nobody wants the output any more; the program was killed.
        CodecError: it cannot be started, took longer, was killed or returned non-zero; the message
            carries the first and the last line of its standard error.

    Example:
        >>> run(["cat"], b"bits", timeout_s=5)
        b'bits'
    """
    with TemporaryDirectory(prefix="featlink-") as folder:
        return _run(command, data, timeout_s, pass_fds, folder)


def _run(command: Sequence[str], data: Buffer, timeout_s: float, pass_fds: Sequence[int], folder: str) -> bytes:
    name = Path(command[0]).name
    program = os.path.abspath(command[0]) if os.path.dirname(command[0]) else command[0]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            pass_fds=pass_fds,
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise CodecError(f"cannot start {name}: {error.strerror}") from error
    _limit(process.pid, timeout_s)

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    with process:
        try:
            with cancelling.current().stopping(kill):
                output, errors = process.communicate(cast(bytes, data), timeout=timeout_s)
        except BaseException as error:
            kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CodecError(f"{name} took longer than {timeout_s:g} s and was stopped") from None
            raise
    if process.returncode:
        how = f"was killed by signal {-process.returncode}" if process.returncode < 0 else "failed"
        raise CodecError(f"{name} {how}: {_summary(errors)}")
    return output


def _limit(pid: int, timeout_s: float) -> None:
    """Bound what a program may take; its time is bounded on the clock as well."""
    seconds = math.ceil(timeout_s * (os.cpu_count() or 1)) + 1
    limits = {
        resource.RLIMIT_DATA: _MOST_MEMORY,
        resource.RLIMIT_FSIZE: _MOST_FILE,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        with suppress(OSError, ValueError):  # it has ended already, or a lower limit is set for all programs
            resource.prlimit(pid, kind, (most, most))


def _summary(errors: bytes) -> str:
    """The first line, where FFmpeg names the cause, and the last, where most programs do."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else "it said nothing"
