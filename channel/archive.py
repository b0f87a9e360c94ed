"""Keep a codec's bitstreams as files that any decoder of the standard reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from channel.apply import Transmission
from shared.conditions import language
from shared.errors import StorageError


def keep(sent: Transmission, folder: Path) -> Path | None:
    """Write what a codec made of a frame: one file a plane, beside ``side.json`` with what else a receiver needs.

    Args:
        sent: what left the channel.
        folder: files go to ``<image>/<condition>/`` in it; the same image and condition write the same files.

    Returns:
        Where they are; None if the condition has no codec.

    Raises:
        StorageError: they cannot be written.
    """
    if not sent.bitstreams:
        return None
    meta = sent.frame.meta
    condition = language.from_fields({"domain": meta.domain, **(meta.condition or {})})
    image = meta.key if meta.image_id is None else str(meta.image_id)
    target = folder / _file_name(image or "image") / _file_name(str(condition))
    side = {
        "condition": str(condition),
        "domain": meta.domain,
        "sizes": {name: list(getattr(meta.sizes, name)) for name in ("original", "resized", "padded")},
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.data.shape),
                "bits": tensor.bits,
                "range": None if tensor.ranges is None else tensor.ranges.tolist(),
            }
            for tensor in sent.crossing.tensors
        ],
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in sent.bitstreams.items():
            _write(target / f"{name}.{sent.extension}", data)
        _write(target / "side.json", (json.dumps(side, indent=1) + "\n").encode())
    except OSError as error:
        raise StorageError(f"cannot keep bitstreams in {target}: {error.strerror}") from None
    return target


def _file_name(text: str) -> str:
    """Readable, and different for different texts."""
    name = re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.")[:80]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, whatever is killed meanwhile."""
    part = path.with_name(path.name + f".{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
