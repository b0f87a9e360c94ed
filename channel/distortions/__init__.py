"""The distortions, by name. To add one: a file, its test, and a line here."""

from __future__ import annotations

from channel.distortions.base import Distortion
from channel.distortions.quantize import Quantize

DISTORTIONS: dict[str, type[Distortion]] = {
    "quantize": Quantize,
}
