"""Pictures and requests of the tests over HTTP."""

from __future__ import annotations

import io
from typing import Any

import httpx
import numpy as np
from PIL import Image

SIZES = {"min_size": 128, "max_size": 224, "proposals": 100, "max_detections": 10}


def picture(width: int = 160, height: int = 120, seed: int = 0, form: str = "PNG") -> bytes:
    rng = np.random.default_rng(seed)
    pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((height // 8 + 1, width // 8 + 1, 1)))
    out = io.BytesIO()
    Image.fromarray(pixels[:height, :width].astype(np.uint8)).save(out, form)
    return out.getvalue()


def infer(edge: str, data: bytes, headers: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    response = httpx.post(f"{edge}/v1/infer", content=data, params=params, headers=headers, timeout=120)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
