"""The same bits on any number of cores."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import hashlib
import numpy as np
import pytest
from featlink.channel.reduction.pca import read_basis
from featlink.shared.fitted import find
from featlink.starter.bundle import load_weights

basis = read_basis(find("pca", load_weights().sha256[:16]))
rng = np.random.default_rng(0)
levels = {f"p{k}": rng.standard_normal((256, 512 >> k, 640 >> k), np.float32) for k in (2, 3, 4, 5)}
components = basis.analyse(levels, 64)
restored = basis.synthesise(components)
print(hashlib.sha256(components.tobytes() + b"".join(level.tobytes() for level in restored.values())).hexdigest())
"""


@pytest.mark.slow
def test_components_and_levels_do_not_depend_on_the_threads_of_blas() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", CODE],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for threads in ("1", "2", "4")
    }
    assert len(digests) == 1
