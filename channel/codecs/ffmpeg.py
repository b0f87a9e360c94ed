"""Code one frame with an encoder of FFmpeg, in one process, and decode the bitstream in another."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryFile

from featlink.channel.codecs.process import Buffer, CodecError, run
from featlink.channel.codecs.yuv import Size

_PIXELS = ("-f", "rawvideo", "-pix_fmt", "yuv420p10le")


def encode(
    frame: Buffer, size: Size, options: Sequence[str], container: str, ffmpeg: str | None, timeout_s: float
) -> bytes:
    """Code one 10-bit 4:2:0 frame as a single intra picture.

    Args:
        frame: its samples, see :mod:`featlink.channel.codecs.yuv`.
        size: (height, width) of the frame.
        options: the encoder's, from ``-c:v`` on.
        container: FFmpeg's name of the elementary stream's format.
        ffmpeg: the program; None for the bundled one.
        timeout_s: seconds until the encoder is killed.

    Returns:
        An elementary stream that any decoder of the standard reads.

    Raises:
        CodecError: see :func:`featlink.channel.codecs.process.run`; or the bitstream is empty.
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


def decode(bitstream: bytes, container: str, ffmpeg: str | None, threads: int, timeout_s: float) -> bytes:
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
        CodecError: see :func:`featlink.channel.codecs.process.run`; damage that the decoder notices is a failure
            (an entropy-coded stream with a flipped bit is often just another valid stream).
    """
    source = ["-threads", str(threads), "-xerror", "-err_detect", "explode", "-f", container, "-i", "pipe:0"]
    return run([*_quiet(ffmpeg), *source, "-frames:v", "1", *_PIXELS, "pipe:1"], bitstream, timeout_s)


def bundled() -> str:
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
    return [ffmpeg or bundled(), "-nostdin", "-hide_banner", "-loglevel", "error"]
