"""The registry of models, and their construction; free of torch until a model is built.

Models are found through the entry-point group ``featlink.models``, Featlink's own as well as those of other packages:
see :mod:`featlink.shared.models.protocol`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from featlink.shared.errors import FeatlinkError, ModelError, type_name
from featlink.shared.features import FeatureSpec
from featlink.shared.models.config import MODELS, ModelConfig

if TYPE_CHECKING:
    from featlink.shared.models.protocol import SplitModel

GROUP = "featlink.models"

_building = threading.RLock()
"""One model is built at a time: tracing is not thread-safe, nor Python 3.11's parser, which reads NumPy's headers."""


@functools.cache
def _points() -> dict[str, EntryPoint]:
    points = entry_points(group=GROUP)
    own = [point for point in points if point.dist is not None and point.dist.name == "featlink"]
    return {point.name: point for point in (*points, *own)}  # another package must not take one of our names


def names() -> tuple[str, ...]:
    """Of all registered models, Featlink's own first."""
    return MODELS + tuple(name for name in _points() if name not in MODELS)


def is_file(model: str) -> bool:
    """Whether a model's name is a function in a file, ``my_model.py:build``."""
    return ".py:" in model


def build(config: ModelConfig, heads: bool = True) -> SplitModel:
    """Build a model and load its weights.

    Args:
        config: which model, how.
        heads: False leaves out everything behind the features, which the edge never runs.

    Raises:
        ModelError: there is no such model, device or split, or its weights cannot be had or do not fit.
    """
    with _building:
        make = _builder(config.model)
        try:
            model = _declared(make(config, heads))
        except (FeatlinkError, MemoryError):
            raise
        except Exception as error:  # another's code
            raise ModelError(
                f"the model {config.model} cannot be built with weights {config.weights!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
    if config.threads and "torch" in sys.modules:  # a model of one's own need not heed it: results depend on it
        sys.modules["torch"].set_num_threads(config.threads)
    if config.split is not None and model.split != config.split:
        raise ModelError(f"split: {config.model} cannot be cut at {config.split!r}")
    return model


def _declared(model: object) -> SplitModel:
    """What a builder gave, if it says of itself what every model says: it may be anyone's.

    Raises:
        TypeError: it does not.
    """
    from featlink.shared.models.protocol import SplitModel

    if not any(kind is SplitModel for kind in type(model).__mro__):
        raise TypeError(f"it gave {type_name(model)}, no subclass of featlink.SplitModel")
    for name, kind in (("name", str), ("weights", str), ("spec", FeatureSpec), ("categories", Sequence)):
        value = getattr(model, name, None)
        if value is None:
            raise TypeError(f"{type(model).__name__} has no `{name}`")
        if not isinstance(value, kind):
            raise TypeError(f"{type(model).__name__}.{name} is {type_name(value)}, not {kind.__name__}")
    return cast("SplitModel", model)


@contextlib.contextmanager
def starting(model: SplitModel) -> Iterator[None]:
    """Tell an error in here as one of the picture that a service sends through its model at the start.

    Raises:
        RuntimeError: another error than a :class:`FeatlinkError`, which becomes its cause.
    """
    try:
        yield
    except FeatlinkError:
        raise
    except Exception as error:  # another's code
        height, width = model.warmup_size()
        raise RuntimeError(
            f"the model {model.name} fails on the {width}×{height} picture that is sent through it at the start: "
            f"{type(error).__name__}: {error}"
        ) from error


def check(model: str) -> None:
    """Raise what :func:`build` would raise of a model's name alone.

    Raises:
        ModelError: there is no such model.
    """
    if is_file(model):
        path = Path(model.rpartition(":")[0]).expanduser()
        if not path.is_file():
            raise ModelError(f"no model at {path}")
    elif model not in _points():
        raise ModelError(f"unknown model {model!r}; known are {', '.join(names())}, or FILE.py:FUNCTION")


def _builder(model: str) -> Any:
    check(model)
    try:
        if not is_file(model):
            return _points()[model].load()
        path, _, function = model.rpartition(":")
        module = _module(Path(path).expanduser().resolve())
        if not hasattr(module, function):
            raise AttributeError(f"the file has no function {function!r}")
        return getattr(module, function)
    except Exception as error:  # another's code
        raise ModelError(f"cannot load the model {model}: {type(error).__name__}: {error}") from error


@functools.cache
def _module(path: Path) -> Any:
    name = f"featlink_model_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in it look themselves up there
    spec.loader.exec_module(module)
    return module
