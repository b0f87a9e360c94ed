"""Attackers: what a linear map can recover it recovers, of noise nothing, of any spec, and seeds agree."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_model import TINY

from featlink.attacking.attacker import Attacker, Origin, Ridge, encode, read, recover
from featlink.attacking.inverting import Inverter
from featlink.attacking.observing import Observation, Tap, tensors
from featlink.fitting.attacker import Lesson, Training, listen
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ModelError
from featlink.shared.features import FeatureSpec, TensorSpec
from featlink.shared.fpn import FPN
from featlink.shared.metrics.fidelity import compare_images
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build

SEES = (TensorSpec("fine", 6, 4), TensorSpec("coarse", 4, 8))
ORIGIN = Origin("feature: identity", "tiny", "00000000000071e5", 0, 1, 0, "by hand")


def smooth(seed: int, height: int = 64, width: int = 96) -> np.ndarray:
    """RGB float32 (3, H, W) in 0..255: blurred noise over the whole range."""
    noise = np.random.default_rng(seed).random((height, width, 3), np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 3)
    spread = (blurred - blurred.min()) / np.ptp(blurred) * 255
    return np.ascontiguousarray(spread.transpose(2, 0, 1), np.float32)


def by_hand(seed: int, told: bool) -> Observation:
    """Tensors of which the fine one tells a cell's mean colours, or nothing."""
    truth = smooth(seed)
    rng = np.random.default_rng(seed)
    fine, coarse = (rng.standard_normal((one.channels, 64 // one.stride, 96 // one.stride)) for one in SEES)
    if told:
        fine[:3] = truth.reshape(3, 16, 4, 24, 4).mean(axis=(2, 4))
    return Observation({"fine": fine.astype(np.float32), "coarse": coarse.astype(np.float32)}, truth, 0, (64, 96))


def taught(told: bool, count: int = 12) -> Lesson:
    lesson = Lesson.on(SEES)
    for seed in range(count):
        lesson.add(by_hand(seed, told), crops=2)
    return lesson


def psnr(attacker: Attacker, told: bool, corrected: bool = True) -> float:
    seen = [by_hand(seed, told) for seed in range(100, 106)]
    return float(np.mean([compare_images(one.truth, recover(attacker, one, corrected)).psnr for one in seen]))


def trained(lesson: Lesson, tmp_path: Path, rounds: int = 0, seed: int = 0) -> Attacker:
    return Training(lesson, rounds, seed, tmp_path / f"{seed}.checkpoint").run(lambda count: None)


def test_ridge_is_least_squares(tmp_path: Path) -> None:
    ridge = Ridge(SEES, every=1)
    seen = [by_hand(seed, True) for seed in range(5)]
    for one in seen:
        ridge.add(one)
    whole = Attacker(SEES, correct=False)
    whole.load_state_dict({name: torch.from_numpy(array) for name, array in ridge.solve(penalty=0).items()})
    inputs = np.concatenate(
        [
            whole.gathered({name: torch.from_numpy(level)[None] for name, level in one.levels.items()})[0]
            .reshape(10, -1)
            .T.numpy()
            for one in seen
        ]
    ).astype(float)
    cells = np.concatenate(
        [one.truth.reshape(3, 16, 4, 24, 4).transpose(1, 3, 0, 2, 4).reshape(-1, 48) for one in seen]
    )
    solved = np.linalg.lstsq(np.c_[inputs, np.ones(len(inputs))], cells, rcond=None)[0]
    wanted = np.c_[inputs, np.ones(len(inputs))] @ solved
    got = [recover(whole, one).reshape(3, 16, 4, 24, 4).transpose(1, 3, 0, 2, 4).reshape(-1, 48) for one in seen]
    np.testing.assert_allclose(np.concatenate(got), wanted.clip(0, 255), atol=0.05)


@pytest.mark.slow
def test_of_noise_an_attacker_makes_the_mean_picture(tmp_path: Path) -> None:
    made = trained(taught(False), tmp_path, rounds=20)
    mean = np.mean([by_hand(seed, False).truth.mean(axis=(1, 2)) for seed in range(12)], axis=0)
    truths = [by_hand(seed, False).truth for seed in range(100, 106)]
    flat = np.mean([compare_images(one, np.broadcast_to(mean[:, None, None], one.shape).copy()).psnr for one in truths])
    assert psnr(made, False) == pytest.approx(flat, abs=0.3)
    assert psnr(made, True, corrected=False) < flat + 3


@pytest.mark.extended
def test_the_network_betters_the_ridge_regression_and_seeds_agree(tmp_path: Path) -> None:
    lesson = taught(True)
    found = [psnr(trained(lesson, tmp_path, 60, seed), True) for seed in range(3)]
    ridge = psnr(trained(lesson, tmp_path), True)
    assert min(found) > ridge + 0.5
    assert max(found) - min(found) < 0.5


@pytest.mark.extended
def test_a_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    lesson = taught(True, 4)
    whole = trained(lesson, tmp_path / "whole", 52)  # a checkpoint is written each 50 rounds

    class Stopped(Exception):
        pass

    def stop(count: int) -> None:
        if count == 51:
            raise Stopped

    first = Training(lesson, 52, 0, tmp_path / "part")
    with pytest.raises(Stopped):
        first.run(stop)
    second = Training(lesson, 52, 0, tmp_path / "part")
    assert second.round == 50
    assert psnr(second.run(lambda count: None), True) == pytest.approx(psnr(whole, True), abs=1e-3)
    with pytest.raises(ModelError, match="not a checkpoint"):
        Training(taught(False, 4), 52, 0, tmp_path / "part")
    (tmp_path / "part").write_bytes(b"nothing")
    with pytest.raises(ModelError):
        Training(lesson, 52, 0, tmp_path / "part")


def test_the_same_seed_gives_the_same_attacker(tmp_path: Path) -> None:
    lesson = taught(True, 4)
    first, second, other = (
        psnr(trained(lesson, tmp_path / name, 3, seed), True) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second != other


@pytest.mark.parametrize("rounds", [0, 2])
def test_a_file_gives_the_same_attacker(tmp_path: Path, rounds: int) -> None:
    made = trained(taught(True, 2), tmp_path, rounds)
    (tmp_path / "a.safetensors").write_bytes(encode(made, ORIGIN))
    again, origin = read(tmp_path / "a.safetensors")
    assert (origin, again.sees, again.correct) == (ORIGIN, SEES, rounds > 0)
    np.testing.assert_array_equal(recover(again, by_hand(3, True)), recover(made, by_hand(3, True)))
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError):
        read(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "strides", [(4, 8, 16, 32), (8, 16), (32,), (64,), (1,), (4, 4)], ids=lambda strides: "-".join(map(str, strides))
)
def test_any_spec_gives_a_picture_of_the_inputs_size(strides: tuple[int, ...]) -> None:
    sees = tuple(TensorSpec(f"level{i}", 2, stride) for i, stride in enumerate(strides))
    shapes = FeatureSpec(sees).shapes((96, 160))
    levels = {name: torch.rand(1, *shape) for name, shape in shapes.items()}
    made = Attacker(sees)(levels)
    assert made.shape[1] == 3
    assert made.shape[2] >= 96
    assert made.shape[3] >= 160


def test_strides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ModelError, match="multiples"):
        Attacker((TensorSpec("fine", 2, 4), TensorSpec("coarse", 2, 6)))


def test_levels_are_those_that_nothing_else_gives() -> None:
    assert [one.name for one in tensors(FPN, "feature")] == ["p2", "p3", "p4", "p5"]
    assert [one.name for one in tensors(FPN, "feature", ["p6", "p3"])] == ["p3", "p6"]
    for domain, names in (("feature", ["p9"]), ("image", ["p2"])):
        with pytest.raises(ModelError, match="level"):
            tensors(FPN, domain, names)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny_network() -> SplitModel:
    return build(ModelConfig(model=TINY, threads=1), heads=False)


def encoded(seed: int) -> bytes:
    pixels = np.rint(smooth(seed)).astype(np.uint8).transpose(1, 2, 0)[..., ::-1]
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()


def test_uncoded_pixels_are_recovered_nearly_without_loss(tiny_network: SplitModel, tmp_path: Path) -> None:
    raw, coarse = parse("image: identity"), parse("image: quantize(bits=2)")
    lessons = listen(tiny_network, map(encoded, range(8)), [raw, coarse], [], True, lambda: None)
    found = []
    for lesson, condition in zip(lessons, (raw, coarse), strict=True):
        made = trained(lesson, tmp_path / str(condition.steps), 10)
        seen = Tap(tiny_network, encoded(200)).observe(condition)
        found.append(compare_images(seen.truth, recover(made, seen)).psnr)
    assert found[0] > 45
    assert found[1] < 35


def test_what_the_receiver_gets_is_what_the_attacker_sees(tiny_network: SplitModel) -> None:
    clean = Tap(tiny_network, encoded(1)).observe(parse("feature: identity"))
    coarse = Tap(tiny_network, encoded(1)).observe(parse("feature: quantize(bits=1)"))
    assert len(np.unique(coarse.levels["p2"])) == 2
    assert coarse.bits < clean.bits
    assert len(np.unique(clean.levels["p2"])) > 100
    np.testing.assert_array_equal(clean.truth, coarse.truth)
    assert clean.truth.shape == (3, 64, 96)
    original = Tap(tiny_network, encoded(1)).observe(parse("image: quantize(bits=8) @ at=original"))
    assert original.levels["image"].shape == (48, 16, 24)
    np.testing.assert_allclose(
        original.levels["image"].reshape(3, 16, -1).mean(axis=(1, 2)), clean.truth.mean((1, 2)), atol=1
    )


def test_noise_of_training_is_not_that_of_judging(tiny_network: SplitModel) -> None:
    noisy = parse("feature: gaussian_noise(sigma=9)")
    seen = [Tap(tiny_network, encoded(1), image_id).observe(noisy).levels["p2"] for image_id in (None, 1, 1)]
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[1], seen[2])


@pytest.mark.parametrize("split", [None, "c2-c5", "stem"])
def test_descent_finds_a_picture_that_the_edge_would_send_alike(split: str | None, tmp_path: Path) -> None:
    model = build(ModelConfig(model=TINY, threads=1, split=split), heads=False)
    [lesson] = listen(model, map(encoded, range(2)), [parse("feature: identity")], [], False, lambda: None)
    ridge = trained(lesson, tmp_path)
    tap = Tap(model, encoded(200))
    seen = tap.observe(parse("feature: identity"))
    sizes = model.image_sizes(64, 96)
    flat = np.full_like(seen.truth, 128)
    found = Inverter(model, 30).recover(ridge, seen, flat)

    def far(picture: np.ndarray) -> float:
        sent = model.encode_input(picture, sizes).levels
        finest = ridge.sees[0].name
        return float(np.mean((sent[finest] - seen.levels[finest]) ** 2) / seen.levels[finest].var())

    assert far(seen.truth) < 1e-6
    assert far(found) < far(flat) / 2
    assert found.shape == flat.shape
    assert found.min() >= 0
    assert found.max() <= 255
    np.testing.assert_array_equal(found, Inverter(model, 30).recover(ridge, seen, flat))


def test_only_exact_networks_are_inverted(tiny_network: SplitModel) -> None:
    fast = copy.copy(tiny_network)
    fast.profile = "fast"
    with pytest.raises(ModelError, match="invert"):
        Inverter(fast, 1)
