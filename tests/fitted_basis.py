"""A basis of the ``pca`` step that is fitted to a network over a few pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from featlink.channel.reduction.pca import encode_basis
from featlink.dataset import open_dataset
from featlink.fitting.pca import fit
from featlink.shared.models.config import ModelConfig


@contextlib.contextmanager
def fitted_to(config: ModelConfig, dataset: Path, folder: Path) -> Iterator[Path]:
    """Fit it, and have the channel look for it in the folder."""
    basis = fit(config, list(open_dataset(dataset).images.values()), lambda: None, channels=12)
    (folder / f"pca-{basis.weights}.safetensors").write_bytes(encode_basis(basis))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATLINK_FITTED", str(folder))
        yield folder
