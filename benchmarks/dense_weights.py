"""Make dense weights of the bundled ones, which are a narrow network's in torchvision's shapes: for timing.

    python -m benchmarks.dense_weights dense.safetensors

Official or self-trained weights have no zero channels that the fast profile could leave out, so a network with them
costs several times more. This fills the zeros of every matrix and convolution with noise of 1e-5 of the tensor's range.
The detections stay what they are, so both sides of a comparison have a usual number of masks to make.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from featlink.starter.bundle import load_weights

_NOISE = 1e-5
"""Of a tensor's range."""


def dense(seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The bundled state dict without zeros in what is multiplied, and its metadata."""
    rng = np.random.default_rng(seed)
    weights = load_weights()
    state = {}
    for name, value in weights.state.items():
        if value.ndim > 1:
            noise = rng.standard_normal(value.shape, np.float32) * (_NOISE * np.ptp(value))
            value = np.where(value == 0, noise, value).astype(np.float32)
        state[name] = value
    return state, {name: str(value) for name, value in weights.metadata.items()}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="to write, ending in .safetensors")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    state, metadata = dense(args.seed)
    save_file(state, args.file, metadata)
    print(f"{args.file}: {len(state)} tensors")


if __name__ == "__main__":
    main()
