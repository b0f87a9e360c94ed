"""Featlink beside other packages: nothing of theirs is taken for ours, and nothing of ours lies in their way."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMON = ("shared", "cloud", "edge", "channel", "starter")
"""Names of our folders that a project of anyone's may have."""
SCRIPT = """
import sys
import featlink as fl
import {mine}
model = fl.load("starter")
image = fl.read_image(fl.open_dataset("starter").images[1])[:240, :320]
sent = fl.transmit(model.pyramid(image), "quantize(bits=4)")
print(len(model.detect(sent.pyramid).scores) > 0, *[sys.modules[name].MINE for name in {names}])
"""


def run(*arguments: str, folder: Path, path: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_common(folder: Path, package: bool) -> None:
    for name in COMMON:
        path = folder / name / "__init__.py" if package else folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("MINE = True\n")


@pytest.mark.parametrize("package", [True, False], ids=["packages", "modules"])
@pytest.mark.extended
def test_a_project_with_our_folders_names_beside_its_script(package: bool, tmp_path: Path) -> None:
    make_common(tmp_path, package)
    (tmp_path / "mine.py").write_text(SCRIPT.format(mine=", ".join(COMMON), names=COMMON))
    assert run("mine.py", folder=tmp_path, path=ROOT).split() == ["True"] * (1 + len(COMMON))
    assert "quantize" in run("-m", "featlink", "steps", folder=tmp_path, path=ROOT)


@pytest.mark.slow
def test_a_wheel_holds_one_name_and_works_beside_a_package_that_has_its_own(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "dist")],
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        check=True,
    )
    [wheel] = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition("/")[0] for name in archive.namelist()}
        archive.extractall(site)
    assert [name for name in names if not name.endswith(".dist-info")] == ["featlink"]
    make_common(site, package=True)
    (tmp_path / "mine.py").write_text(SCRIPT.format(mine=", ".join(COMMON), names=COMMON))
    assert run("mine.py", folder=tmp_path, path=site).split() == ["True"] * (1 + len(COMMON))
    where = run("-c", "import featlink; print(featlink.__file__)", folder=tmp_path, path=site)
    assert Path(where.strip()).is_relative_to(site)
