"""Compile functions with Numba, and cache the compiled code.

Numba looks at a kernel's own file to see whether it changed, not at the kernels of other files that it calls. So the
cache's folder is named by a digest of the sources of all kernels: a changed one finds an empty folder, and folders that
no process has used for a month are removed. Where neither the installation nor the home folder can be written, Numba
would refuse to compile: then the folder is a temporary one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as _numba

__all__ = ["numba"]

_SOURCES = Path(__file__).resolve().parents[1]
_FOLDERS = ("channel", "shared")
"""Where kernels are."""
_NAME = "kernels-"
_MONTH_S = 30 * 24 * 3600

_setting = threading.Lock()


def digest(sources: Path = _SOURCES) -> str:
    """Digest of all modules with kernels, 16 hex digits.

    Args:
        sources: the folder that has ``channel`` and ``shared``.
    """
    found = hashlib.sha256()
    for path in sorted(path for folder in _FOLDERS for path in (sources / folder).rglob("*.py")):
        content = path.read_bytes()
        if b"numba" in content:
            found.update(f"{path.relative_to(sources)} {len(content)} ".encode() + content)
    return found.hexdigest()[:16]


@functools.cache
def cache_folder() -> Path:
    """The folder that kernels are kept in: in ``NUMBA_CACHE_DIR``, the installation, the user's cache or a new one."""
    bases = [Path(_numba.config.CACHE_DIR)] if _numba.config.CACHE_DIR else [Path(__file__).parent / "__pycache__"]  # type: ignore[attr-defined]
    if named := os.environ.get("XDG_CACHE_HOME"):
        bases.append(Path(named) / "featlink")
    with contextlib.suppress(RuntimeError):  # a user without a home
        bases.append(Path.home() / ".cache" / "featlink")
    name = f"{_NAME}{digest()}"
    for base in bases:
        folder = base / name
        try:
            is_new = not folder.is_dir()
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        if is_new:
            _remove_unused(base)
        return folder
    folder = Path(tempfile.mkdtemp(prefix="featlink-numba-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_unused(base: Path) -> None:
    """Remove the kernels of other versions that no process has used for a month."""
    for folder in base.glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):  # another process may be removing it
            if time.time() - folder.stat().st_mtime > _MONTH_S:
                shutil.rmtree(folder, ignore_errors=True)


class _Numba:
    """What of Numba kernels use."""

    def njit(self, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """``numba.njit``, whose cache is :func:`cache_folder`; functions of others keep theirs."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            with _setting:
                before = _numba.config.CACHE_DIR  # type: ignore[attr-defined]
                folder = str(cache_folder())
                _numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
                try:
                    return _numba.njit(**options)(function)  # type: ignore[no-any-return]
                finally:
                    _numba.config.CACHE_DIR = before  # type: ignore[attr-defined]

        return decorate


numba = _Numba()
