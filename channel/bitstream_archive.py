"""Keep a codec's bitstreams as files that any decoder of the standard reads, and read them again."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated

import msgspec
import numpy as np
import xxhash

from featlink.channel.codecs.base import (
    Codec,
    CodecError,
    PictureFormat,
    Tools,
    decode_still,
    from_pictures,
    picture_formats,
)
from featlink.channel.reduction.base import Reduction
from featlink.channel.transmit import Transmission
from featlink.shared import fitted
from featlink.shared.conditions import language, registry
from featlink.shared.errors import ConditionError, StorageError
from featlink.shared.features import Array
from featlink.shared.files import swap
from featlink.shared.frames.bitstream import Samples, dtype_for
from featlink.shared.frames.packing import dequantize
from featlink.shared.frames.wire import IMAGE

SIDE = "side.json"
"""Beside the bitstreams: what else a receiver needs."""
_MOST_SAMPLES = 1 << 28
_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]


class SideTensor(msgspec.Struct, kw_only=True):
    """What the receiver must know of a tensor: how to read its samples, and whether it did."""

    name: str
    shape: tuple[_Size, _Size, _Size]
    bits: Annotated[int, msgspec.Meta(ge=1, le=16)]
    range: list[tuple[float, float]]
    xxh3: str


class Side(msgspec.Struct, kw_only=True):
    """The side file of one image's bitstreams under one condition."""

    condition: str
    weights: str
    extension: str
    tensors: Annotated[list[SideTensor], msgspec.Meta(min_length=1, max_length=8)]


@dataclass(frozen=True)
class Decoded:
    """What a receiver makes of the files.

    Attributes:
        side: the side file.
        levels: float32 (C, H, W) by name; of a reduction, the restored ones. Empty for an image.
        image: uint8 (3, H, W), at the size that was coded; None for features.
    """

    side: Side
    levels: dict[str, Array]
    image: Samples | None


def check_folder(folder: Path) -> None:
    """Make sure that files can be written in a folder; it is made if it is not there.

    Raises:
        StorageError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix="."):
            pass
    except OSError as error:
        raise StorageError(f"cannot write in {folder}: {error.strerror}") from None


def save(sent: Transmission, folder: Path) -> Path | None:
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
    condition = str(meta.condition)
    image = meta.key if meta.image_id is None else str(meta.image_id)
    target = folder / _file_name(image or "image") / _file_name(condition)
    side = Side(
        condition=condition,
        weights=fitted.key(meta.weights, meta.features),
        extension=sent.extension,
        tensors=[
            SideTensor(
                name=tensor.name,
                shape=(tensor.data.shape[0], tensor.data.shape[1], tensor.data.shape[2]),
                bits=tensor.bits or 8,
                range=[] if tensor.ranges is None else [(float(m), float(high)) for m, high in tensor.ranges],
                xxh3=_checksum(tensor.data),  # type: ignore[arg-type]
            )
            for tensor in sent.crossing.tensors
        ],
    )
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, data in sent.bitstreams.items():
            swap(target / f"{name}.{sent.extension}", data, durable=False)
        swap(target / SIDE, msgspec.json.format(msgspec.json.encode(side), indent=1) + b"\n", durable=False)
    except OSError as error:
        raise StorageError(f"cannot keep bitstreams in {target}: {error.strerror}") from None
    return target


def decode(folder: Path, tools: Tools | None = None) -> Decoded:
    """Read what :func:`save` wrote, as the receiver would: nothing but the files and what was fitted to the network.

    Args:
        folder: of one image under one condition.
        tools: the codecs' programs; default: those of the environment, or else the bundled ones.

    Raises:
        StorageError: a file is missing, or is none of these.
        CodecError: a bitstream cannot be decoded, or gives other samples than were sent.
        ConditionError: the condition is unknown, or goes on behind the codec.
    """
    side = _side(folder / SIDE)
    condition = language.parse(side.condition)
    steps = [step.for_stills() for step in registry.chain(condition)]
    last = steps[-1] if steps else None
    if not isinstance(last, Codec):
        raise ConditionError(f"{side.condition} does not end with a codec, so there is more than its bitstreams")
    shapes = {tensor.name: tensor.shape for tensor in side.tensors}
    formats = {tensor.name: PictureFormat(tensor.shape, tensor.bits) for tensor in side.tensors}
    pictures = {
        name: decode_still((_bitstream(folder, name, side),), last, form, tools)
        for name, form in picture_formats(formats, last, condition.packing).items()
    }
    samples = from_pictures(pictures, shapes, last, condition.packing)
    for tensor in side.tensors:
        if _checksum(samples[tensor.name].astype(dtype_for(tensor.bits), copy=False)) != tensor.xxh3:
            raise CodecError(f"{folder}: {tensor.name} decodes to other samples than were sent")
    if IMAGE in samples:
        return Decoded(side, {}, samples[IMAGE])
    values = {t.name: dequantize(samples[t.name], np.array(t.range, np.float32), t.bits) for t in side.tensors}
    first = steps[0]
    return Decoded(side, first.restore(values, side.weights) if isinstance(first, Reduction) else values, None)


def _side(path: Path) -> Side:
    try:
        side = msgspec.json.decode(path.read_bytes(), type=Side)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{path} is not the side file of saved bitstreams: {error}") from None
    if sum(math.prod(tensor.shape) for tensor in side.tensors) > _MOST_SAMPLES:
        raise StorageError(f"{path} describes more than {_MOST_SAMPLES} samples")
    if not re.fullmatch(r"[a-z0-9]{1,8}", side.extension):
        raise StorageError(f"{path}: {side.extension[:32]!r} is no file's extension")
    return side


def _bitstream(folder: Path, name: str, side: Side) -> bytes:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,15}", name):
        raise StorageError(f"{folder / SIDE}: {name[:32]!r} is no tensor's name")
    path = folder / f"{name}.{side.extension}"
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from None


def _checksum(samples: Samples) -> str:
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(samples).data)


def _file_name(text: str) -> str:
    """Readable, and different for different texts."""
    name = re.sub(r"[^A-Za-z0-9.=]+", "-", text).strip("-.")[:80]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
