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
    from featlink.channel.codecs.base import Codec as Codec
    from featlink.channel.codecs.base import CodecError as CodecError
    from featlink.channel.codecs.base import StillCodec as StillCodec
    from featlink.channel.codecs.base import Tools as Tools
    from featlink.channel.distortions.base import Distortion as Distortion
    from featlink.channel.distortions.base import Planes as Planes
    from featlink.channel.randomness import stream as stream
    from featlink.dataset import open_dataset as open_dataset
    from featlink.shared.conditions.language import Condition as Condition
    from featlink.shared.conditions.language import parse as parse
    from featlink.shared.conditions.registry import Step as Step
    from featlink.shared.conditions.registry import register as register
    from featlink.shared.conditions.registry import steps as steps
    from featlink.shared.errors import FeatlinkError as FeatlinkError
    from featlink.shared.evaluation.protocol import Evaluator as Evaluator
    from featlink.shared.evaluation.protocol import Figure as Figure
    from featlink.shared.evaluation.protocol import register_evaluator as register_evaluator
    from featlink.shared.features import FeatureMaps as FeatureMaps
    from featlink.shared.features import FeatureSpec as FeatureSpec
    from featlink.shared.features import Pyramid as Pyramid
    from featlink.shared.features import Sizes as Sizes
    from featlink.shared.features import TensorSpec as TensorSpec
    from featlink.shared.frames.bitstream import Samples as Samples
    from featlink.shared.metrics.fidelity import Fidelity as Fidelity
    from featlink.shared.models.detections import Detections as Detections

_HOMES = {
    "featlink.channel.codecs.base": ("Codec", "CodecError", "StillCodec", "Tools"),
    "featlink.channel.distortions.base": ("Distortion", "Planes"),
    "featlink.channel.randomness": ("stream",),
    "featlink.api.deciding": ("decide",),
    "featlink.api.delivery": ("Delivery",),
    "featlink.api.evaluation": ("compare", "evaluate"),
    "featlink.api.model": ("Model", "load"),
    "featlink.api.pictures": ("draw", "read_image"),
    "featlink.api.sweeping": ("sweep",),
    "featlink.api.transmission": ("transmit",),
    "featlink.dataset": ("open_dataset",),
    "featlink.shared.conditions.language": ("Condition", "parse"),
    "featlink.shared.conditions.registry": ("Step", "register", "steps"),
    "featlink.shared.models.detections": ("Detections",),
    "featlink.shared.errors": ("FeatlinkError",),
    "featlink.shared.evaluation.protocol": ("Evaluator", "Figure", "register_evaluator"),
    "featlink.shared.frames.bitstream": ("Samples",),
    "featlink.shared.features": ("FeatureMaps", "FeatureSpec", "Pyramid", "Sizes", "TensorSpec"),
    "featlink.shared.metrics.fidelity": ("Fidelity",),
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
