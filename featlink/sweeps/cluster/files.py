"""What a worker must have as the sender has it: weights, and what was fitted to them; known by their digests.

Ray carries a file to each node once, and a node keeps it: ``featlink`` in the user's cache (``XDG_CACHE_HOME``).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featlink.errors import CommandError
from featlink.shared.errors import ModelError
from featlink.shared.files import replace
from featlink.shared.fitted import HOME, home
from featlink.starter.bundle import fitted_to

Fetch = Callable[[Any], Any]
"""A reference to a file's content to the content, uint8 (bytes,)."""


@dataclass(frozen=True)
class Sent:
    """A file of the sender's.

    Attributes:
        path: where the sender has it.
        sha256: of its content.
        content: a reference to it, for :data:`Fetch`.
    """

    path: Path
    sha256: str
    content: Any


@dataclass(frozen=True)
class Parcel:
    """All the files.

    Attributes:
        weights: None for the bundled ones, which every worker has.
        fitted: whatever was fitted to these weights.
    """

    weights: Sent | None
    fitted: tuple[Sent, ...]


def pack(weights: Path | None, put: Callable[[Any], Any]) -> Parcel:
    """The sender's half.

    Args:
        weights: their file; None for the bundled ones.
        put: content, uint8 (bytes,), to a reference that any worker can fetch.

    Raises:
        ModelError: a file cannot be read.
    """
    sent = None if weights is None else _sent(weights, put)
    identity = fitted_to() if sent is None else sent.sha256[:16]
    return Parcel(sent, tuple(_sent(path, put) for path in sorted(home().glob(f"*-{identity}.safetensors"))))


def unpack(parcel: Parcel, fetch: Fetch) -> str | None:
    """The worker's half; from now on this process finds the fitted files that the sender has, and no others.

    A file that lies where the sender has it, with the same digest, is used there; so is one that an earlier sweep
    brought.

    Returns:
        The weights' path; None for the bundled ones.

    Raises:
        ModelError: what arrived does not have its digest.
        CommandError: it cannot be written.
    """
    kept = _cache()
    together = hashlib.sha256("".join(f"{one.path.name} {one.sha256}\n" for one in parcel.fitted).encode()).hexdigest()
    fitted = kept / "fitted" / together
    for one in parcel.fitted:
        _keep(one, fitted / one.path.name, fetch)
    os.environ[HOME] = str(fitted)
    if parcel.weights is None:
        return None
    if _has(parcel.weights.path, parcel.weights.sha256):
        return str(parcel.weights.path)
    path = kept / "weights" / f"{parcel.weights.sha256}{parcel.weights.path.suffix}"
    _keep(parcel.weights, path, fetch)
    return str(path)


def _sent(path: Path, put: Callable[[Any], Any]) -> Sent:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    return Sent(path.resolve(), hashlib.sha256(content.data).hexdigest(), put(content))


def _keep(one: Sent, path: Path, fetch: Fetch) -> None:
    with _alone(path.parent):  # the other workers of this node wait for it, and find it
        if _has(path, one.sha256):
            return
        content = fetch(one.content)
        if hashlib.sha256(content.data).hexdigest() != one.sha256:
            raise ModelError(f"{path.name} arrived damaged")
        replace(path, content.data)


def _has(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror}") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "featlink"
    try:
        return Path.home() / ".cache" / "featlink"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"featlink-{os.getuid()}"
