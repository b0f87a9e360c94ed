"""Where files that were fitted to a network are: by what they are and the weights' identity, never by a path."""

from __future__ import annotations

import os
import re
from pathlib import Path

from shared.errors import ConditionError

HOME = "FEATLINK_FITTED"
"""Environment variable that names the folder."""


def home() -> Path:
    """The folder of fitted files: ``FEATLINK_FITTED``, else one in the user's data."""
    if named := os.environ.get(HOME):
        return Path(named)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "featlink"


def find(kind: str, weights: str) -> Path:
    """The file of one kind that was fitted to some weights; the bundled one if it is theirs.

    Args:
        kind: e.g. ``pca``.
        weights: identity of the network's weights, as a frame states it.

    Raises:
        ConditionError: there is none.
    """
    from starter.bundle import DATA, fitted_to

    if not re.fullmatch(r"[0-9a-f]{16}", weights):
        raise ConditionError(f"{kind} needs to know which weights made the features, and was told {weights[:32]!r}")
    own = home() / f"{kind}-{weights}.safetensors"
    bundled = DATA / f"{kind}.safetensors"
    path = bundled if fitted_to() == weights and bundled.is_file() else own
    if not path.is_file():
        raise ConditionError(
            f"{kind} is not fitted to weights {weights}: run `featlink fit {kind}`, which writes {own}"
        )
    return path
