"""Numba, with a place for what it compiles even where neither the installation nor the home folder can be written."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import numba

__all__ = ["numba"]


def _ensure_cache() -> None:
    """Give Numba a private temporary folder if it finds no other; it would refuse to compile at all."""
    try:
        # Without a home, Numba would take a folder called ~ in the working folder for it.
        if os.path.expanduser("~") == "~" and not numba.config.CACHE_DIR:  # type: ignore[attr-defined]
            raise RuntimeError
        numba.njit(cache=True)(_probe)
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="featlink-numba-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]


def _probe() -> int:
    return 0


_ensure_cache()
