"""A basis fitted to a few scenes: what it must be for any pictures, and that the command's file is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_model
from typer.testing import CliRunner

import featlink as fl
from featlink.channel.reduction.pca import SIDES, Basis, read_basis
from featlink.cli import app
from featlink.dataset import open_dataset
from featlink.fitting.pca import fit, gram, rounds
from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN
from featlink.starter.bundle import DATA, load_weights


@pytest.fixture(scope="module")
def network(config: ModelConfig) -> TorchvisionRCNN:
    return tiny_model.build(config)


@pytest.fixture(scope="module")
def basis(fitted: Path) -> Basis:
    return read_basis(next(fitted.iterdir()))


def test_components_are_uncorrelated_and_the_largest_come_first(
    basis: Basis, network: TorchvisionRCNN, tiny: Path, config: ModelConfig
) -> None:
    images = [fl.read_image(path) for path in open_dataset(tiny).images.values()]
    found = np.concatenate(
        [basis.analyse(network.encode(image).levels, 6).reshape(6, -1) for image in images], axis=1
    ).astype(np.float64)
    assert found.shape[1] == 4 * 6, "p5's positions of 64×96 pixels"
    second = found @ found.T / found.shape[1]
    np.testing.assert_allclose(np.sqrt(np.diag(second)), basis.deviation[:6], rtol=0.02)
    scale = np.sqrt(np.outer(np.diag(second), np.diag(second)))
    assert np.abs(second / scale - np.eye(6)).max() < 0.05
    assert (np.diff(basis.deviation) <= 0).all()


def test_maps_are_orthonormal_in_the_metric_of_the_heads(basis: Basis, network: TorchvisionRCNN) -> None:
    metric = gram(network.network)
    assert np.trace(metric) == pytest.approx(3), "RPN, box and mask head, each alike"
    for name in SIDES:
        inverse = basis.inverse[name].astype(np.float64)
        np.testing.assert_allclose(inverse.T @ metric @ inverse, np.eye(inverse.shape[1]), atol=1e-3)
        np.testing.assert_allclose(basis.forward[name] @ inverse, np.eye(inverse.shape[1]), atol=1e-3)
    for stage in (basis.cell, basis.group):
        np.testing.assert_allclose(stage.T @ stage, np.eye(stage.shape[1]), atol=0.02)


def test_components_of_the_fitted_pictures_give_them_back(basis: Basis, network: TorchvisionRCNN, tiny: Path) -> None:
    metric = gram(network.network)
    levels = network.encode(fl.read_image(next(iter(open_dataset(tiny).images.values())))).levels
    restored = basis.synthesise(basis.analyse(levels, len(basis.deviation)))
    for name in SIDES:
        error, clean = (
            (x - x.mean((1, 2), keepdims=True)).reshape(tiny_model.CHANNELS, -1)
            for x in (restored[name] - levels[name], levels[name])
        )
        lost, whole = (np.einsum("ci,cd,di->", x, metric, x) for x in (error, clean))
        assert lost < 1e-3 * whole, "all channels are kept"


@pytest.mark.extended
def test_the_command_writes_what_the_step_reads(
    config: ModelConfig, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path))
    options = ["--model", config.model, "--scenes", "2", "--threads", "1"]
    done = CliRunner().invoke(app, ["fit", "pca", "--dataset", str(tiny), *options])
    assert done.exit_code == 0, done.output
    [file] = tmp_path.iterdir()
    assert file.name in done.output.replace("\n", "")
    assert f"{file.stat().st_size:,} bytes" in done.output
    model = fl.Model(tiny_model.build(config))
    image = fl.read_image(next(iter(open_dataset(tiny).images.values())))
    assert fl.transmit(model.pyramid(image), "pca(components=3)", model=model).bits > 0


def test_every_picture_is_counted(config: ModelConfig, tiny: Path) -> None:
    pictures = list(open_dataset(tiny).images.values())[:2]
    done: list[None] = []
    fit(config, pictures, lambda: done.append(None), channels=2)
    assert len(done) == rounds(pictures) == 6


def test_the_bundled_basis_is_of_the_bundled_weights() -> None:
    path = DATA / "pca.safetensors"
    basis = read_basis(path)
    assert basis.weights == load_weights().sha256[:16]
    assert len(basis.deviation) == 1024
    assert path.stat().st_size <= 6_000_000


def test_an_earlier_split_has_nothing_to_fit(config: ModelConfig) -> None:
    with pytest.raises(ModelError, match="p2 does not cross its link"):
        fit(config.but(split="c2"), [], lambda: None)
