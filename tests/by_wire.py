"""A pyramid as the other end gets it."""

from __future__ import annotations

from featlink.shared.features import FeatureMaps
from featlink.shared.fpn import FPN
from featlink.shared.frames import wire


def over_the_wire(pyramid: FeatureMaps) -> FeatureMaps:
    """Write it into a frame, and read that."""
    meta = wire.Meta("feature", "m", "w", pyramid.sizes)
    tensors = tuple(wire.Tensor(name, level) for name, level in pyramid.levels.items())
    frame = wire.read(b"".join(wire.write(wire.Frame(meta, tensors))))
    return FeatureMaps({name: frame.tensor(name).data for name in FPN.names}, frame.meta.sizes)  # type: ignore[misc]
