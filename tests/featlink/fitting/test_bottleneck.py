"""The learned reduction: both ends as they were trained, training that goes on, and a file that the step reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_model import PEOPLE
from typer.testing import CliRunner

import featlink as fl
from featlink.channel.chain import Chain
from featlink.channel.reduction import bottleneck
from featlink.channel.reduction.pca import Basis, encode_basis
from featlink.channel.transmit import transmit
from featlink.cli import app
from featlink.dataset import open_dataset
from featlink.edge.prepare import Request, prepare
from featlink.fitting.bottleneck import (
    STEPS,
    Example,
    Networks,
    Teacher,
    Training,
    distance,
    examples_of,
    kept_rows,
)
from featlink.fitting.pca import fit
from featlink.shared import fitted
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import ModelError
from featlink.shared.features import Array
from featlink.shared.frames.wire import LATENT
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN, build
from featlink.shared.result import Telemetry
from featlink.starter.bundle import SCENES, load_weights

CONFIG = ModelConfig(weights="starter", min_size=128, max_size=224, threads=1, proposals=100, max_detections=20)


@pytest.fixture(scope="module")
def pictures() -> list[Path]:
    return list(open_dataset(SCENES).images.values())[:5]


@pytest.fixture(scope="module")
def model() -> TorchvisionRCNN:
    return build(CONFIG)


@pytest.fixture(scope="module")
def basis(pictures: list[Path]) -> Basis:
    return bottleneck.as_stored(fit(CONFIG, pictures, lambda: None, channels=8))


@pytest.fixture(scope="module")
def examples(model: TorchvisionRCNN, basis: Basis, pictures: list[Path]) -> list[Example]:
    return examples_of(model, basis, pictures, lambda: None)


@pytest.fixture(scope="module")
def teacher(basis: Basis) -> Teacher:
    return Teacher(CONFIG, basis)


def shaken(count: int) -> Networks:
    torch.manual_seed(1)
    made = Networks(np.linspace(9, 0.1, count, dtype=np.float32))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return made


@pytest.mark.parametrize("step", [1.1, 4.0, 9.0])
def test_arrays_compute_what_was_trained(step: float) -> None:
    made = shaken(40)
    deviation = made.deviation[:, 0, 0].numpy()
    components = (np.random.default_rng(0).standard_normal((40, 5, 7)) * deviation[:, None, None]).astype(np.float32)
    with torch.no_grad():
        whole, rounded = made.send(torch.from_numpy(components), step)
        received = made.receive(rounded, step)
    sent = components * bottleneck.gains(made.layers(), components, deviation, step)
    np.testing.assert_allclose(sent / step, whole, rtol=1e-4, atol=1e-5)
    assert np.abs(bottleneck.gains(made.layers(), components, deviation, step) - 1).max() > 0.01
    got = bottleneck.refined(made.layers(), rounded.numpy() * np.float32(step), deviation, step)
    np.testing.assert_allclose(got, received, rtol=1e-4, atol=1e-4)


def test_untrained_networks_change_nothing() -> None:
    made = Networks(np.ones(30, np.float32))
    components = np.random.default_rng(0).standard_normal((30, 4, 4)).astype(np.float32)
    layers, deviation = made.layers(), np.ones(30, np.float32)
    np.testing.assert_array_equal(bottleneck.gains(layers, components, deviation, 2.0), 1)
    np.testing.assert_array_equal(bottleneck.refined(layers, components, deviation, 2.0), components)


@pytest.mark.slow
def test_the_teacher_sees_the_levels_that_the_step_restores(
    teacher: Teacher, basis: Basis, examples: list[Example]
) -> None:
    components = examples[0].components.float()
    seen = teacher.levels(components)
    for name, level in basis.synthesise(components.numpy()).items():
        np.testing.assert_allclose(seen[name], level, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(seen["p6"], seen["p5"][:, ::2, ::2])


@pytest.mark.extended
@pytest.mark.parametrize("split", ["stem", "c2-c5"])
def test_the_teacher_sees_the_levels_of_an_earlier_split(split: str, pictures: list[Path]) -> None:
    config = CONFIG.but(split=split, min_size=96, max_size=128)
    basis = bottleneck.as_stored(fit(config, pictures[:1], lambda: None, channels=4))
    pyramid = build(config, heads=False).encode(fl.read_image(pictures[0]))
    components = basis.analyse(pyramid.levels, len(basis.deviation))
    teacher = Teacher(config, basis)
    seen = teacher.levels(torch.from_numpy(components))
    for name, level in basis.synthesise(components).items():
        np.testing.assert_allclose(seen[name], level, rtol=1e-3, atol=1e-3 * np.abs(level).max())
    boxes, labels = torch.tensor([[5.0, 5, 60, 50]]), torch.tensor([1])
    wanted = teacher.answers(torch.from_numpy(components), pyramid.sizes.resized, boxes, labels)
    sent = torch.from_numpy(components + 0.3).requires_grad_()
    distance(teacher.answers(sent, pyramid.sizes.resized, boxes, labels), wanted).backward()  # type: ignore[no-untyped-call]
    assert sent.grad is not None
    assert sent.grad.abs().sum() > 0


@pytest.mark.extended
def test_what_was_fitted_at_an_earlier_split_is_what_the_step_uses_there(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.but(split="c2-c5", min_size=96, max_size=128)
    linear = bottleneck.as_stored(fit(config, pictures[:2], lambda: None, channels=4))
    split = build(config)
    training = Training(
        Teacher(config, linear), linear.deviation, examples_of(split, linear, pictures, lambda: None), 1, tmp_path / "c"
    )
    training.run(lambda count: None)
    content = bottleneck.encode_learned(training.learned(linear))
    (tmp_path / f"bottleneck-{linear.weights}.safetensors").write_bytes(content)
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path))
    frame = prepare(split, Request(pictures[0].read_bytes()), max_pixels=10**6, send_derived=False).frame
    fine, coarse = (
        transmit(frame, parse(f"bottleneck(step={step}) | entropy @ bit_depth=12"), Telemetry()) for step in (0.5, 4)
    )
    assert [one.name for one in fine.frame.tensors] == ["c2", "c3", "c4", "c5"]
    assert fine.telemetry.bits is not None
    assert coarse.telemetry.bits is not None
    assert coarse.telemetry.bits < fine.telemetry.bits
    assert fine.fidelity is not None
    assert coarse.fidelity is not None
    assert coarse.fidelity.psnr < fine.fidelity.psnr


def test_a_network_whose_answers_are_not_known_is_refused(basis: Basis) -> None:
    with pytest.raises(ModelError, match="take pca"):
        Teacher(ModelConfig(model=PEOPLE), basis)


@pytest.mark.slow
def test_answers_are_farther_the_more_is_lost(teacher: Teacher, examples: list[Example]) -> None:
    example = examples[0]
    boxes, labels = example.regions(np.random.default_rng(0))
    clean = example.components.float()
    wanted = teacher.answers(clean, example.resized, boxes, labels)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    far = [
        float(distance(teacher.answers(clean + size * noise, example.resized, boxes, labels), wanted))
        for size in (0, 0.1, 0.5, 2)
    ]
    assert far[0] == pytest.approx(0, abs=1e-6)
    assert far == sorted(far)
    assert far[-1] > 10 * far[1] > 0


@pytest.mark.extended
def test_training_goes_on_where_it_stopped_and_learns(
    teacher: Teacher, basis: Basis, examples: list[Example], tmp_path: Path
) -> None:
    def training(name: str, rounds: int) -> Training:
        return Training(teacher, basis.deviation, examples, rounds, tmp_path / name)

    whole = training("whole", 16)
    seen: list[int] = []
    whole.run(seen.append)
    assert seen == list(range(1, 17))
    start, end = whole.untrained, whole.measure()
    assert start is not None
    cost = {
        step: [one.distance[step] / start.distance[step] + one.size[step] / start.size[step] for one in (start, end)]
        for step in STEPS
    }
    assert np.mean([after - before for before, after in cost.values()]) < 0

    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        if count == 6:
            raise Stop

    part = training("part", 16)
    with pytest.raises(Stop):
        part.run(stop)
    part._save()
    again = training("part", 16)
    assert again.round == 6
    again.run(lambda count: None)
    for name, value in whole.networks.state_dict().items():
        torch.testing.assert_close(again.networks.state_dict()[name], value, rtol=1e-3, atol=1e-4)

    (tmp_path / "bad").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="is not a checkpoint of this training"):
        training("bad", 1)
    with pytest.raises(ModelError, match="another basis"):
        Training(teacher, 2 * basis.deviation, examples, 16, tmp_path / "whole")
    with pytest.raises(ModelError, match="nothing to learn from"):
        Training(teacher, basis.deviation, examples[:1], 1, tmp_path / "none")


# For a link that loses packets.


def zero_rows(plane: Array) -> list[bool]:
    return [not row.any() for row in plane.transpose(1, 0, 2)]


def test_training_drops_the_rows_that_the_channel_leaves_at_zero() -> None:
    rng = np.random.default_rng(0)
    levels = {f"p{k}": rng.normal(size=(256, 320 >> k, 64 >> k)).astype(np.float32) for k in range(2, 7)}
    condition = parse("bottleneck(step=2) | entropy(stripes=4) | packet_loss(rate=0.5, mtu=65535) @ bit_depth=10")
    with Chain(chain(condition), condition, weights=load_weights().sha256[:16]) as link:
        sent = [out.planes[LATENT] for item in range(12) for out in link.push(item, levels)]
    lost = {tuple(zero_rows(part.samples.astype(np.float32) - 512)) for part in sent} - {(True,) * 10}
    assert len(lost) > 3
    assert lost <= {tuple(~kept_rows(10, 0.5, rng)) for _ in range(400)}


def test_as_many_stripes_are_dropped_as_asked_for_but_never_all() -> None:
    rng = np.random.default_rng(0)
    lost = [1 - kept_rows(20, 0.3, rng).mean() for _ in range(2000)]
    expected = 0.3 - 0.3**4 / 4
    assert np.mean(lost) == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 8000))
    assert max(lost) == 0.75
    assert kept_rows(20, 0, rng).all()
    assert {kept_rows(3, 1, rng).sum() for _ in range(20)} == {1}


@pytest.mark.slow
def test_the_receivers_network_sees_what_was_dropped_in_training(
    teacher: Teacher, basis: Basis, examples: list[Example], tmp_path: Path
) -> None:
    def seen(name: str, drop: float) -> list[Array]:
        training, inputs = Training(teacher, basis.deviation, examples, 1, tmp_path / name, drop=drop), []
        training.untrained = training.measure()
        first = training.networks.refine["in"]
        first.register_forward_pre_hook(lambda _, given: inputs.append(given[0][0, :-1].detach().numpy()))
        training.run(lambda count: None)
        return inputs

    dropped = 0
    for clean, lossy in zip(seen("clean", 0), seen("lossy", 1), strict=True):
        gone = np.array(zero_rows(lossy)) & ~np.array(zero_rows(clean))
        np.testing.assert_array_equal(lossy[:, ~gone], clean[:, ~gone])
        dropped += int(gone.sum())
    assert dropped > 0


@pytest.mark.slow
def test_training_for_loss_begins_with_a_file_and_goes_on_with_its_share_alone(
    teacher: Teacher, basis: Basis, examples: list[Example], tmp_path: Path
) -> None:
    begun = shaken(len(basis.deviation)).layers()

    def training(name: str, rounds: int, drop: float = 0.3) -> Training:
        return Training(teacher, basis.deviation, examples, rounds, tmp_path / name, drop=drop, start=begun)

    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        raise Stop

    whole, part = training("whole", 2), training("part", 2)
    whole.run(lambda count: None)
    with pytest.raises(Stop):
        part.run(stop)
    part._save()
    again = training("part", 2)
    assert again.round == 1
    again.run(lambda count: None)
    for name, value in whole.networks.layers().items():
        np.testing.assert_allclose(again.networks.layers()[name], value, rtol=1e-3, atol=1e-4)
        assert np.abs(value - begun[name]).max() < 0.01  # as it began, but for two rounds
    assert whole.measure(lost=1).distance[2.4] > whole.measure().distance[2.4]
    with pytest.raises(ModelError, match="dropped"):
        training("part", 2, drop=0.2)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ModelError, match="share"):
            training("other", 2, drop=share)
    with pytest.raises(ModelError, match="do not fit"):
        Training(teacher, basis.deviation, examples, 1, tmp_path / "n", start={"a": begun["gains.0.bias"]}).run(print)


def test_a_fit_is_known_by_its_share_and_ones_own_is_found_before_the_bundled_one(
    basis: Basis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path))
    layers, path = shaken(len(basis.deviation)).layers(), tmp_path / f"bottleneck-{basis.weights}.safetensors"
    known = [fitted.identity("bottleneck", basis.weights)]
    for drop in (0, 0.1, 0.3):
        path.write_bytes(bottleneck.encode_learned(bottleneck.Learned(basis, layers, drop)))
        known.append(fitted.identity("bottleneck", basis.weights))
        assert bottleneck.read_learned(path).drop == drop
    assert len(set(known)) == 4


def test_a_share_beyond_one_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fit", "bottleneck", "--dataset", str(SCENES), "--drop", "1.5"])
    assert done.exit_code == 2


@pytest.mark.extended
def test_the_command_writes_what_the_step_reads(
    basis: Basis, model: TorchvisionRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path))
    (tmp_path / f"pca-{basis.weights}.safetensors").write_bytes(encode_basis(basis))
    options = ["--weights", "starter", "--min-size", "128", "--max-size", "224", "--threads", "1"]
    done = CliRunner().invoke(
        app, ["fit", "bottleneck", "--dataset", str(SCENES), *options, "--scenes", "4", "--rounds", "3"]
    )
    assert done.exit_code == 0, done.output
    written = tmp_path / f"bottleneck-{basis.weights}.safetensors"
    assert f"{written.stat().st_size:,} bytes" in done.output
    api = fl.Model(model)
    image = fl.read_image(next(iter(open_dataset(SCENES).images.values())))
    sent = fl.transmit(api.pyramid(image), "bottleneck(step=2) | entropy", model=api)
    fewer = fl.transmit(api.pyramid(image), "bottleneck(step=8) | entropy", model=api)
    assert 0 < fewer.bits < sent.bits
    assert sent.fidelity.psnr > fewer.fidelity.psnr


def test_the_bundled_one_is_of_the_bundled_weights() -> None:
    from featlink.starter.bundle import DATA

    path = DATA / "bottleneck.safetensors"
    found = bottleneck.read_learned(path)
    assert found.basis.weights == load_weights().sha256[:16]
    assert path.stat().st_size <= 6_000_000


@pytest.mark.slow
def test_a_file_reads_as_it_was_written(basis: Basis, tmp_path: Path) -> None:
    made = bottleneck.Learned(basis, shaken(len(basis.deviation)).layers())
    path = tmp_path / "learned.safetensors"
    path.write_bytes(bottleneck.encode_learned(made))
    found = bottleneck.read_learned(path)
    np.testing.assert_allclose(found.basis.cell, basis.cell, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.basis.group, basis.group, rtol=1e-5, atol=1e-7)
    for name, layer in made.layers.items():
        np.testing.assert_allclose(found.layers[name], layer, rtol=2e-3, atol=1e-4)
    path.write_bytes(encode_basis(replace(basis, weights="0" * 16)))
    with pytest.raises(ModelError, match="featlink fit bottleneck"):
        bottleneck.read_learned(path)
