"""Where a model's weights come from: the bundle, torchvision's official files or a path; never unpickled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import safe_open
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights

from featlink.shared.errors import ModelError
from featlink.shared.models.checkpoints import HARMLESS, state_dict, unreadable
from featlink.shared.models.config import MODELS


@dataclass(frozen=True)
class Checkpoint:
    """Weights as loaded.

    Attributes:
        state: state dict in torchvision's layout, float32.
        identity: first 16 hex digits of the file's SHA-256: edge and cloud must agree on it.
        official: the file is torchvision's own COCO_V1 for the model.
        metadata: what the bundle or a ``.safetensors`` file says of itself, e.g. ``min_size``.
    """

    state: dict[str, Tensor]
    identity: str
    official: bool
    metadata: Mapping[str, str] = field(default_factory=dict)


def load_checkpoint(weights: str, model: str) -> Checkpoint:
    """Load weights by name or path.

    Args:
        weights: ``starter`` for the bundled detector of synthetic scenes; ``coco`` for torchvision's
            COCO_V1 (downloaded once, with progress, checksum verified, into torch.hub's cache); or the
            path of a ``.pth`` or ``.safetensors`` file.
        model: one of :data:`featlink.shared.models.config.MODELS`.

    Raises:
        ModelError: unknown model, no such file, download failed, not the official file, or not a state dict.
    """
    path = weights_file(weights, model)
    if path is None:
        return _bundled()
    digest, state, metadata = _read(path)
    is_official = digest.startswith(path_hash(get_model_weights(model)["COCO_V1"]))
    if weights == "coco" and not is_official:
        raise ModelError(f"{path} is damaged, or not the official file: its SHA-256 is {digest[:16]}…; delete it")
    return Checkpoint(state, digest[:16], is_official, metadata)


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
    if model not in MODELS:
        raise ModelError(f"unknown model {model!r}; known are {', '.join(MODELS)}")
    if weights == "starter":
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
        else:
            with torch.serialization.safe_globals(list(HARMLESS)):
                state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"cannot read weights {path}: {error.strerror or error}") from None
    except Exception:  # a damaged pickle makes torch.load raise anything; some of its texts advise to run the code
        raise ModelError(f"cannot read weights {path}: {unreadable(path)}") from None
    state = state_dict(state)
    if state is None:
        raise ModelError(f"{path} does not hold a state dict of tensors")
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    return digest, tensors, metadata


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
