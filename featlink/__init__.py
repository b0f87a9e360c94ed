"""Featlink: what a link, a codec or a distortion does to a detector's mAP.

The Python API::

    import featlink as fl

    model = fl.load("starter")
    image = fl.read_image("photo.jpg")
    clean = model.pyramid(image)
    sent = fl.transmit(clean, "vvenc(qp=40)")
    found = model.detect(sent.pyramid)
    fl.draw(image, found)

Importing it loads nothing; each name loads what it needs on first use. ``__init__.pyi`` lists the names.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_HOMES = {
    name.name: f"{__name__}.{line.module}"
    for line in ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
    if isinstance(line, ast.ImportFrom)
    for name in line.names
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return list(__all__)
