"""What the first picture after a start costs against the tenth, for several sizes, in both domains.

    python -m benchmarks.first_request --scenes starter/data/starter/val
    python -m benchmarks.first_request --scenes starter/data/starter/val --min-size 800 --max-size 1333

Each start brings the three services up as `featlink up` does, waits until they say they are ready, and sends the
picture of each case ten times in a row; the caches of pyramids are off, so that each time pays for everything. The
cases of one start follow one another, so only the first sees services that have answered nothing yet; each further
start begins with another case. Of each case, the medians over the starts of first / tenth are printed, where the tenth
is the median of the last five: in wall time, which other programs on the machine disturb, and in processor time of the
services and their codecs, which they disturb less. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from PIL import Image

from featlink.client import Client
from featlink.launcher import Stack, free_ports

_SHAPES = {"4:3": (640, 480), "2:3": (427, 640), "1:1": (500, 500), "16:9": (1280, 720), "panorama": (1200, 400)}
"""(width, height) of the pictures; the last has a shape that no camera gives."""
_CASES = (
    ("4:3", "feature", "identity"),
    ("2:3", "feature", "quantize(bits=4)"),
    ("1:1", "image", "quantize(bits=4)"),
    ("16:9", "feature", "gaussian_noise(sigma=16)"),
    ("panorama", "feature", "quantize(bits=4)"),
    ("4:3", "image", "identity"),
    ("4:3", "feature", "gaussian_blur(sigma=1)"),
    ("4:3", "feature", "packet_loss(rate=0.05)"),
    ("4:3", "image", "jpeg(quality=50)"),
    ("4:3", "image", "vvenc(qp=40)"),
)
_TICK = os.sysconf("SC_CLK_TCK")


def picture(folder: Path, width: int, height: int) -> bytes:
    """A PNG file of a size, tiled with pictures of a folder."""
    canvas = Image.new("RGB", (width, height))
    scenes = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())[:12]]
    for i in range(-(-width // 320) * -(-height // 240)):
        across = -(-width // 320)
        canvas.paste(scenes[i % len(scenes)].resize((320, 240)), (320 * (i % across), 240 * (i // across)))
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def processor_seconds() -> float:
    """Of this process's children and of theirs that have ended."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    ticks = 0
    for child in children:
        ticks += sum(map(int, Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / _TICK


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--scenes", type=Path, required=True, help="folder with pictures")
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--min-size", default="", help="default: the weights'")
    parser.add_argument("--max-size", default="", help="default: the weights'")
    parser.add_argument("--threads", default="0")
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=10, help="sent of each case")
    parser.add_argument("--cases", type=int, default=len(_CASES), help="of each start")
    args = parser.parse_args()

    options = {"weights": args.weights, "profile": args.profile, "threads": args.threads, "cache_mb": "0"}
    options |= {name: value for name in ("min_size", "max_size") if (value := getattr(args, name))}
    ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
    starts: list[float] = []
    for start in range(args.starts):
        with tempfile.TemporaryDirectory() as folder:
            ports = free_ports()
            began = time.perf_counter()
            with (
                Stack(ports, options | {"database_url": f"sqlite:///{folder}/runs.sqlite"}, lambda *_: None) as stack,
                Client(ports.edge_url, ports.cloud_url) as client,
            ):
                stack.wait_ready()
                starts.append(time.perf_counter() - began)
                print(f"start {start + 1}: ready after {starts[-1]:.1f} s", flush=True)
                for i in range(args.cases):
                    case = _CASES[(start + i) % len(_CASES)]
                    ratios[" ".join(case)].append(_ratio(client, args, *case))
    print(f"ready after {statistics.median(starts):.1f} s (median)")
    result = {}
    for name, found in ratios.items():
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        result[name] = {"wall": round(wall, 2), "cpu": round(cpu, 2)}
        print(f"{name:42} first / tenth: wall {wall:.2f}, processor {cpu:.2f}")
    print(json.dumps({"ready_s": statistics.median(starts), "ratios": result}))


def _ratio(client: Client, args: argparse.Namespace, shape: str, domain: str, condition: str) -> tuple[float, float]:
    data = picture(args.scenes, *_SHAPES[shape])
    wall, cpu = [], []
    stages = []
    for _ in range(args.pictures):
        began, spent = time.perf_counter(), processor_seconds()
        answer = client.infer(data, domain=domain, condition=condition)
        wall.append(time.perf_counter() - began)
        cpu.append(processor_seconds() - spent)
        stages.append(answer.timings)
    tenth_wall, tenth_cpu = statistics.median(wall[-5:]), statistics.median(cpu[-5:])
    most = {name: f"{ms:.0f}→{stages[-1][name]:.0f}" for name, ms in stages[0].items()}
    print(
        f"  {shape} {domain} {condition}: {wall[0]:.2f} → {tenth_wall:.2f} s, processor {cpu[0]:.2f} → "
        f"{tenth_cpu:.2f} s; ms {most}",
        flush=True,
    )
    return wall[0] / tenth_wall, cpu[0] / tenth_cpu


if __name__ == "__main__":
    main()
