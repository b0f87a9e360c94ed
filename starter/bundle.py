"""What the package ships: 64 scenes and a checkpoint of 8 bits per weight, whose SHA-256 is checked on reading."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.generic]]

DATA = Path(str(resources.files("featlink.starter") / "data"))
WEIGHTS = DATA / "weights.npz"
SCENES = DATA / "starter"
"""The validation scenes: ``annotations/instances_val.json`` beside ``val/``."""

_META = "metadata"


@dataclass(frozen=True)
class Weights:
    """The bundled checkpoint.

    Attributes:
        state: torchvision's key → array, float32 (int64 for counters).
        metadata: e.g. ``min_size``, ``max_size``.
        sha256: of the file, hexadecimal.
    """

    state: Arrays
    metadata: dict[str, str]
    sha256: str


def load_weights(path: Path = WEIGHTS, sums: Path = DATA / "SHA256SUMS") -> Weights:
    """Read and decode the checkpoint.

    Args:
        path: of the checkpoint.
        sums: a list of checksums as ``sha256sum`` writes it.

    Raises:
        ValueError: the file is missing, or is not the one that was bundled.
    """
    try:
        data = path.read_bytes()
        expected = dict(line.split()[::-1] for line in sums.read_text().splitlines())
    except OSError as error:
        raise ValueError(f"cannot read {error.filename}: {error.strerror}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected.get(path.name):
        raise ValueError(f"{path} is damaged: its SHA-256 is {digest[:16]}…, not what {sums.name} says")
    state, metadata = decode(data)
    return Weights(state, metadata, digest)


def fitted_to(sums: Path = DATA / "SHA256SUMS") -> str:
    """Identity of the bundled weights, which what is bundled beside them was fitted to: 16 hexadecimal digits."""
    named = dict(line.split()[::-1] for line in sums.read_text().splitlines())
    return named[WEIGHTS.name][:16]


def encode(state: Mapping[str, npt.NDArray[np.generic]], metadata: Mapping[str, str]) -> bytes:
    """Pack weights into a compressed ``.npz`` without pickles.

    Of each array only the corner that is not constant is stored (see :mod:`training.embed`): matrices and convolutions
    as int8 with one scale for each output channel, so a weight is off by at most 1/254 of its channel's largest;
    vectors as float32.

    Args:
        state: float32 arrays, or integer counters that are 0.
        metadata: text to keep beside them.
    """
    arrays: Arrays = {}
    shapes = {}
    for name, value in state.items():
        shapes[name] = [list(value.shape), str(value.dtype), 0.0]
        if value.ndim == 0:
            continue
        fill = float(value.flat[-1])
        shapes[name][2] = fill
        used = np.argwhere(value != fill).max(axis=0, initial=0)
        corner = value[tuple(slice(0, int(last) + 1) for last in used)]
        if value.ndim == 1:
            arrays[name] = corner.astype(np.float32)
            continue
        scale = np.abs(corner).reshape(len(corner), -1).max(axis=1).astype(np.float32) / np.float32(127)
        scale = np.maximum(scale, np.float32(1e-30)).reshape(-1, *[1] * (value.ndim - 1))
        arrays[name] = np.rint(corner / scale).astype(np.int8)
        arrays[f"{name}:scale"] = scale
    arrays[_META] = np.array(json.dumps({"tensors": shapes, "metadata": dict(metadata)}))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            # A fixed date: the same weights always give the same file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def decode(data: bytes) -> tuple[Arrays, dict[str, str]]:
    """The inverse of :func:`encode`: arrays at their full shape, and the metadata.

    Example:
        >>> matrix = np.pad(np.eye(2, dtype=np.float32), ((0, 1), (0, 2)))
        >>> state, metadata = decode(encode({"a": matrix}, {"min_size": "480"}))
        >>> np.array_equal(state["a"], matrix), metadata
        (True, {'min_size': '480'})
    """
    state: Arrays = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        described = json.loads(str(archive[_META]))
        for name, (shape, dtype, fill) in described["tensors"].items():
            full = np.zeros(shape, dtype) if fill == 0 else np.full(shape, fill, dtype)
            if shape:
                corner = archive[name]
                if len(shape) > 1:
                    corner = corner * archive[f"{name}:scale"]
                full[tuple(slice(0, length) for length in corner.shape)] = corner
            state[name] = full
    return state, described["metadata"]
