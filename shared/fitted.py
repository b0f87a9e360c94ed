"""Find files that were fitted to a network, by their kind and the identity of the weights, never by a path."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from featlink.shared.errors import ConditionError, ModelError
from featlink.shared.features import FeatureSpec
from featlink.shared.fpn import FPN

T = TypeVar("T")

HOME = "FEATLINK_FITTED"
"""Environment variable that names the folder."""


def home() -> Path:
    """The folder of fitted files: ``FEATLINK_FITTED``, else one in the user's data."""
    if named := os.environ.get(HOME):
        return Path(named)
    if named := os.environ.get("XDG_DATA_HOME"):
        return Path(named) / "featlink"
    try:
        return Path.home() / ".local" / "share" / "featlink"
    except RuntimeError:  # a user without a home
        return Path(os.devnull) / "featlink"  # there is nothing, and nothing can be written


def key(weights: str, spec: FeatureSpec) -> str:
    """What files fitted to a split of a network are known by: the weights' identity, and what crosses the link.

    Example:
        >>> from featlink.shared.fpn import SPLITS
        >>> key("0123456789abcdef", SPLITS["c2-c5"]), key("0123456789abcdef", FPN)
        ('0123456789abcdef-c2-c5', '0123456789abcdef')
    """
    names = spec.required
    return weights if spec == FPN else "-".join((weights, *dict.fromkeys((names[0], names[-1]))))


def find(kind: str, weights: str) -> Path:
    """The file of one kind that was fitted to some weights; where the folder has none, the bundled one if it is theirs.

    Args:
        kind: e.g. ``pca``.
        weights: :func:`key` of the network.

    Raises:
        ConditionError: there is none.
    """
    from featlink.starter.bundle import DATA, fitted_to

    if not re.fullmatch(r"[0-9a-f]{16}(-[a-z0-9_]+){0,2}", weights):
        raise ConditionError(
            f"{kind} needs to know which weights made the features, as 16 lower-case hex digits, "
            f"and was told {weights[:50]!r}"
        )
    own = home() / f"{kind}-{weights}.safetensors"
    bundled = DATA / f"{kind}.safetensors"
    path = bundled if not own.is_file() and fitted_to() == weights and bundled.is_file() else own
    if not path.is_file():
        raise ConditionError(
            f"{kind} is not fitted to weights {weights}: run `featlink fit {kind}`, which writes {own}"
        )
    return path


def load(kind: str, weights: str, reader: Callable[[Path], T]) -> T:
    """What a step needs, read once until its file is another.

    Args:
        kind: as for :func:`find`.
        weights: as for :func:`find`.
        reader: of the file.

    Raises:
        ConditionError: there is no such file.
        ModelError: as the reader does.
    """
    path = find(kind, weights)
    facts = path.stat()
    found: T = _load(reader, path, facts.st_mtime_ns, facts.st_size)
    return found


def identity(kind: str, weights: str) -> str:
    """The first 16 hex digits of the digest that a fitted file states.

    Args:
        kind: as for :func:`find`.
        weights: as for :func:`find`.

    Raises:
        ConditionError: there is no such file.
        ModelError: it cannot be read.
    """
    return load(kind, weights, _stated)


def _stated(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return str((file.metadata() or {}).get("sha256", ""))[:16]
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None


@functools.lru_cache(maxsize=8)
def _load(reader: Callable[[Path], Any], path: Path, changed: int, size: int) -> Any:
    del changed, size
    return reader(path)


def encode(
    form: str,
    arrays: Mapping[str, np.ndarray],
    weights: str,
    architecture: str,
    facts: Mapping[str, str] | None = None,
) -> bytes:
    """A safetensors file that says what it is, which network it is fitted to, and its own digest.

    Args:
        form: name and version of the format.
        arrays: by name.
        weights: identity of the network's weights.
        architecture: of the network.
        facts: that it says besides.
    """
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    stated = {**(facts or {}), "weights": weights, "architecture": architecture, "format": form}
    return save(whole, metadata=stated | {"sha256": _digest(whole)})


def read(path: Path, form: str, command: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and facts of a file that :func:`encode` made.

    Args:
        path: of the file.
        form: as given to it.
        command: that writes such files.

    Raises:
        ModelError: it cannot be read, is damaged, or not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            facts = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}") from None
    if facts.get("format") != form:
        raise ModelError(f"{path} is not a file that `{command}` of this version writes")
    if facts.get("sha256") != _digest(arrays):
        raise ModelError(f"{path} is damaged: its arrays do not have the digest that it states")
    return arrays, facts


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
