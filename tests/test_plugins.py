"""Steps of other packages: found through their entry points alone, and harmless where they are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).parent / "plugins"
ROOT = Path(__file__).parents[1]


def run(installed: Path, *arguments: str) -> str:
    """What Python prints when ``installed`` is on its path before all else."""
    path = os.pathsep.join([str(installed), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(installed: Path, code: str) -> Any:
    """The JSON that a few lines print, which begin with the registry."""
    return json.loads(run(installed, "-c", f"import json\nfrom featlink.shared.conditions import registry\n{code}"))


def install(folder: Path, name: str, module: str) -> None:
    """A package of one module, as pip leaves it."""
    (folder / f"{name}.py").write_text(module)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[featlink.steps]\n{name} = {name}\n")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Featlink has of the steps of ``more_steps``, installed by pip and used in a process of their own."""
    target, out = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("sweep")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(PLUGINS / "more_steps")], check=True, timeout=600)
    run(target, str(PLUGINS / "show_steps.py"), str(out))
    found: dict[str, Any] = json.loads((out / "found.json").read_text())
    return found


@pytest.mark.slow
def test_a_packages_steps_are_registered(found: dict[str, Any]) -> None:
    assert {"salt_and_pepper", "pillow_webp", "jpeg", "gaussian_noise"} <= set(found["steps"])
    assert found["failures"] == {}


@pytest.mark.slow
def test_the_channels_catalogue_has_them(found: dict[str, Any]) -> None:
    mapping = found["schema"]["Step"]["discriminator"]["mapping"]
    noise, codec = (found["schema"][mapping[name].rpartition("/")[2]] for name in ("salt_and_pepper", "pillow_webp"))
    assert (noise["properties"]["share"]["minimum"], noise["properties"]["share"]["maximum"]) == (0, 1)
    assert (noise["x-featlink"]["kind"], noise["x-featlink"]["strength"]) == ("distortion", "share")
    assert codec["properties"]["quality"]["default"] == 75
    assert (codec["x-featlink"]["kind"], codec["x-featlink"]["changes_bits"]) == ("codec", True)


@pytest.mark.slow
def test_a_sweep_runs_them_in_both_domains(found: dict[str, Any]) -> None:
    for domain in ("feature", "image"):
        for step, values in (("salt_and_pepper(share", (0.01, 0.1, 0.4)), ("pillow_webp(quality", (80, 20, 0))):
            rows = [found["rows"][f"{domain}: {step}={value})"] for value in values]
            psnr = [quality for _, quality in rows]
            assert psnr == sorted(psnr, reverse=True)
            assert len(set(psnr)) == 3
            bits = [size for size, _ in rows]
            assert (bits[0] > bits[1] > bits[2]) if "webp" in step else len(set(bits)) == 1


@pytest.mark.slow
def test_an_images_pixels_are_hit_whole(found: dict[str, Any]) -> None:
    assert found["colours"] == [[0, 0, 0], [10, 20, 30], [255, 255, 255]]


@pytest.mark.slow
def test_the_report_shows_them(found: dict[str, Any]) -> None:
    assert found["curves"]["ap-bits"] == ["pillow_webp"]
    assert found["curves"]["ap-psnr-f"] == found["curves"]["ap-psnr-sent"] == ["pillow_webp", "salt_and_pepper"]
    assert found["pairs"] == ["salt_and_pepper", "pillow_webp"]
    assert {row[0] for row in found["rates"]} == {"pillow_webp"}


@pytest.mark.slow
def test_a_broken_package_is_named_where_its_step_is_missed_and_breaks_nothing_else(tmp_path: Path) -> None:
    install(tmp_path, "broken", "import no_such_module\n")
    code = """
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError
try:
    registry.chain(parse("sparkle"))
except ConditionError as error:
    message = str(error)
print(json.dumps([message, list(registry.steps()), str(registry.chain(parse("jpeg:quality=3"))[0].spec)]))
"""
    message, steps, known = python(tmp_path, code)
    assert message.startswith("unknown step 'sparkle'; known are identity, ")
    assert "broken could not be loaded: ModuleNotFoundError: No module named 'no_such_module'" in message
    assert len(message.splitlines()) == 1
    assert {"jpeg", "vvenc", "gaussian_blur", "packet_loss"} <= set(steps)
    assert known == "jpeg(quality=3)"


STEP = """
from typing import Literal
from featlink.channel.distortions.base import Distortion
from featlink.shared.conditions.registry import register

@register
class {name}(Distortion):
    "A step that does nothing."
    type: Literal["{type}"] = "{type}"
    def apply(self, planes, rng):
        return planes
"""


@pytest.mark.slow
def test_of_two_packages_with_one_name_the_second_is_refused_by_name(tmp_path: Path) -> None:
    for package in ("first", "second"):
        install(tmp_path, package, STEP.format(name=package.title(), type="sparkle"))
    owner, failures = python(
        tmp_path, "print(json.dumps([registry.steps()['sparkle'].__module__, dict(registry.failures())]))"
    )
    assert owner in ("first", "second")
    [(failed, why)] = failures.items()
    assert {owner, failed} == {"first", "second"}
    assert why.startswith("ValueError: two steps are called 'sparkle': ")
    assert "first" in why
    assert "second" in why


@pytest.mark.slow
def test_no_package_takes_the_name_of_a_step_of_featlinks_own(tmp_path: Path) -> None:
    install(tmp_path, "usurper", STEP.format(name="Jpeg", type="jpeg"))
    owner, steps, failures = python(
        tmp_path,
        "print(json.dumps([registry.steps()['jpeg'].__module__, list(registry.steps()), dict(registry.failures())]))",
    )
    assert owner == "featlink.channel.codecs.jpeg"
    assert "vvenc" in steps
    assert failures == {
        "usurper": "ValueError: two steps are called 'jpeg': featlink.channel.codecs.jpeg and usurper have one each"
    }
