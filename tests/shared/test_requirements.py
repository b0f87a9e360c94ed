"""Each part of a deployment runs on the packages of its own dependency group, as in its container."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OURS = "featlink"

PRELUDE = """
import sys

refused = set({refused!r})

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in refused else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""

CHANNEL = """
import numpy as np
from featlink.channel.app import create_app
from featlink.channel.transmit import transmit
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import parse
from featlink.shared.features import Sizes
from featlink.shared.result import Telemetry
from featlink.shared.frames.wire import Frame, Meta, Tensor

create_app().openapi()
assert {"quantize", "gaussian_noise", "rank_shuffle", "jpeg", "hevc"} <= set(registry.steps()), registry.failures()
sizes = Sizes((40, 64), (40, 64), (64, 64))
picture = np.random.default_rng(1).integers(0, 256, (3, 40, 64), dtype=np.uint8)
level = np.random.default_rng(2).random((256, 16, 16), dtype=np.float32)
frames = {
    "image": Frame(Meta("image", "m", "w", sizes), (Tensor("image", picture),)),
    "feature": Frame(Meta("feature", "m", "w", sizes), (Tensor("p2", level),)),
}
for domain, text in (("image", "jpeg:quality=50"), ("image", "hevc:qp=30"), ("feature", "rank_shuffle:span=2"),
                     ("feature", "quantize:bits=4|gaussian_noise:sigma=0.1")):
    sent = transmit(frames[domain], parse(text, domain), Telemetry())
    print(text, sent.telemetry.bits, sent.fidelity.ssim)
"""

DETECTOR = """
import io
import numpy as np
from PIL import Image
import featlink.cloud.app, featlink.edge.app
from featlink.cloud.finish import finish
from featlink.cloud.settings import CloudSettings
from featlink.edge.prepare import Request, prepare
from featlink.edge.settings import EdgeSettings
from featlink.shared.models.overlay import draw
from featlink.shared.models.torchvision_rcnn import build
from featlink.shared.lru import PyramidCache

settings = CloudSettings(database_url="sqlite://", min_size=160, max_size=256, threads=1)
featlink.edge.app.create_app(EdgeSettings()).openapi()
featlink.cloud.app.create_app(settings).openapi()
model = build(settings.but())
picture = io.BytesIO()
Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 120, 3), dtype=np.uint8)).save(picture, "PNG")
sent = prepare(model, Request(picture.getvalue(), image_id=1), max_pixels=1 << 20)
found, report = finish(model, sent.frame, sent.telemetry)
draw(sent.image, found, {str(label): name for label, name in enumerate(model.categories)}, 0)
"""

PAGE = """
from pathlib import Path
from featlink.page.app import create_app
from featlink.page.explorer import EXAMPLE, sweep_names
from featlink.page.pictures import decoded, scenes, thumbnail
from featlink.shared.result import InferenceResult
from featlink.views import compared

paths = [getattr(route, "path", "") for route in create_app().routes]
assert "/pictures/{key}" in paths, paths
picture = decoded(thumbnail(scenes()[0]))
nothing = InferenceResult(image_id=None, detections=[], categories={}, bits=0, bpp=0, fidelity={}, timings={})
assert compared(picture, nothing, nothing).startswith(b"\\x89PNG")
assert sweep_names(Path("gone")) == [EXAMPLE]
"""

BENCH = """
import runpy, sys
sys.argv = ["featlink", "infer", "starter/data/starter/val/000000000002.jpg", "--edge", "http://127.0.0.1:9"]
try:
    runpy.run_module("featlink", run_name="__main__")
except SystemExit as ended:
    assert ended.code == 1
"""

EVERY = """
import importlib, pkgutil
for part in {parts!r}:
    for module in pkgutil.walk_packages(importlib.import_module(part).__path__, part + "."):
        if not module.name.endswith("__main__") and not module.name.startswith({others!r}):
            importlib.import_module(module.name)
"""
"""Import all that a group is for."""

LOADED = "\nimport sys; print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "program", "parts", "never"),
    [
        (
            "channel",
            CHANNEL,
            ["featlink.channel"],
            {"torch", "torchvision", "openvino", "plotly", "sqlalchemy", "pycocotools", "PIL"},
        ),
        (
            "detector",
            DETECTOR,
            ["featlink.edge", "featlink.cloud"],
            {"plotly", "typer", "jinja2", "bjontegaard", "ray"},
        ),
        ("page", PAGE, ["featlink.page"], {"torch", "torchvision", "openvino", "bjontegaard", "ray"}),
        ("bench", BENCH, ["featlink"], {"ray", "nicegui"}),
    ],
)
def test_a_part_runs_on_its_group_alone(group: str, program: str, parts: list[str], never: set[str]) -> None:
    others = ("featlink.page", "featlink.commands.page", "featlink.sweeps.cluster")
    every = EVERY.format(parts=parts, others=() if group == "page" else others)
    done = run(PRELUDE.format(refused=sorted(refused_by(group))) + program + every + LOADED)
    assert done.returncode == 0, done.stderr
    assert not never & loaded(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "heavy"),
    [
        ("import featlink", {"torch", "numba", "openvino", "cv2", "plotly", "sqlalchemy", "pycocotools", "fastapi"}),
        (
            "import runpy, sys; sys.argv = ['featlink', '--help']\n"
            "try: runpy.run_module('featlink', run_name='__main__')\nexcept SystemExit as ended: assert not ended.code",
            {"torch", "torchvision", "numba", "openvino", "plotly", "sqlalchemy", "pycocotools", "ray"},
        ),
        (
            "import featlink.edge.app; featlink.edge.app.create_app()",
            {"torch", "openvino", "plotly", "sqlalchemy", "pycocotools"},
        ),
        (
            "import featlink.cloud.app",
            {"torch", "openvino", "plotly"},
        ),  # torch takes seconds: it comes after /livez answers
    ],
)
def test_an_import_is_cheap(program: str, heavy: set[str]) -> None:
    done = run(program + LOADED)
    assert done.returncode == 0, done.stderr
    assert not heavy & loaded(done)


@pytest.mark.slow
@pytest.mark.parametrize(("part", "missing"), [("edge", "PIL"), ("cloud", "sqlalchemy"), ("featlink", "typer")])
def test_what_is_not_installed_is_said_in_one_line(part: str, missing: str) -> None:
    module = "featlink" if part == "featlink" else f"featlink.{part}"
    run_part = f"import runpy; runpy.run_module({module!r}, run_name='__main__')"
    done = run(PRELUDE.format(refused=[missing]) + run_part)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{part}: the module '{missing}' is not installed; 'pip install featlink'")
    assert done.stderr.count("\n") == 1


def test_groups_hold_dependencies_only() -> None:
    """So that ``pip install featlink`` brings what every part needs, in a version it is tested with."""
    project = pyproject()["project"]["dependencies"]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in pins if not line.startswith("#")}
    for group in ("channel", "detector", "page", "bench"):
        assert names(members(group)) <= names(map(Requirement, project))
    assert names(map(Requirement, project)) <= pinned


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)


def loaded(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(done.stdout.rpartition("LOADED")[2].split())


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def members(group: str) -> Iterator[Requirement]:
    for item in pyproject()["dependency-groups"][group]:
        if isinstance(item, str):
            yield Requirement(item)
        else:
            yield from members(item["include-group"])


def names(requirements: Iterable[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements}


def refused_by(group: str) -> set[str]:
    """Top-level modules of installed packages that a container of the group's would not have."""
    has = closure(members(group)) | {OURS}
    found = {
        module: {canonicalize_name(name) for name in distributions}
        for module, distributions in packages_distributions().items()
    }
    return {module for module, owners in found.items() if not owners & has and module not in sys.stdlib_module_names}


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """Names of the requirements and all that they require, in the versions installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = [(r.name, extra) for r in requirements for extra in ("", *r.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (canonicalize_name(name), extra) in seen:
            continue
        seen.add((canonicalize_name(name), extra))
        try:
            wanted = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:  # such as torch's CUDA packages beside a build without them
            continue
        for requirement in wanted:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(requirement.name, further) for further in ("", *requirement.extras)]
    return {name for name, _ in seen}
