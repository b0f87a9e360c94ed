"""What crosses the link of a ResNet-50 with a feature pyramid, by where it is cut; free of torch."""

from __future__ import annotations

from featlink.shared.errors import ModelError
from featlink.shared.features import FeatureSpec, TensorSpec

FPN = FeatureSpec(
    (
        TensorSpec("p2", 256, 4),
        TensorSpec("p3", 256, 8),
        TensorSpec("p4", 256, 16),
        TensorSpec("p5", 256, 32),
        TensorSpec("p6", 256, 64, source="p5"),  # a max-pool of kernel 1 and stride 2
    ),
    divisor=32,
)
"""Of ResNet-50 with FPN; Lin et al., Feature Pyramid Networks for Object Detection (2017)."""

_STAGES = tuple(TensorSpec(f"c{level}", 64 << level, 1 << level) for level in range(2, 6))
"""Outputs of ResNet-50's four stages; He et al., Deep Residual Learning (2016), table 1."""

PYRAMID = "p2-p6"
SPLITS = {
    "stem": FeatureSpec((TensorSpec("stem", 64, 4),), divisor=32),
    "c2": FeatureSpec(_STAGES[:1], divisor=32),
    "c2-c5": FeatureSpec(_STAGES, divisor=32),
    PYRAMID: FPN,
}
"""Split points, the earliest first: behind the stem's max-pool, the first stage, all stages, and the pyramid."""


def checked_split(split: str | None) -> str:
    """A split point that exists; the default, :data:`PYRAMID`, where none is named.

    Raises:
        ModelError: there is none of that name.
    """
    if split is None:
        return PYRAMID
    if split not in SPLITS:
        raise ModelError(f"split: {split!r} is no split point of this model; known are {', '.join(SPLITS)}")
    return split
