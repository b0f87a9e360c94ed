"""VVC by Fraunhofer HHI's own programs, vvencapp and vvdecapp, where they are installed.

They have no pipe for the bitstream, so it passes through a temporary file.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from featlink.channel.codecs.process import Buffer, CodecError, run
from featlink.channel.codecs.yuv import Size


def encode(frame: Buffer, size: Size, qp: int, preset: str, vvencapp: str, threads: int, timeout_s: float) -> bytes:
    """As :func:`featlink.channel.codecs.ffmpeg.encode`, for VVenC's ``--qp`` and ``--preset``."""
    with TemporaryDirectory(prefix="featlink-") as folder:
        path = Path(folder) / "picture.vvc"
        source = ["--input", "-", "--size", f"{size[1]}x{size[0]}", "--format", "yuv420_10", "--framerate", "1"]
        options = ["--qp", str(qp), "--preset", preset, "--qpa", "0"]
        target = [*(["--threads", str(threads)] if threads else []), "--output", str(path)]
        run([vvencapp, *source, *options, *target], frame, timeout_s)
        return _read(path, vvencapp)


def decode(bitstream: bytes, vvdecapp: str, threads: int, timeout_s: float) -> bytes:
    """As :func:`featlink.channel.codecs.ffmpeg.decode`."""
    with TemporaryDirectory(prefix="featlink-") as folder:
        source, target = Path(folder) / "picture.vvc", Path(folder) / "picture.yuv"
        source.write_bytes(bitstream)
        command = [vvdecapp, "--bitstream", str(source), "--frames", "1", "--output", str(target)]
        run([*command, *(["--threads", str(threads)] if threads else [])], b"", timeout_s)
        return _read(target, vvdecapp)


def _read(path: Path, program: str) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    if not content:
        raise CodecError(f"{Path(program).name} wrote nothing")
    return content
