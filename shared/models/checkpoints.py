"""State dicts as training scripts save them: beside other things, nested, under prefixes. Nothing is unpickled."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PosixPath
from typing import Any

import torch
from torch import Tensor

HARMLESS: tuple[Callable[..., Any], ...] = (argparse.Namespace, PosixPath)
"""What torchvision's training script saves beside tensors: its command line. Making these runs nothing."""

_NESTS = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Of DataParallel, of torch.compile, and of a module that holds the detector as its ``model``."""
_UNCLEAR = "damaged, or more than tensors in it"
_SHOWN = 3


def state_dict(content: object) -> dict[str, Tensor] | None:
    """A checkpoint's state dict, out of what it is nested in and without the prefixes of wrappers.

    Returns:
        None if the checkpoint holds none.

    Example:
        >>> list(state_dict({"epoch": 3, "state_dict": {"module.rpn.weight": torch.zeros(1)}}))
        ['rpn.weight']
    """
    while isinstance(content, Mapping) and (name := next((n for n in _NESTS if _is_nest(content.get(n))), None)):
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
