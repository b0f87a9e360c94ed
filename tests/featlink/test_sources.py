"""Sources: a file at its own pace, a camera that is missing, a film over the network, and ends in one line."""

from __future__ import annotations

import functools
import http.server
import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from featlink.errors import CommandError
from featlink.sources import Video, about, frames, is_live

FPS = 20
COUNT = 12


def picture(number: int) -> np.ndarray:
    """Brighter from frame to frame, and red at the left."""
    pixels = np.full((48, 96, 3), 10 * number, np.uint8)
    pixels[:, :32, 0] = 250
    return pixels


def film(path: Path, count: int = COUNT, codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 48, "yuv420p"
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "film.mp4")


def test_a_file_is_decoded_in_order(mp4: Path) -> None:
    taken = list(frames(mp4, paced=False))
    assert [one.time_s for one in taken] == pytest.approx([number / FPS for number in range(COUNT)])
    for number, one in enumerate(taken):
        assert np.abs(one.pixels[:, 40:].astype(int) - picture(number)[:, 40:]).mean() < 4
        assert one.pixels[24, 10, 0] > 200
    assert about(mp4) == Video(FPS, COUNT)


def test_a_file_comes_at_its_own_pace(mp4: Path) -> None:
    begun = time.monotonic()
    moments = [(one.time_s, time.monotonic() - begun) for one in frames(mp4)]
    assert all(came >= taken - 1e-3 for taken, came in moments)
    assert moments[-1][1] >= (COUNT - 1) / FPS - 1e-3


def test_whoever_is_late_is_not_kept_waiting(mp4: Path) -> None:
    source = frames(mp4)
    next(source)
    time.sleep(COUNT / FPS)
    begun = time.monotonic()
    assert len(list(source)) == COUNT - 1
    assert time.monotonic() - begun < COUNT / FPS / 2


def test_what_lies_on_its_side_is_turned_as_players_do(mp4: Path, tmp_path: Path) -> None:
    ffmpeg, turned = imageio_ffmpeg.get_ffmpeg_exe(), tmp_path / "turned.mp4"
    run = functools.partial(subprocess.run, check=True, capture_output=True)
    run([ffmpeg, "-display_rotation", "90", "-i", str(mp4), "-c", "copy", str(turned)])
    shown = run([ffmpeg, "-i", str(turned), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).stdout
    expected = np.frombuffer(shown, np.uint8).reshape(96, 48, 3).astype(int)
    assert np.abs(next(frames(turned)).pixels - expected).mean() < 3


def test_closing_it_early_closes_the_source(mp4: Path) -> None:
    source = frames(mp4)
    assert len(list(itertools.islice(source, 2))) == 2
    source.close()
    assert list(source) == []


@pytest.fixture
def url(mp4: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(mp4.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_over_the_network(url: str) -> None:
    assert len(list(frames(f"{url}/film.mp4"))) == COUNT
    with pytest.raises(CommandError, match=r"^http://127.0.0.1:\d+/none.mp4: ") as caught:
        list(frames(f"{url}/none.mp4"))
    assert "secret" not in str(caught.value)


def refused(source: str | Path) -> str:
    with pytest.raises(CommandError) as caught:
        list(frames(source))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_what_cannot_be_taken_is_one_line(mp4: Path, tmp_path: Path) -> None:
    assert "/dev/video97: No such file" in refused("/dev/video97")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert "Connection refused" in refused(f"rtsp://me:secret@127.0.0.1:{free.getsockname()[1]}/stream")
    assert "there is no video" in refused(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    assert "Invalid data" in refused(tmp_path / "text.mp4")
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", 8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux([*stream.encode(silence), *stream.encode(None)])
    assert "has no video" in refused(sound)


def test_what_is_live() -> None:
    assert [is_live(one) for one in ("RTSP://a/b", "rtsps://a", "/dev/video0", "a.mp4", "dev/video0")] == [
        True,
        True,
        True,
        False,
        False,
    ]
