"""One deployment for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment import Deployment
from requests_by_hand import SIZES


@pytest.fixture(scope="package")
def services(deploy: Any, random_checkpoint: Callable[[str], Path]) -> Iterator[Deployment]:
    weights = str(random_checkpoint("maskrcnn_resnet50_fpn"))
    with deploy(weights=weights, profile="exact", score_threshold=0.15, **SIZES) as deployment:
        yield deployment
