"""``featlink fit attacker`` and ``leak``, as typed; and what a report and a decision make of their figures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from drawn_sweep import CLEAN, Made, make_drawn
from tiny_model import TINY, other_weights
from typer.testing import CliRunner

import featlink as fl
from featlink.cli import app
from featlink.errors import CommandError
from featlink.leaks import LEAK, Leak, Leaks, Measured, read_leaks, write_leaks
from featlink.report.curves import Figure
from featlink.report.gallery import Strip
from featlink.report.leak import leak_blocks
from featlink.report.sweep import open_sweep
from featlink.report.table import Table
from featlink.shared.errors import FeatlinkError
from featlink.starter.folder import write_folder

NETWORK = ("--model", TINY, "--threads", "1")


def run(*command: str) -> str:
    result = CliRunner().invoke(app, list(command), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    assert len(list(write_folder(folder, 8, seed=5, marks=2))) == 8
    return folder


@pytest.fixture(scope="module")
def attackers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("attackers")
    chosen = (
        "--condition",
        "privacy.features.raw",
        "--condition",
        "image: identity",
        "--scenes",
        "16",
        "--rounds",
        "2",
    )
    text = run("fit", "attacker", *chosen, "--out", str(out), *NETWORK)
    assert "privacy.features.raw.safetensors" in text.replace("\n", "")
    return out


@pytest.mark.slow
def test_what_is_recovered_is_measured(attackers: Path, judged: Path, tmp_path: Path) -> None:
    asked = ("leak", "--attacker", str(attackers), "--dataset", str(judged), "--out", str(tmp_path), *NETWORK)
    assert "What attackers recovered" in run(*asked, "--shown", "1", "--invert", "3")
    found = read_leaks(tmp_path)
    assert found is not None
    assert (len(found.images), found.model) == (8, "tiny")
    of = {(one.condition, one.kind): one for one in found.leaks}
    assert set(of) == {
        *((f"{domain}: identity", kind) for domain in ("feature", "image") for kind in ("ridge", "network")),
        ("feature: identity", "inversion"),
        ("", "guess"),
    }
    pixels, features, guess = of["image: identity", "ridge"], of["feature: identity", "ridge"], of["", "guess"]
    assert pixels.psnr.value > 45 > features.psnr.value > guess.psnr.value
    assert pixels.ms_ssim.value > features.ms_ssim.value > guess.ms_ssim.value
    assert guess.read is not None
    assert guess.read.value == 0
    assert features.levels == ["p2", "p3", "p4", "p5"]
    assert of["feature: identity", "inversion"].trained == (16, 3)
    for one in found.leaks:
        assert one.psnr.interval is not None
        assert one.psnr.interval[0] < one.psnr.value < one.psnr.interval[1]
        assert cv2.imread(str(tmp_path / one.pictures[1])) is not None
    run(*asked, "--shown", "0")
    again = read_leaks(tmp_path)
    assert again is not None
    assert [one.psnr for one in again.leaks] == [one.psnr for one in found.leaks]
    with pytest.raises(CommandError, match="another images"):
        run(*asked, "--limit", "3")


def test_attackers_of_another_network_are_refused(attackers: Path, judged: Path, tmp_path: Path) -> None:
    others = ("--weights", other_weights(tmp_path / "other.safetensors"), *NETWORK)
    with pytest.raises(FeatlinkError, match="not of tiny"):
        run("leak", "--attacker", str(attackers), "--dataset", str(judged), "--out", str(tmp_path), *others)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CommandError, match="no attacker"):
        run("leak", "--attacker", str(tmp_path / "empty"), "--dataset", str(judged), "--out", str(tmp_path), *NETWORK)


@pytest.mark.slow
def test_levels_are_chosen_and_pictures_given(judged: Path, tmp_path: Path) -> None:
    chosen = ("--condition", "feature: quantize(bits=4)", "--level", "p3", "--level", "p6", "--scenes", "2")
    run("fit", "attacker", *chosen, "--rounds", "0", "--dataset", str(judged), "--out", str(tmp_path), *NETWORK)
    run("leak", "--attacker", str(tmp_path), "--dataset", "starter", "--limit", "2", "--out", str(tmp_path), *NETWORK)
    found = read_leaks(tmp_path)
    assert found is not None
    [ridge] = [one for one in found.leaks if one.kind == "ridge"]
    assert (ridge.levels, ridge.trained, ridge.data, ridge.read) == (["p3", "p6"], (2, 0), judged.name, None)


def by_hand(folder: Path) -> Leaks:
    """Attackers on some rows of a drawn sweep: of features two, the stronger at 18 dB, of pixels one at 30 dB."""

    def leak(condition: str, kind: str, psnr: float) -> Leak:
        figures = (Measured(psnr), Measured(0.5), Measured(0.6), Measured(0.25, (0.1, 0.4)))
        pictures = {1: f"leak/1.{kind}.webp"}
        return Leak(condition, condition, kind, ["p2"], 0, (9, 0), "by hand", 8, 4.0, *figures, pictures)

    (folder / "leak").mkdir(exist_ok=True)
    for name in ("truth", "ridge", "network"):
        cv2.imwrite(str(folder / f"leak/1.{name}.webp"), np.full((24, 32, 3), 99, np.uint8))
    leaks = [
        leak("feature: vvenc(qp=22)", "ridge", 16.0),
        leak("feature: vvenc(qp=22)", "network", 18.0),
        leak("image: vvenc(qp=22)", "ridge", 30.0),
    ]
    return write_leaks(folder, Leaks("drawn", "tiny", "w", (24, 32), [1], {1: "leak/1.truth.webp"}, leaks))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = dict(CLEAN)
    for domain, size in (("image", 100), ("feature", 400)):
        for qp, ap in ((22, 0.59), (32, 0.4)):
            rows[f"{domain}.qp{qp}"] = Made(f"{domain}: vvenc(qp={qp})", ap, size / (qp - 20))
    folder = make_drawn(tmp_path_factory.mktemp("leaks") / "sweep", rows, images=12).folder
    by_hand(folder)
    return folder


def test_a_decision_keeps_to_what_may_leak(folder: Path) -> None:
    def asked(**given: object) -> dict[str, float | None]:
        return {one["id"]: one["leak_db"] for one in fl.decide(folder, rate=5, floor=10, **given)["options"]}

    free = asked()
    assert free["feature.qp22"] == 18
    assert free["image.qp22"] == 30
    assert free["feature.qp32"] is None
    assert asked(leak_at_most=18) == {"feature.qp22": 18}
    assert asked(leak_at_most=99) == {"feature.qp22": 18, "image.qp22": 30}
    with pytest.raises(CommandError, match="17 dB"):
        asked(leak_at_most=17)
    assert "18.0" in run("decide", str(folder), "--rate", "5", "--floor", "10", "--leak-at-most", "20")


def test_a_report_has_a_section_of_what_is_recovered(folder: Path, tmp_path: Path) -> None:
    table, figure, strip = leak_blocks(open_sweep(folder))
    assert isinstance(table, Table)
    assert isinstance(figure, Figure)
    assert isinstance(strip, Strip)
    assert [row[0] for row in table.rows] == ["image: vvenc(qp=22)", *["feature: vvenc(qp=22)"] * 2]
    assert [one.title for one in strip.pictures] == ["truth", "image: vvenc(qp=22)", "feature: vvenc(qp=22)"]
    assert strip.pictures[2].note.startswith("network")
    (tmp_path / LEAK).write_text("{}")
    with pytest.raises(CommandError):
        read_leaks(tmp_path)
    assert read_leaks(tmp_path / "empty") is None


def test_figures_of_other_pictures_are_not_mixed(folder: Path) -> None:
    known = read_leaks(folder)
    assert known is not None
    assert write_leaks(folder, known) == known
    with pytest.raises(CommandError, match="another weights"):
        write_leaks(folder, msgspec.structs.replace(known, weights="other"))
    assert json.loads((folder / LEAK).read_bytes())["weights"] == known.weights
