"""Checkpoints of trainings: written whole or not at all, and read without running what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from featlink.shared.errors import ModelError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in the place of the one before.

    Args:
        path: of the file.
        state: tensors, numbers, and lists and dicts of them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


@contextmanager
def loaded(path: Path, device: str) -> Iterator[Any]:
    """Read a checkpoint; what goes wrong with it in the ``with`` block, too, is an error of the file.

    Args:
        path: of the file.
        device: where its tensors go.

    Raises:
        ModelError: it cannot be read, or does not fit.
    """
    try:
        yield torch.load(path, weights_only=True, map_location=device)
    except Exception as error:  # torch says so in many ways
        why = str(error).splitlines()[0]
        raise ModelError(f"{path} is not a checkpoint of this training: {why}") from None
