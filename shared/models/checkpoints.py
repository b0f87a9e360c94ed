"""Load weights: the bundle's, torchvision's official ones, or a file's. Nothing is unpickled.

Training scripts save state dicts beside other things, nested, under prefixes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path, PosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlparse

import msgspec
import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights

from featlink.shared.errors import ModelError
from featlink.shared.models.config import DETECTORS, MODELS
from featlink.shared.models.pickled_arrays import read_arrays

HARMLESS: tuple[Callable[..., Any], ...] = (argparse.Namespace, PosixPath)
"""What torchvision's training script saves beside tensors: its command line. Making these runs nothing."""

_NESTS = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Of DataParallel, of torch.compile, and of a module that holds the detector as its ``model``."""
_LAYOUTS = (
    ("backbone.bottom_up.", "detectron2", "detectron2_r50_fpn"),
    ("neck.lateral_convs.", "mmdetection", "mmdet_r50_fpn"),
)
"""How names begin in other libraries."""
_DEEPEST = 8
"""Of nests: a hostile one may hold itself."""
_UNCLEAR = "damaged, or more than tensors in it"
_SHOWN = 3

_Pixels = Annotated[int, msgspec.Meta(ge=1, le=4096)]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


def state_dict(content: object) -> dict[str, Tensor] | None:
    """A checkpoint's state dict, out of what it is nested in and without the prefixes of wrappers.

    Returns:
        None if the checkpoint holds none.

    Example:
        >>> list(state_dict({"epoch": 3, "state_dict": {"module.rpn.weight": torch.zeros(1)}}))
        ['rpn.weight']
    """
    for _ in range(_DEEPEST):
        if isinstance(content, Mapping) and (name := next((n for n in _NESTS if _is_nest(content.get(n))), None)):
            content = content[name]
    if not isinstance(content, Mapping) or not content:
        return None
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        return None
    state = dict(content)
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def unreadable(path: Path) -> str:
    """Why torch did not read a file, in one line.

    Args:
        path: of a file that ``torch.load`` refused or failed on.
    """
    if not zipfile.is_zipfile(path):
        return _UNCLEAR
    try:
        known = {f"{one.__module__}.{one.__qualname__}" for one in HARMLESS} | {"pathlib.PosixPath"}
        strange = [n for n in torch.serialization.get_unsafe_globals_in_checkpoint(path) if n not in known]
    except Exception:  # as torch.load: a damaged pickle makes it raise anything
        return _UNCLEAR
    if not strange:
        return "damaged"
    names = ", ".join(sorted(strange)[:_SHOWN]) + (" and others" if len(strange) > _SHOWN else "")
    return f"it holds more than tensors ({names}), which is code that would have to be run; save model.state_dict()"


def misfit(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Why weights do not fit a network, in one line; None if they do.

    Args:
        state: the weights.
        wanted: the network's own state dict.
    """
    if other := other_layout(state):
        return other
    shapes = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if shapes:
        have, want = (list(side[shapes[0]].shape) for side in (state, wanted))
        more = f", and {len(shapes) - 1} more shapes differ" if len(shapes) > 1 else ""
        return f"{shapes[0]} has shape {have}, the network's has {want}{more}{_cause(shapes[0])}"
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    if not missing and not unexpected:
        return None
    odd = f"no {missing[0]}" if missing else f"unexpected {unexpected[0]}"
    count = len(missing) + len(unexpected)
    return odd + (f", and {count - 1} more names differ" if count > 1 else "") + _hint(state)


def other_layout(state: Mapping[str, Tensor]) -> str | None:
    """Which library's layout weights are in, and what reads it; None if none that is known."""
    for prefix, library, model in _LAYOUTS:
        if any(name.startswith(prefix) for name in state):
            return f"they are in the layout of {library}: --model {model}"
    return None


def _is_nest(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _hint(state: Mapping[str, Tensor]) -> str:
    """Which other network the weights look like."""
    if any(name.startswith("roi_heads.mask_head.0.0.") for name in state):
        return "; they look like those of maskrcnn_resnet50_fpn_v2"
    if any(name.startswith("roi_heads.mask_head.") for name in state):
        return "; they look like those of maskrcnn_resnet50_fpn"
    if any(name.startswith("roi_heads.box_head.fc6.") for name in state):
        return "; they look like those of fasterrcnn_resnet50_fpn"
    return ""


def _cause(name: str) -> str:
    if name.startswith("rpn.head."):
        return "; it was trained with other anchors than torchvision's"
    if name.startswith("roi_heads."):
        return "; it was trained with another head than torchvision's"
    return ""


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What no state dict says of how a network was trained: ``mine.pth.json`` beside ``mine.pth``.

    Attributes:
        min_size, max_size: of the network input, pixels.
        image_mean, image_std: of R, G and B in 0..1, for normalisation.
        anchor_sizes: per level, sides in pixels.
        aspect_ratios: of the anchors of every level.
        box_nms_thresh, rpn_nms_thresh: intersection over union above which a box is suppressed.
        categories: name of each label, background first.
        stride_in_1x1: where a stage's first block halves the size in detectron2's or mmdetection's ResNet: in its first
            convolution, or in the 3×3 one. Default: the first of detectron2, the second of mmdetection.
    """

    min_size: _Pixels | None = None
    max_size: _Pixels | None = None
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[_Positive, _Positive, _Positive] | None = None
    anchor_sizes: Annotated[tuple[tuple[_Pixels, ...], ...], msgspec.Meta(min_length=1)] | None = None
    aspect_ratios: Annotated[tuple[_Positive, ...], msgspec.Meta(min_length=1)] = (0.5, 1.0, 2.0)
    box_nms_thresh: _Share | None = None
    rpn_nms_thresh: _Share | None = None
    categories: tuple[str, ...] | None = None
    stride_in_1x1: bool | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Weights as loaded.

    Attributes:
        state: state dict in torchvision's layout, float32.
        identity: first 16 hex digits of the SHA-256 of the file, or of it and its sidecar: edge and cloud must agree.
        official: the file is torchvision's own COCO_V1 for the model.
        metadata: what the bundle or a ``.safetensors`` file says of itself, e.g. ``min_size``.
        sidecar: what the file beside it says.
    """

    state: dict[str, Tensor]
    identity: str
    official: bool
    metadata: Mapping[str, str] = field(default_factory=dict)
    sidecar: Sidecar = field(default_factory=Sidecar)

    def size(self, name: Literal["min_size", "max_size"]) -> int | None:
        """A size of the network input as the files say it, the sidecar first; None if they do not.

        Raises:
            ModelError: the metadata's is no number.
        """
        beside = self.sidecar.min_size if name == "min_size" else self.sidecar.max_size
        stated = self.metadata.get(name)
        try:
            return beside or (None if stated is None else int(stated))
        except ValueError:
            raise ModelError(f"the weights' metadata says {name} is {stated!r}, which is no number of pixels") from None


def load_checkpoint(weights: str, model: str) -> Checkpoint:
    """Load weights by name or path.

    Args:
        weights: ``starter`` for the bundled detector of synthetic scenes; ``coco`` for torchvision's
            COCO_V1 (downloaded once, with progress, checksum verified, into torch.hub's cache); or the
            path of a ``.pth`` or ``.safetensors`` file.
        model: one of :data:`featlink.shared.models.config.MODELS` or ``DETECTORS``.

    Raises:
        ModelError: unknown model, no such file, download failed, not the official file, or not a state dict.
    """
    path = weights_file(weights, model)
    if path is None:
        return _bundled()
    return read_checkpoint(path, path_hash(get_model_weights(model)["COCO_V1"]), must_be_official=weights == "coco")


def read_checkpoint(path: Path, official: str | None = None, must_be_official: bool = False) -> Checkpoint:
    """Read a file of weights, with what lies beside it.

    Args:
        path: ``.safetensors``; ``.pkl``, arrays as detectron2's model zoo has them; anything else is torch's.
        official: how the SHA-256 of the model's official file begins, if it has one.
        must_be_official: refuse any other, and take nothing that lies beside it.

    Raises:
        ModelError: it cannot be read, or is not the official file, or does not hold a state dict.
    """
    digest, state, metadata = _read(path)
    is_official = official is not None and digest.startswith(official)
    if must_be_official and not is_official:
        raise ModelError(f"{path} is damaged, or not the official file: its SHA-256 is {digest[:16]}…; delete it")
    beside = sidecar_file(path)
    if must_be_official or not beside.exists():
        return Checkpoint(state, identity(digest), is_official, metadata)
    try:
        content = beside.read_bytes()
        sidecar = msgspec.json.decode(content, type=Sidecar)
    except OSError as error:
        raise ModelError(f"cannot read {beside}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{beside}: {error}") from None
    return Checkpoint(state, identity(digest, content), is_official, metadata, sidecar)


def sidecar_file(path: Path) -> Path:
    """Where the :class:`Sidecar` of a file of weights lies, if it has one."""
    return path.with_name(f"{path.name}.json")


def identity(sha256: str, sidecar: bytes | None = None) -> str:
    """What frames call weights, 16 hex digits.

    Args:
        sha256: of their file, hexadecimal.
        sidecar: what lies beside it, if anything: the same weights used otherwise are another network.
    """
    return (sha256 if sidecar is None else hashlib.sha256(sha256.encode() + sidecar).hexdigest())[:16]


def weights_file(weights: str, model: str) -> Path | None:
    """Where weights lie; the official ones are downloaded if they are not there yet.

    Args:
        weights: as for :func:`load_checkpoint`.
        model: as for :func:`load_checkpoint`.

    Returns:
        Their file; None for the bundled ones.

    Raises:
        ModelError: unknown model, no such file, or download failed.
    """
    if model not in (*MODELS, *DETECTORS):
        raise ModelError(f"unknown model {model!r}; known are {', '.join((*MODELS, *DETECTORS))}")
    if weights == "starter":
        if model in DETECTORS:
            raise ModelError(f"no weights of {model} are bundled; take 'coco' or a file")
        return None
    official: WeightsEnum = get_model_weights(model)["COCO_V1"]
    path = _official_path(official) if weights == "coco" else Path(os.path.expanduser(weights))
    if weights == "coco" and not path.exists():
        _download(official, path)
    if not path.is_file():
        raise ModelError(f"no weights at {path}")
    return path


def _bundled() -> Checkpoint:
    from featlink.starter.bundle import load_weights

    try:
        weights = load_weights()
    except ValueError as error:
        raise ModelError(str(error)) from None
    state = {name: torch.from_numpy(values) for name, values in weights.state.items()}
    return Checkpoint(state, weights.sha256[:16], False, weights.metadata)


def path_hash(official: WeightsEnum) -> str:
    """The SHA-256 prefix that torchvision puts into a weight file's name."""
    return Path(urlparse(official.url).path).stem.rpartition("-")[2]


def _official_path(official: WeightsEnum) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(official.url).path).name


def _download(official: WeightsEnum, path: Path) -> None:
    try:
        # weights_only: torch.hub would otherwise unpickle what it has just fetched.
        official.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, ValueError, HTTPException) as error:  # the last two: odd proxies
        reason = getattr(error, "reason", None) or error
        raise ModelError(
            f"cannot download {official.url} ({reason}); fetch it elsewhere and put it at {path}"
        ) from None


def _read(path: Path) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    metadata: dict[str, str] = {}
    state: Any
    try:
        digest = _sha256(path)
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        elif path.suffix == ".pkl":
            state = _tensors(read_arrays(path), path)
        else:
            with torch.serialization.safe_globals(list(HARMLESS)):
                state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read weights {path}: {error.strerror or error}") from None
    except ModelError:
        raise
    except Exception:  # a damaged pickle makes torch.load raise anything; some of its texts advise to run the code
        raise ModelError(f"cannot read weights {path}: {unreadable(path)}") from None
    state = state_dict(state)
    if state is None:
        raise ModelError(f"{path} does not hold a state dict of tensors")
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    return digest, tensors, metadata


def _tensors(content: object, path: Path) -> object:
    """What a pickle of arrays holds, with tensors in the place of a model's arrays.

    Raises:
        ModelError: it is of Detectron 1, or holds more numbers than the file.
    """
    if not isinstance(content, dict):
        return content
    if "blobs" in content:
        raise ModelError(f"{path} is a checkpoint of Detectron 1 (Caffe2 blobs), whose layers have other names")
    state = content.get("model", content)
    if not isinstance(state, dict) or not all(isinstance(value, np.ndarray) for value in state.values()):
        return content
    if sum(value.size for value in state.values()) > path.stat().st_size:
        raise ModelError(f"cannot read weights {path}: the same array is there under many names")
    native = {name: value.astype(value.dtype.newbyteorder("="), order="C") for name, value in state.items()}
    return {"model": {name: torch.from_numpy(value) for name, value in native.items()}}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
