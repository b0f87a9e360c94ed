"""Featlink: what a link, a codec or a distortion does to a detector's mAP.

The Python API::

    import featlink as fl

    model = fl.load("starter")
    image = fl.read_image("photo.jpg")
    clean = model.pyramid(image)
    sent = fl.transmit(clean, "vvenc(qp=40)")
    found = model.detect(sent.pyramid)
    fl.draw(image, found)

Importing it loads nothing; each name loads what it needs on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channel.codecs.base import Codec as Codec
    from channel.codecs.base import SampleCodec as SampleCodec
    from channel.codecs.base import Tools as Tools
    from channel.codecs.process import CodecError as CodecError
    from channel.distortions.base import Distortion as Distortion
    from channel.distortions.base import Planes as Planes
    from channel.randomness import stream as stream
    from featlink.api.deciding import decide as decide
    from featlink.api.delivery import Delivery as Delivery
    from featlink.api.evaluation import compare as compare
    from featlink.api.evaluation import evaluate as evaluate
    from featlink.api.model import Model as Model
    from featlink.api.model import load as load
    from featlink.api.pictures import draw as draw
    from featlink.api.pictures import read_image as read_image
    from featlink.api.sweeping import sweep as sweep
    from featlink.api.transmission import transmit as transmit
    from featlink.dataset import open_dataset as open_dataset
    from shared.conditions.language import Condition as Condition
    from shared.conditions.language import parse as parse
    from shared.conditions.registry import register as register
    from shared.conditions.registry import steps as steps
    from shared.conditions.step import Step as Step
    from shared.detector.detections import Detections as Detections
    from shared.errors import FeatlinkError as FeatlinkError
    from shared.frames.bitstream import Samples as Samples
    from shared.frames.pyramid import Pyramid as Pyramid
    from shared.metrics.fidelity import Fidelity as Fidelity

_HOMES = {
    "channel.codecs.base": ("Codec", "SampleCodec", "Tools"),
    "channel.codecs.process": ("CodecError",),
    "channel.distortions.base": ("Distortion", "Planes"),
    "channel.randomness": ("stream",),
    "featlink.api.deciding": ("decide",),
    "featlink.api.delivery": ("Delivery",),
    "featlink.api.evaluation": ("compare", "evaluate"),
    "featlink.api.model": ("Model", "load"),
    "featlink.api.pictures": ("draw", "read_image"),
    "featlink.api.sweeping": ("sweep",),
    "featlink.api.transmission": ("transmit",),
    "featlink.dataset": ("open_dataset",),
    "shared.conditions.language": ("Condition", "parse"),
    "shared.conditions.registry": ("register", "steps"),
    "shared.conditions.step": ("Step",),
    "shared.detector.detections": ("Detections",),
    "shared.errors": ("FeatlinkError",),
    "shared.frames.bitstream": ("Samples",),
    "shared.frames.pyramid": ("Pyramid",),
    "shared.metrics.fidelity": ("Fidelity",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return list(__all__)
