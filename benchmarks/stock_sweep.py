"""The obvious script that a sweep replaces: stock torchvision under each condition, with the usual libraries.

Used by sweep_vs_stock.py. Nothing of Featlink is in it but the names of the conditions.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.stats import spearmanr
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure
from torchvision.transforms import functional as TF

KEYS = ("0", "1", "2", "3", "pool")
RANKS = 100_000


class StockSweep:
    """One network, one picture, many conditions; keeps the clean pyramid, as any script would.

    Args:
        network: torchvision's, in eval mode.
        picture: an image file.
        image_id: its id in the ground truth.
    """

    def __init__(self, network: Any, picture: Path, image_id: int) -> None:
        self.network = network
        self.device = next(network.parameters()).device
        self.image = TF.to_tensor(Image.open(picture).convert("RGB")).to(self.device)
        self.image_id = image_id
        self.seconds: dict[str, float] = defaultdict(float)
        self.clean: dict[str, Tensor] = {}

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add to a stage's time."""
        started = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[stage] += time.perf_counter() - started

    @torch.inference_mode()
    def run(
        self, domain: str, step: str, parameters: dict[str, float]
    ) -> tuple[list[dict[str, Any]], dict[str, float]]:
        """Detections in COCO's format, and fidelity, under one condition (``step`` empty: clean)."""
        network = self.network
        with self.timed("network"):
            images, _ = network.transform([self.image])
        fidelity: dict[str, float] = {}
        if domain == "image" and step:
            height, width = images.image_sizes[0]
            resized = F.interpolate(255 * self.image[None], (height, width), mode="bilinear", align_corners=False)[0]
            bad = self.distort_image(resized.round(), step, parameters)
            with self.timed("fidelity"):
                fidelity["psnr_i"] = psnr((bad - resized).square().mean())
                fidelity["ssim_i"] = float(ssim(resized[None], bad[None]))
            with self.timed("network"):
                images = network.transform.batch_images([network.transform.normalize(bad / 255)], 32)
                batch = torch.as_tensor(images)
        else:
            with self.timed("network"):
                batch = images.tensors
        with self.timed("network"):
            features = network.backbone(batch)
        if not step:
            self.clean = dict(features)
        elif domain == "feature":
            features = {key: self.distort_level(features[key][0], step, parameters)[None] for key in KEYS}
        if step:
            with self.timed("fidelity"):
                fidelity |= pyramid_fidelity(self.clean, features)
        with self.timed("network"):
            images, _ = network.transform([self.image])
            proposals, _ = network.rpn(images, features)
            results, _ = network.roi_heads(features, proposals, images.image_sizes)
            [result] = network.transform.postprocess(results, images.image_sizes, [tuple(self.image.shape[-2:])])
        with self.timed("masks to RLE"):
            return self.to_coco(result), fidelity

    def distort_level(self, level: Tensor, step: str, parameters: dict[str, float]) -> Tensor:
        """A level (256, H, W) through its 8-bit plane, as the paper does it."""
        with self.timed("distortion"):
            low, high = level.min(), level.max()
            top = 2 ** int(parameters["bits"]) - 1 if step == "quantize" else 255
            samples = ((level - low) * top / (high - low)).round()
        if step != "quantize":
            _, height, width = level.shape
            plane = samples.reshape(16, 16, height, width).transpose(1, 2).reshape(1, 16 * height, 16 * width)
            if step == "vvenc":
                with self.timed("VVenC"):
                    plane = code_plane(plane.cpu(), int(parameters["qp"])).to(self.device)
            else:
                with self.timed("distortion"):
                    plane = distort(plane, step, parameters)
            samples = plane.reshape(16, height, 16, width).transpose(1, 2).reshape(256, height, width)
        with self.timed("distortion"):
            return samples * (high - low) / top + low

    def distort_image(self, image: Tensor, step: str, parameters: dict[str, float]) -> Tensor:
        """An image (3, H, W) in 0..255."""
        if step == "vvenc":
            with self.timed("VVenC"):
                return code_image(image.cpu(), int(parameters["qp"])).to(self.device)
        with self.timed("distortion"):
            if step == "quantize":
                top = 2 ** int(parameters["bits"]) - 1
                return (image * top / 255).round() * 255 / top
            return distort(image, step, parameters)

    def to_coco(self, result: dict[str, Tensor]) -> list[dict[str, Any]]:
        """As COCO results."""
        found = []
        result = {name: value.cpu() for name, value in result.items()}
        boxes = result["boxes"].tolist()
        for (x1, y1, x2, y2), score, label, mask in zip(
            boxes, result["scores"].tolist(), result["labels"].tolist(), result["masks"], strict=True
        ):
            rle = mask_api.encode(np.asfortranarray((mask[0] > 0.5).numpy().astype(np.uint8)))
            entry = {"image_id": self.image_id, "category_id": label, "score": score, "segmentation": rle}
            found.append(entry | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
        return found


def distort(planes: Tensor, step: str, parameters: dict[str, float]) -> Tensor:
    """Planes (N, H, W) in 0..255, by torch and torchvision."""
    if step == "gaussian_blur":
        window = int(parameters["window"])
        out = TF.gaussian_blur(planes[:, None], [window, window], [parameters["sigma"]] * 2)[:, 0]
    elif step == "gaussian_noise":
        out = planes + parameters["sigma"] * torch.randn(planes.shape, device=planes.device)
    elif step == "resize":
        size = planes.shape[-2:]
        small = [-(-side // int(parameters["factor"])) for side in size]
        down = F.interpolate(planes[None], small, mode="bicubic", align_corners=False).round().clamp(0, 255)
        out = F.interpolate(down, size, mode="bicubic", align_corners=False)[0]
    else:
        raise ValueError(step)
    return out.round().clamp(0, 255)


def code_plane(plane: Tensor, qp: int) -> Tensor:
    """One plane (1, H, W) through VVenC as the luma of a 10-bit picture."""
    height, width = plane.shape[-2:]
    luma = 4 * plane[0].numpy().astype(np.uint16)
    luma = np.pad(luma, ((0, max(-height % 8, 32 - height)), (0, max(-width % 8, 32 - width))), "edge")
    chroma = np.full(luma.size // 2, 512, np.uint16)
    size = f"{luma.shape[1]}x{luma.shape[0]}"
    raw = vvc(["-pix_fmt", "yuv420p10le"], luma.tobytes() + chroma.tobytes(), size, qp, ["-pix_fmt", "yuv420p10le"])
    decoded = np.frombuffer(raw, np.uint16)[: luma.size].reshape(luma.shape)[:height, :width]
    return torch.from_numpy((decoded.astype(np.float32) / 4).round().clip(0, 255))[None]


def code_image(image: Tensor, qp: int) -> Tensor:
    """An image (3, H, W) through VVenC; FFmpeg converts the colours."""
    _, height, width = image.shape
    pixels = image.permute(1, 2, 0).numpy().astype(np.uint8)
    source = ["-pix_fmt", "rgb24"]
    raw = vvc(source, pixels.tobytes(), f"{width}x{height}", qp, source, ["-vf", "scale=out_color_matrix=bt709"])
    return torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(height, width, 3).copy()).permute(2, 0, 1).float()


def vvc(
    source: list[str], raw: bytes, size: str, qp: int, target: list[str], filters: list[str] | None = None
) -> bytes:
    """Encode one picture and decode it again."""
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-hide_banner", "-loglevel", "error"]
    encoder = ["-pix_fmt", "yuv420p10le", "-c:v", "libvvenc", "-qp", str(qp), "-preset", "faster", "-qpa", "0"]
    with tempfile.TemporaryDirectory() as folder:
        raw_in, stream, raw_out = (f"{folder}/{name}" for name in ("in.raw", "picture.vvc", "out.raw"))
        Path(raw_in).write_bytes(raw)
        reading = ["-f", "rawvideo", *source, "-video_size", size, "-framerate", "1", "-i", raw_in]
        subprocess.run([*ffmpeg, *reading, *(filters or []), *encoder, stream], check=True)
        back = ["-vf", "scale=in_color_matrix=bt709"] if filters else []
        subprocess.run([*ffmpeg, "-i", stream, *back, "-f", "rawvideo", *target, raw_out], check=True)
        return Path(raw_out).read_bytes()


def pyramid_fidelity(clean: dict[str, Tensor], distorted: dict[str, Tensor]) -> dict[str, float]:
    """PSNR, SSIM of the tiled planes and rank correlation, in the clean levels' range."""
    errors, count, ssims, ranks = 0.0, 0, [], []
    for key in KEYS:
        level, bad = clean[key][0], distorted[key][0]
        low, high = level.min(), level.max()
        x, y = ((one - low) * 255 / (high - low) for one in (level, bad))
        errors, count = errors + float((x - y).double().square().sum()), count + x.numel()
        _, height, width = x.shape
        planes = [
            one.reshape(16, 16, height, width).transpose(1, 2).reshape(1, 1, 16 * height, 16 * width) for one in (x, y)
        ]
        ssims.append(float(ssim(*planes)))
        chosen = np.random.default_rng(0).choice(x.numel(), min(RANKS, x.numel()), replace=False)
        ranks.append(spearmanr(x.flatten().cpu().numpy()[chosen], y.flatten().cpu().numpy()[chosen]).statistic)
    return {"psnr_f": psnr(torch.tensor(errors / count)), "ssim_f": float(np.mean(ssims)), "spearman_f": np.mean(ranks)}


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of (1, C, H, W) by torchmetrics."""
    options: dict[str, Any] = {"gaussian_kernel": True, "sigma": 1.5, "kernel_size": 11, "data_range": 255.0}
    return torch.as_tensor(structural_similarity_index_measure(x, y, **options))


def psnr(mse: Tensor) -> float:
    """In dB."""
    return float(10 * torch.log10(255**2 / mse).cpu())


def average_precision(truth: COCO, found: list[dict[str, Any]]) -> dict[str, float]:
    """AP of boxes and masks by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        detections = truth.loadRes(found)
        ap = {}
        for kind in ("bbox", "segm"):
            evaluator = COCOeval(truth, detections, kind)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            ap[kind] = float(evaluator.stats[0])
    return ap
