"""Numba comes from one module, which gives it a place for what it compiles."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from featlink.shared.compiled import cache_folder, digest
from featlink.shared.compiled import numba as compiled

ROOT = Path(__file__).parents[2]
FOLDERS = ("edge", "channel", "cloud", "shared", "featlink", "training", "starter")
NUMBA = re.compile(r"^\s*(import numba|from numba\b)", re.MULTILINE)


def test_nobody_imports_numba_but_from_there() -> None:
    sources = {path.resolve() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert len(sources) > 100
    own = {path for path in sources if NUMBA.search(path.read_text())} - {ROOT / "shared" / "compiled.py"}
    assert not [path for path in own if "from featlink.shared.compiled import" not in path.read_text()]


def test_a_changed_kernel_finds_another_cache(tmp_path: Path) -> None:
    """Numba itself looks at a kernel's own file alone, not at those of the kernels that it calls."""
    for folder in ("channel", "shared"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    assert digest(tmp_path) == digest()
    kernel = tmp_path / "shared" / "models" / "interpolation.py"
    kernel.write_text(kernel.read_text().replace("np.float32(0.5)", "np.float32(0.25)"))
    assert digest(tmp_path) != digest()


def test_kernels_lie_in_it() -> None:
    from featlink.shared.models.interpolation import taps

    assert Path(taps.stats.cache_path).parent == cache_folder()
    assert cache_folder().name == f"kernels-{digest()}"


def test_other_packages_keep_their_cache() -> None:
    import numba

    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    compiled.njit(cache=True)(_same)
    assert before == numba.config.CACHE_DIR  # type: ignore[attr-defined]


def _same(x: float) -> float:
    return x


def test_without_a_home_no_folder_is_called_tilde(tmp_path: Path) -> None:
    code = """
import os
os.path.expanduser = lambda path: path  # as for a user without a home
import featlink.shared.metrics.ssim
from featlink.shared.compiled import cache_folder
assert os.listdir(cache_folder())
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


def test_kernels_of_versions_that_nobody_uses_any_more_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    old, recent, others = (tmp_path / name for name in ("kernels-0123", "kernels-4567", "something"))
    for folder in (old, recent, others):
        (folder / "deeper").mkdir(parents=True)
    for folder in (old, others):
        os.utime(folder, (0, 0))
    made = cache_folder.__wrapped__()
    assert sorted(tmp_path.iterdir()) == sorted([made, recent, others])
    os.utime(made, (0, 0))
    assert cache_folder.__wrapped__() == made
    assert made.stat().st_mtime > recent.stat().st_mtime - 60, "a start uses it"
