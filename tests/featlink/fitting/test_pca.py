"""A basis fitted to a few scenes: what it must be for any pictures, and that the command's file is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_model
from typer.testing import CliRunner

import featlink as fl
from featlink.channel.reduction.pca import Basis, Grid, encode_basis, read_basis
from featlink.cli import app
from featlink.dataset import open_dataset
from featlink.fitting.pca import fit, gram, rounds
from featlink.shared.errors import ConditionError, ModelError
from featlink.shared.features import FeatureSpec, TensorSpec
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
    metric = gram(network.readers()["p2"])
    assert np.trace(metric) == pytest.approx(3), "RPN, box and mask head, each alike"
    for name in basis.grid.strides:
        inverse = basis.inverse[name].astype(np.float64)
        np.testing.assert_allclose(inverse.T @ metric @ inverse, np.eye(inverse.shape[1]), atol=1e-3)
        np.testing.assert_allclose(basis.forward[name] @ inverse, np.eye(inverse.shape[1]), atol=1e-3)
    for stage in (basis.cell, basis.group):
        np.testing.assert_allclose(stage.T @ stage, np.eye(stage.shape[1]), atol=0.02)


def test_components_of_the_fitted_pictures_give_them_back(basis: Basis, network: TorchvisionRCNN, tiny: Path) -> None:
    metric = gram(network.readers()["p2"])
    levels = network.encode(fl.read_image(next(iter(open_dataset(tiny).images.values())))).levels
    restored = basis.synthesise(basis.analyse(levels, len(basis.deviation)))
    for name in basis.grid.strides:
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


@pytest.mark.parametrize("split", ["stem", "c2", "c2-c5"])
def test_every_split_has_a_basis_of_its_own(
    split: str, config: ModelConfig, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path))
    here = config.but(split=split)
    model = fl.Model(tiny_model.build(here))
    pictures = list(open_dataset(tiny).images.values())[:2]
    pyramid = model.pyramid(fl.read_image(pictures[0]))
    with pytest.raises(ConditionError, match=f"-{split}: run `featlink fit pca`"):
        fl.transmit(pyramid, "pca(components=2)", model=model)
    made = fit(here, pictures, lambda: None)
    path = tmp_path / f"pca-{made.weights}.safetensors"
    path.write_bytes(encode_basis(made))
    read = read_basis(path)
    assert (read.weights, read.grid, list(read.mean)) == (made.weights, made.grid, list(made.grid.strides))
    if split == "c2-c5":  # an error of a coarse tensor reaches all finer levels of the pyramid
        assert [*read.worth.values()] == pytest.approx([2.2, 4.617, 9.37, 18.846], abs=0.01)
    most = len(read.deviation)
    errors = []
    for count in (1, most // 4, most):
        got = fl.transmit(pyramid, f"pca(components={count})", model=model).pyramid.levels
        assert {name: level.shape for name, level in got.items()} == {
            name: level.shape for name, level in pyramid.levels.items()
        }
        errors.append(sum(np.square(got[name] - level).sum() for name, level in pyramid.levels.items()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 * sum(
        np.square(level - level.mean((1, 2), keepdims=True)).sum() for level in pyramid.levels.values()
    )


def test_tensors_without_common_cells_are_refused_in_one_line() -> None:
    spec = FeatureSpec((TensorSpec("a", 4, 8), TensorSpec("b", 4, 30)))
    with pytest.raises(ModelError, match="a 8, b 30"):
        Grid.of(spec)
