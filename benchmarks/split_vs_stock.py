"""Split inference through three services over HTTP against stock torchvision in one call, side by side.

    python -m benchmarks.split_vs_stock --weights starter --scenes starter/data/starter/val

The picture is a 2×2 mosaic of four scenes, 640×480: 800×1088 at the network's input, with as many objects as a photo
has. (``--picture photo.jpg`` takes a photo; a checkpoint trained on other pictures gives the maximum of 100
detections, and both sides spend their time on masks.)

Both take the same picture file and give detections; same network input, same threads; the two are timed in
turn, medians are printed. The last line is JSON with ``ratio`` and both medians. The services run as processes
of their own, as `featlink up` starts them; while one side is timed, the other is idle.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from featlink.client import Client
from featlink.launcher import Stack, free_ports
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import build


def mosaic(folder: Path) -> bytes:
    """Four pictures of a folder side by side, as a PNG file of 640×480."""
    canvas = Image.new("RGB", (640, 480))
    for i, path in enumerate(sorted(folder.iterdir())[:4]):
        canvas.paste(Image.open(path).convert("RGB").crop((0, 0, 320, 240)), (320 * (i % 2), 240 * (i // 2)))
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--scenes", type=Path, help="folder with pictures of at least 320×240")
    source.add_argument("--picture", type=Path, help="a 4:3 landscape photo gives 800×1088")
    parser.add_argument("--model", default="maskrcnn_resnet50_fpn")
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--min-size", type=int, default=800)
    parser.add_argument("--max-size", type=int, default=1333)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    options = {"model": args.model, "weights": args.weights, "min_size": args.min_size, "max_size": args.max_size}
    stock = build(ModelConfig(**options, profile="exact")).network  # torchvision's own modules, called as a whole
    data = args.picture.read_bytes() if args.picture else mosaic(args.scenes)

    def monolithic() -> int:
        with torch.inference_mode():
            [out] = stock([to_tensor(Image.open(io.BytesIO(data)).convert("RGB"))])
        return len(out["boxes"])

    times: dict[str, list[float]] = {"split": [], "stock": []}
    stages: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        settings = {name: str(value) for name, value in options.items()}
        settings |= {
            "profile": args.profile,
            "threads": str(args.threads),
            "cache_mb": "0",  # every inference pays its backbone
            "database_url": f"sqlite:///{folder}/runs.sqlite",
        }
        ports = free_ports()
        with (
            Stack(ports, settings, lambda name, line: None) as stack,
            Client(ports.edge_url, ports.cloud_url) as client,
        ):
            stack.wait_ready()
            for i in range(args.runs + 1):
                started = time.perf_counter()
                answer = client.infer(data, condition="identity")
                split = time.perf_counter() - started
                started = time.perf_counter()
                found = monolithic()
                whole = time.perf_counter() - started
                print(f"{'warm-up' if i == 0 else i}: split {split:.3f} s, stock {whole:.3f} s", flush=True)
                if i > 0:
                    times["split"].append(split)
                    times["stock"].append(whole)
                    for stage, milliseconds in answer.timings.items():
                        stages[stage].append(milliseconds)
    split_s, stock_s = (statistics.median(times[name]) for name in ("split", "stock"))
    breakdown = {stage: round(statistics.median(values), 1) for stage, values in stages.items()}
    total = breakdown.pop("total")
    breakdown["http and the rest"] = round(total - sum(breakdown.values()), 1)
    print(f"{found} detections by stock, {len(answer.detections)} by split; stages in ms: {breakdown}")
    result = {"ratio": split_s / stock_s, "split_s": split_s, "stock_s": stock_s, "stages_ms": breakdown}
    print(json.dumps(result | {"threads": args.threads, "runs": args.runs, "profile": args.profile}))


if __name__ == "__main__":
    main()
