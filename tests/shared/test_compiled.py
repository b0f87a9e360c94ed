"""Numba comes from one module, which gives it a place for what it compiles."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("edge", "channel", "cloud", "shared", "featlink", "training", "starter")
NUMBA = re.compile(r"^\s*(import numba|from numba\b)", re.MULTILINE)


def test_nobody_imports_numba_but_from_there() -> None:
    sources = {path.resolve() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert len(sources) > 100
    own = {path for path in sources if NUMBA.search(path.read_text())} - {ROOT / "shared" / "compiled.py"}
    assert not [path for path in own if "from featlink.shared.compiled import" not in path.read_text()]


def test_without_a_home_no_folder_is_called_tilde(tmp_path: Path) -> None:
    code = """
import os
os.path.expanduser = lambda path: path  # as for a user without a home
import featlink.shared.metrics.ssim
from featlink.shared.compiled import numba
assert os.listdir(numba.config.CACHE_DIR)
print(os.listdir())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name not in ("HOME", "NUMBA_CACHE_DIR")}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
