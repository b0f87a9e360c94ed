"""The features of torchvision's detectors: the levels of a feature pyramid network; free of torch."""

from __future__ import annotations

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
