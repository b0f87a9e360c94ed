"""Numba comes from one module, which gives it a place for what it compiles."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("edge", "channel", "cloud", "shared", "featlink", "training", "starter")
NUMBA = re.compile(r"^\s*(import numba|from numba\b)", re.MULTILINE)


def test_nobody_imports_numba_but_from_there() -> None:
    sources = {path.resolve() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert len(sources) > 100
    own = {path for path in sources if NUMBA.search(path.read_text())} - {ROOT / "shared" / "compiled.py"}
    assert not [path for path in own if "from featlink.shared.compiled import" not in path.read_text()]
