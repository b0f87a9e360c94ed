"""Fetching against a real HTTP server in a thread: whole, cut, resumed, damaged, refused."""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featlink.cli import app
from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.fetch.download import Checksum, Source, download, unpack
from featlink.fetch.sources import DETECTRON2, cached_path, fetch_detectron2, fetch_val2017, official

CONTENT = random.Random(1).randbytes(1_500_000)


@dataclass
class Files:
    """What the server has, how it behaves, and what it was asked.

    Attributes:
        content: by path.
        cuts: after how many bytes of the file it closes the connection, request by request; None: not at all.
        ranges: honour Range headers.
        asked: the Range header of each request.
    """

    url: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int | None] = field(default_factory=list)
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)

    def source(self, path: str, algorithm: str = "sha256") -> Source:
        return Source(f"{self.url}/{path}", Checksum(algorithm, hashlib.new(algorithm, self.content[path]).hexdigest()))


@pytest.fixture
def server() -> Iterator[Files]:
    files = Files()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.asked.append(wanted := self.headers.get("Range"))
            content = files.content.get(self.path.removeprefix("/"))
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and files.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cut = files.cuts.pop(0) if files.cuts else None
            self.wfile.write(content[start:cut])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=[0.01])
    thread.start()
    files.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    files.content["file.bin"] = CONTENT
    yield files
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def ignore(done: int, total: int | None) -> None:
    pass


def test_whole_file_with_progress(server: Files, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "file.bin"
    download(server.source("file.bin"), target, lambda done, total: seen.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert os.listdir(target.parent) == ["file.bin"]


def test_goes_on_by_itself_where_the_connection_was_cut(server: Files, tmp_path: Path) -> None:
    server.cuts = [400_000, 900_000]
    download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=400000-", "bytes=900000-"]


def test_a_later_call_goes_on(server: Files, tmp_path: Path) -> None:
    server.cuts = [500_000, 500_000]  # the second attempt gets no further: given up
    with pytest.raises(CommandError, match=r"broke after 500,000 bytes.*goes on from there"):
        download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert (tmp_path / "file.bin.part").read_bytes() == CONTENT[:500_000]
    server.asked.clear()
    download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == ["bytes=500000-"]


def test_server_without_ranges_sends_all_again(server: Files, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_complete_part_is_only_checked(server: Files, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)  # killed between the last byte and the rename
    download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_wrong_checksum_leaves_nothing(server: Files, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"not what the file begins with")
    with pytest.raises(CommandError, match=r"damaged.*sha256.*deleted"):
        download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert os.listdir(tmp_path) == []
    download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_existing_file_is_not_asked_for(server: Files, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"mine")
    download(server.source("file.bin"), tmp_path / "file.bin", ignore)
    assert (tmp_path / "file.bin").read_bytes() == b"mine"
    assert server.asked == []


def test_missing_file_and_no_network(server: Files, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="404"):
        download(Source(f"{server.url}/other", Checksum("md5", "0")), tmp_path / "other", ignore)
    with pytest.raises(CommandError, match=r"^cannot reach 127\.0\.0\.1:9: is there a network\?") as caught:
        download(Source("http://127.0.0.1:9/x", Checksum("md5", "0")), tmp_path / "x", ignore)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_full_disk(server: Files, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").symlink_to("/dev/full")
    with pytest.raises(CommandError, match=r"cannot write .*file\.bin\.part: No space left on device"):
        download(server.source("file.bin"), tmp_path / "file.bin", ignore)


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def quiet(name: str) -> Callable[[int, int | None], None]:
    return ignore


PHOTO = {"val2017/000000000001.jpg": b"photo"}
TRUTH = {
    "annotations/instances_train2017.json": b"{}",
    "annotations/instances_val2017.json": b'{"images": [{"id": 1, "file_name": "000000000001.jpg"}]}',
}


def test_coco_is_fetched_unpacked_and_not_fetched_again(server: Files, tmp_path: Path) -> None:
    server.content |= {"val2017.zip": archive(PHOTO), "annotations.zip": archive(TRUTH)}
    sources = {"images": server.source("val2017.zip", "md5"), "annotations": server.source("annotations.zip", "md5")}
    fetch_val2017(tmp_path, quiet, **sources)
    data = open_dataset(tmp_path)
    assert {key: path.read_bytes() for key, path in data.images.items()} == {1: b"photo"}
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "000000000001.jpg",
        "instances_val2017.json",
    ]
    server.asked.clear()
    fetch_val2017(tmp_path, quiet, **sources)
    assert server.asked == []


def test_checkpoints_of_detectron2_are_fetched_and_their_digests_told(server: Files, tmp_path: Path) -> None:
    server.content |= {"model_final_f10217.pkl": b"mask", "model_final_280758.pkl": b"boxes"}
    server.cuts = [2]
    sources = {
        name: Source(f"{server.url}/{Path(source.url).name}", source.checksum) for name, source in DETECTRON2.items()
    }
    digests = fetch_detectron2(tmp_path, quiet, sources)
    assert digests == {
        "mask_rcnn_R_50_FPN_3x.pkl": hashlib.sha256(b"mask").hexdigest(),
        "faster_rcnn_R_50_FPN_3x.pkl": hashlib.sha256(b"boxes").hexdigest(),
    }
    server.asked.clear()
    assert fetch_detectron2(tmp_path, quiet, sources) == digests
    assert server.asked == []


def test_damaged_archive(tmp_path: Path) -> None:
    whole = archive({"val2017/1.jpg": random.Random(2).randbytes(5000)})
    path = tmp_path / "a.zip"
    path.write_bytes(whole[:2000] + bytes([whole[2000] ^ 255]) + whole[2001:])
    with pytest.raises(CommandError, match="damaged"):
        unpack(path, tmp_path / "out", lambda name: True, ignore)
    assert not (tmp_path / "out" / "val2017" / "1.jpg").exists()
    path.write_bytes(whole[:100])
    with pytest.raises(CommandError, match="damaged"):
        unpack(path, tmp_path / "out", lambda name: True, ignore)


@pytest.mark.parametrize("name", ["../evil", "val2017/../../evil", "/evil", "C:/evil", "..\\evil"])
def test_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive({"val2017/good.jpg": b"good", name: b"evil"}))
    with pytest.raises(CommandError, match="leads out of its folder"):
        unpack(path, tmp_path / "out", lambda name: True, ignore)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.zip"]


def test_unpack_where_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive(PHOTO))
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(CommandError, match="cannot unpack"):
        unpack(path, tmp_path / "out", lambda name: True, ignore)


def test_official_weights_are_where_torchvision_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = official("maskrcnn_resnet50_fpn")
    assert source.url == "https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
    assert source.checksum == Checksum("sha256", "bf2d0c1e")
    expected = tmp_path / "hub" / "checkpoints" / "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"
    assert cached_path("maskrcnn_resnet50_fpn") == expected


def test_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Files) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["fetch", "weights", "--model", "resnet"])
    assert isinstance(result.exception, CommandError)
    assert "unknown model 'resnet'" in str(result.exception)
    monkeypatch.setattr("featlink.fetch.sources.official", lambda model: server.source("file.bin"))
    result = CliRunner().invoke(app, ["fetch", "weights"])
    assert result.exit_code == 0, result.output
    assert cached_path("maskrcnn_resnet50_fpn").read_bytes() == CONTENT
