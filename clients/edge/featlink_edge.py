"""A camera's half of a Featlink deployment, without torch: runs an exported edge and sends its frames to a channel."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import io
import json
import os
import queue
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # from 1.32 on, ONNX Runtime reports its use, unless told not to
import onnxruntime
from PIL import Image, ImageDraw, ImageOps

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
WARM = 3  # first pictures, whose times are told apart
Taken = tuple[str, bytes, Image.Image, dict[str, float]]  # name, what it was decoded from, RGB picture, ms by stage


def packed(value: object) -> bytes:
    """MessagePack of what a frame's header is made of."""
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        return struct.pack(">BQ", 0xCF, value)
    if isinstance(value, str):
        return struct.pack(">BI", 0xDB, len(text := value.encode())) + text
    if isinstance(value, dict):
        return struct.pack(">BI", 0xDF, len(value)) + b"".join(packed(k) + packed(v) for k, v in value.items())
    return struct.pack(">BI", 0xDD, len(value)) + b"".join(map(packed, value))


class Edge:
    """An exported edge: ``edge.onnx`` and ``edge.json`` of a folder that ``featlink export edge`` wrote."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.facts = json.loads((folder / "edge.json").read_bytes())
        graph = (folder / "edge.onnx").read_bytes()
        if self.facts.get("format") != "featlink-edge-1" or hashlib.sha256(graph).hexdigest() != self.facts["sha256"]:
            raise OSError(f"{folder}: edge.onnx is not the one that edge.json describes")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(graph, options, providers=onnxruntime.get_available_providers())
        self.facts["providers"] = self._session.get_providers()

    def frame(self, data: bytes, picture: Image.Image, image_id: int | None) -> tuple[list[bytes], dict[str, float]]:
        """A picture's frame, in pieces, and how long inference and packing took, in ms."""
        started, facts, original = time.monotonic(), self.facts, picture.size[::-1]
        if facts["size"] and list(original) != facts["size"]:  # boxes come back in the picture's own pixels
            picture = picture.resize(facts["size"][::-1], Image.Resampling.BILINEAR)
        sides = picture.size[::-1]
        scale = min(np.float32(facts["min_size"]) / min(sides), np.float32(facts["max_size"]) / max(sides))
        sizes = {"resized": [int(side * float(scale)) for side in sides]}
        sizes["padded"] = [-(-side // facts["divisor"]) * facts["divisor"] for side in sizes["resized"]]
        given = {} if facts["size"] else {name: np.array(size) for name, size in sizes.items()}
        arrays = self._session.run(facts["tensors"], {"image": np.asarray(picture), **given})
        inferred, infos, body = time.monotonic(), [], []
        for name, array in zip(facts["tensors"], arrays, strict=True):
            raw = array.astype("<f4").tobytes()
            infos.append([name, "float32", array.shape, zlib.crc32(raw), None, None])
            body += [raw, bytes(-len(raw) % 64)]
        key = hashlib.sha256(data).hexdigest()[:32]
        header = {
            "domain": "feature",
            "key": key,
            "image_id": image_id,
            "original": original,
            "tensors": infos,
            **sizes,
        }
        header |= {name: facts[name] for name in ("model", "weights", "features")}
        raw = packed(header | ({"extensions": {"reduced": facts["reduced"]}} if facts["reduced"] else {}))
        head = struct.pack("<8sHHIQ", b"FEATLINK", facts["wire"], 1, len(raw), zlib.crc32(raw)) + raw
        times = {"backbone": (inferred - started) * 1e3, "serialize": (time.monotonic() - inferred) * 1e3}
        return [head + bytes(-len(head) % 64), *body], times


class Channel:
    """A channel service that frames are sent to, patiently: what is not answered is sent again."""

    def __init__(self, url: str, patience_s: float, params: dict[str, str | None]) -> None:
        self._url, self._patience_s = urlsplit(url), patience_s
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise OSError(f"{url!r} is no address such as http://10.0.0.5:8002")
        self._params = {name: value for name, value in params.items() if value}
        self._connection: http.client.HTTPConnection | None = None
        self._headers = {"content-type": "application/vnd.featlink.frame"}
        if token := os.environ.get("FEATLINK_TOKEN"):
            self._headers["authorization"] = f"Bearer {token}"
        if token := os.environ.get("FEATLINK_RUN_TOKEN"):
            self._headers["featlink-run-token"] = token

    def send(self, parts: list[bytes], times: dict[str, float], **place: object) -> dict:
        """The deployment's answer to a frame. Raises OSError where there is none to be had."""
        path = f"{self._url.path.rstrip('/')}/v1/transmit?{urlencode(self._params | place)}"
        headers = self._headers | {"featlink-report": json.dumps({"timings": times})}
        headers["content-length"] = str(sum(map(len, parts)))
        end, pause_s = time.monotonic() + self._patience_s, 0.2
        while True:
            try:
                if self._connection is None:
                    kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
                    self._connection = kind(self._url.hostname, self._url.port, timeout=60)
                self._connection.request("POST", path, iter(parts), headers)
                response = self._connection.getresponse()
                text, wait_s = response.read(), float(response.getheader("retry-after") or 0)
                if response.status == 200:
                    return json.loads(text)
                reason = f"{response.status}: {json.loads(text).get('detail') if text[:1] == b'{' else text[:200]!r}"
                if response.status not in (429, 502, 503, 504):
                    end = 0
            except (OSError, http.client.HTTPException) as error:
                self._connection, wait_s, reason = None, 0, f"{type(error).__name__}: {error}"
            pause_s = max(min(2 * pause_s, 5), wait_s)
            if time.monotonic() + pause_s > end:
                raise OSError(f"no answer from {self._url.netloc}: {reason}")
            time.sleep(pause_s)


def pictures(paths: list[Path]) -> Iterator[Taken]:
    """Pictures of files and folders, upright, with the time that decoding took."""
    for path in paths:
        inside = sorted(one for one in path.rglob("*") if one.suffix.lower() in PICTURES)
        for file in inside if path.is_dir() else [path]:
            started = time.monotonic()
            try:
                data = file.read_bytes()
                picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
                yield file.name, data, picture, {"decode": (time.monotonic() - started) * 1e3}
            except (OSError, SyntaxError, ValueError) as error:
                print(f"featlink-edge: {file} is left out: {error}", file=sys.stderr)


def video(source: str, size: list[int], newest: bool) -> Iterator[Taken]:
    """Pictures of a camera, an address or a file, by FFmpeg, scaled to (height, width); of a camera, the newest."""
    pace = ["-re"] if Path(source).is_file() else []
    form = ["-an", "-vf", f"scale={size[1]}:{size[0]}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command = [shutil.which("ffmpeg") or "ffmpeg", "-v", "error", *pace, "-i", source, *form]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    waiting: queue.Queue[bytes] = queue.Queue(1 if newest else 8)

    def read() -> None:
        while data := process.stdout.read(3 * size[0] * size[1]):
            while newest and waiting.full():
                with contextlib.suppress(queue.Empty):
                    waiting.get_nowait()
            waiting.put(data)
        waiting.put(b"")

    threading.Thread(target=read, daemon=True).start()
    number = 0
    while len(data := waiting.get()) == 3 * size[0] * size[1]:
        yield f"{number:06d}", data, Image.frombytes("RGB", (size[1], size[0]), data), {}
        number += 1
    if process.wait():
        raise OSError(f"FFmpeg cannot read {source}")


def device() -> dict[str, str | int | None]:
    """What the system tells of processor, clock and power mode."""
    facts = {"machine": os.uname().machine, "cpus": os.cpu_count(), "onnxruntime": onnxruntime.__version__}
    for name in ("scaling_governor", "scaling_cur_freq", "scaling_max_freq"):
        with contextlib.suppress(OSError):
            facts[name] = Path(f"/sys/devices/system/cpu/cpu0/cpufreq/{name}").read_text().strip()
    return facts


def show(name: str, picture: Image.Image, answer: dict, ms: float, folder: Path | None) -> None:
    """Print what was found, and write the picture with its boxes where a folder is given."""
    found, names = answer["detections"], answer["categories"]
    texts = [f"{names[str(one['category_id'])]} {one['score']:.2f}" for one in found]
    print(f"{name}: {ms:.0f} ms, {answer['bits'] / 8000:.2f} kB: {', '.join(texts[:5])}", flush=True)
    if folder is not None:
        canvas = ImageDraw.Draw(picture)
        for (x, y, width, height), text in zip((one["bbox"] for one in found), texts, strict=True):
            canvas.rectangle((x, y, x + width, y + height), outline="red", width=2)
            canvas.text((x + 3, y + 2), text, fill="red")
        picture.save(folder / f"{Path(name).stem}.jpg")


def run(asked: argparse.Namespace) -> None:
    """Send every picture of the source. The next one is taken and computed while a frame is under way."""
    edge = Edge(asked.edge, asked.threads)
    given = {"condition": asked.condition or edge.facts["condition"], "link": asked.link, "run": asked.run}
    channel = Channel(asked.channel, asked.patience, given)
    entries = json.loads(asked.annotations.read_bytes())["images"] if asked.annotations else []
    ids = {Path(entry["file_name"]).name: entry["id"] for entry in entries}
    for folder in filter(None, (asked.out, asked.draw)):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [Path(one) for one in asked.source]
    files = all(path.is_dir() or path.suffix.lower() in PICTURES for path in paths)
    newest = not (asked.every or paths[0].is_file())
    taken = pictures(paths) if files else video(asked.source[0], edge.facts["size"] or [480, 640], newest)

    computed = ((*one, *edge.frame(one[1], one[2], ids.get(one[0]))) for one in taken)
    spent: dict[str, list[float]] = {}
    with ThreadPoolExecutor(1) as pool:
        coming, number = pool.submit(next, computed, None), 0
        while (frame := coming.result()) is not None:
            coming, (name, _, picture, decoding, parts, computing) = pool.submit(next, computed, None), frame
            started, times = time.monotonic(), decoding | computing
            if asked.out:
                (asked.out / f"{Path(name).stem}.frame").write_bytes(b"".join(parts))
            else:
                place = {"stream": asked.stream, "frame": number} if asked.stream else {}
                answer = channel.send(parts, times, **place)
                show(name, picture, answer, (time.monotonic() - started) * 1e3, asked.draw)
            number += 1
            for stage, ms in {**times, "send": (time.monotonic() - started) * 1e3}.items():
                spent.setdefault(stage, []).append(ms)
    if not spent:
        raise OSError("the source has no picture")
    stages = {}
    for stage, values in spent.items():
        median, p95 = np.percentile(values[WARM:] or values, (50, 95)).tolist()
        warm = float(np.median(values[:WARM]))
        stages[stage] = {"median": median, "p95": p95, "warmup": warm, "count": len(values)}
    print("; ".join(f"{stage} {ms['median']:.0f} ms (95 %: {ms['p95']:.0f})" for stage, ms in stages.items()))
    if asked.report:
        facts = {name: edge.facts[name] for name in ("model", "weights", "size", "precision", "reduced", "providers")}
        asked.report.write_text(json.dumps(facts | {"stages_ms": stages, "device": device()}, indent=2))


def main(arguments: list[str] | None = None) -> None:
    """``featlink-edge``."""
    parser = argparse.ArgumentParser("featlink-edge", description="Send a camera's features to a Featlink channel.")
    add = parser.add_argument
    add("edge", type=Path, help="folder that `featlink export edge` wrote")
    add("source", nargs="+", help="pictures, folders, a video, /dev/video0 or rtsp://…")
    add("--channel", default="http://127.0.0.1:8002", help="address of the channel service")
    add("--condition", help="that the frames go through; default: the export's, else the channel's")
    add("--link", help="simulated link, as JSON")
    add("--run", help="id of a run that collects the detections; its token in FEATLINK_RUN_TOKEN")
    add("--annotations", type=Path, help="COCO file that names the pictures' ids")
    add("--stream", help="send the pictures as the frames of a stream of this id")
    add("--every", action="store_true", help="send every picture of a live source, not the newest")
    add("--out", type=Path, help="write frames to this folder instead of sending them")
    add("--draw", type=Path, help="write pictures with what was found to this folder")
    add("--report", type=Path, help="write times and what the device is as JSON")
    add("--threads", type=int, default=0, help="of inference; 0: one for each core")
    add("--patience", type=float, default=60, help="seconds to try a frame again")
    try:
        run(parser.parse_args(arguments))
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"featlink-edge: {error}") from None


if __name__ == "__main__":
    main()
