"""Programs that code: FFmpeg, and any other. None is hung on, and no failure of one is hidden."""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import cast

from featlink.channel.codecs.base import AccessUnit, CodecError
from featlink.channel.codecs.yuv import Frame, Size
from featlink.shared import cancelling

Buffer = bytes | memoryview

_MOST_MEMORY = 8 << 30
_MOST_FILE = 1 << 30
_RATE = 25
"""Pictures a second that an encoder is told; at constant QP nothing depends on it."""
_PIXELS = ("-f", "rawvideo", "-pix_fmt", "yuv420p10le")


def ffmpeg_encode(
    frame: Buffer, size: Size, options: Sequence[str], container: str, ffmpeg: str | None, timeout_s: float
) -> bytes:
    """Code one 10-bit 4:2:0 frame as a single intra picture.

    Args:
        frame: its samples.
        size: (height, width) of the frame.
        options: the encoder's, from ``-c:v`` on.
        container: FFmpeg's name of the elementary stream's format.
        ffmpeg: the program; None for the bundled one.
        timeout_s: seconds until the encoder is killed.

    Returns:
        An elementary stream that any decoder of the standard reads.

    Raises:
        CodecError: see :func:`run`; or the bitstream is empty.
    """
    # One picture a second makes it an intra-only sequence, which has the shortest headers.
    source = [*_PIXELS, "-video_size", f"{size[1]}x{size[0]}", "-framerate", "1", "-i", "pipe:0"]
    with TemporaryFile() as file:  # not standard output: libvvenc prints its warnings there
        target = [*options, "-f", container, f"pipe:{file.fileno()}"]
        run([*_quiet(ffmpeg), *source, *target], frame, timeout_s, pass_fds=[file.fileno()])
        file.seek(0)
        bitstream = file.read()
    if not bitstream:
        raise CodecError(f"the {container} encoder gave no bitstream")
    return bitstream


def ffmpeg_encode_group(
    frames: Sequence[Frame], size: Size, options: Sequence[str], container: str, ffmpeg: str | None, timeout_s: float
) -> list[AccessUnit]:
    """Code 10-bit 4:2:0 frames as one elementary stream.

    Args:
        frames: in their order.
        size: (height, width) of the frames.
        options: the encoder's, from ``-c:v`` on.
        container: FFmpeg's name of the elementary stream's format.
        ffmpeg: the program; None for the bundled one.
        timeout_s: seconds until the encoder is killed.

    Returns:
        Its access units in the order in which they are decoded, each with the number of its frame. Joined, they are the
        stream.

    Raises:
        CodecError: see :func:`run`; or there is not one access unit for each frame.
    """
    source = [*_PIXELS, "-video_size", f"{size[1]}x{size[0]}", "-framerate", f"{_RATE}", "-i", "pipe:0"]
    with TemporaryFile() as file, TemporaryFile() as index:
        both = f"[f={container}]pipe\\:{file.fileno()}|[f=framecrc]pipe\\:{index.fileno()}"
        target = ["-map", "0", *options, "-f", "tee", both]
        data = b"".join(frame.data.cast("B") for frame in frames)
        run([*_quiet(ffmpeg), *source, *target], data, timeout_s, pass_fds=[file.fileno(), index.fileno()])
        file.seek(0)
        index.seek(0)
        bitstream, lines = file.read(), index.read().decode().splitlines()
    coded, at = [], 0
    for line in lines:
        if not line.startswith("#"):
            # Stream, time of decoding and of showing, duration, size, checksum, and flags of what is no key frame.
            fields = [field.strip() for field in line.split(",")]
            number, length = int(fields[2]), int(fields[4])
            coded.append(AccessUnit((bitstream[at : at + length],), number, not any(f[:2] == "F=" for f in fields)))
            at += length
    if at != len(bitstream) or sorted(unit.number or 0 for unit in coded) != list(range(len(frames))):
        raise CodecError(
            f"the {container} encoder gave {len(coded)} access units of {at} bytes for {len(frames)} frames"
        )
    return coded


def ffmpeg_decode(bitstream: bytes, container: str, ffmpeg: str | None, threads: int, timeout_s: float) -> bytes:
    """Decode the first picture of an elementary stream.

    Args:
        bitstream: the whole stream.
        container: its format, ``vvc``, ``hevc`` or ``obu``.
        ffmpeg: the program; None for the bundled one.
        threads: the decoder's threads, 0 for one per core.
        timeout_s: seconds until the decoder is killed.

    Returns:
        Its 10-bit 4:2:0 samples.

    Raises:
        CodecError: see :func:`run`; damage that the decoder notices is a failure
            (an entropy-coded stream with a flipped bit is often just another valid stream).
    """
    source = ["-threads", str(threads), "-xerror", "-err_detect", "explode", "-f", container, "-i", "pipe:0"]
    return run([*_quiet(ffmpeg), *source, "-frames:v", "1", *_PIXELS, "pipe:1"], bitstream, timeout_s)


def bundled_ffmpeg() -> str:
    """The FFmpeg of the ``imageio-ffmpeg`` package, which has all the encoders used here.

    Raises:
        CodecError: the package has none for this platform.
    """
    import imageio_ffmpeg  # takes 0.2 s, and only coding needs it

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise CodecError(f"no FFmpeg: {error}") from error


def _quiet(ffmpeg: str | None) -> list[str]:
    return [ffmpeg or bundled_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error"]


# Programs.


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
