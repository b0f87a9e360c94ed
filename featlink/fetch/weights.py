"""torchvision's official weights, where torchvision looks for them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

from featlink.errors import CommandError
from featlink.fetch.download import Checksum, Source
from featlink.shared.models.config import MODELS


def cached_path(model: str) -> Path:
    """Where ``--weights coco`` finds a model's official file (torch.hub's cache).

    Raises:
        CommandError: there is no such model.
    """
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(official(model).url).path).name


def official(model: str) -> Source:
    """A model's official file; torchvision's file names carry the beginning of the SHA-256.

    Raises:
        CommandError: there is no such model.
    """
    from torchvision.models import get_model_weights

    from featlink.shared.models.checkpoints import path_hash

    if model not in MODELS:
        raise CommandError(f"unknown model {model!r}; known are {', '.join(MODELS)}")
    weights = get_model_weights(model)["COCO_V1"]
    return Source(weights.url, Checksum("sha256", path_hash(weights)))
