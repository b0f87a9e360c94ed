"""Render the sprites of the scene generator from emoji sets in npm's registry; run once, its result is in the package.

``npm pack`` the packages of :data:`featlink.starter.styles.STYLES` into one folder, then::

    pip install resvg_py
    python -m training.build_sprites FOLDER

The result, ``starter/data/sprites.zip``, holds one lossless WebP per drawing and ``index.json``, which gives the
category, style, artwork and part of the split of each.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from featlink.starter.bundle import DATA
from featlink.starter.styles import CATEGORIES, HELD_OUT_STYLE, STYLES, VALIDATION, Style

SIZE = 192
"""Longer side of a sprite in pixels."""

Picture = npt.NDArray[np.uint8]
Drawings = Callable[[str], Picture | None]


def build(folder: Path, out: Path) -> None:
    """Render every drawing of :data:`featlink.starter.styles.CATEGORIES` that the packages in ``folder`` have.

    Args:
        folder: with the ``.tgz`` files of ``npm pack``.
        out: the archive to write.
    """
    entries: list[dict[str, Any]] = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for picture, entry in _sprites(folder):
            file = f"{len(entries):03d}.webp"
            _, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])  # 101: lossless
            archive.writestr(zipfile.ZipInfo(file), data.tobytes())
            entries.append({"file": file, **entry})
        archive.writestr(zipfile.ZipInfo("index.json"), json.dumps(entries, indent=0))


def _sprites(folder: Path) -> Iterator[tuple[Picture, dict[str, Any]]]:
    for style in STYLES:
        draw = _drawings(folder, style)
        for category, artworks in CATEGORIES.items():
            for artwork, names in artworks.items():
                work = f"{style.family}/{artwork}"
                entry = {"category_id": category, "style": style.name, "artwork": work, "part": _part(style, work)}
                for picture in _pictures(draw, style, names.split()):
                    yield picture, entry


def _part(style: Style, work: str) -> str:
    if style.name == HELD_OUT_STYLE:
        return "held-out"
    return "val" if work in VALIDATION else "train"


def _pictures(draw: Drawings, style: Style, names: list[str]) -> list[Picture]:
    """The different pictures among ``names``: a set may use one for two names."""
    found: list[Picture] = []
    for name in names:
        picture = None if name in style.without else draw(style.names.get(name, name))
        if picture is not None:
            picture = _trim(picture)
            if not any(np.array_equal(picture, other) for other in found):
                found.append(picture)
    return found


def _drawings(folder: Path, style: Style) -> Drawings:
    members = _package(folder, style.package)
    if "icons.json" in members:
        return _vector_set(json.loads(members["icons.json"]))
    pictures = {Path(name).stem: data for name, data in members.items() if name.endswith(".webp")}
    codes = json.loads(_package(folder, STYLES[0].package)["chars.json"])  # this set's files are named by code point
    return _picture_set(pictures, codes)


def _package(folder: Path, name: str) -> dict[str, bytes]:
    [path] = folder.glob(name.removeprefix("@").replace("/", "-") + "-[0-9]*.tgz")
    members = {}
    with tarfile.open(path) as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member)
            if file is not None:
                members[member.name.removeprefix("package/")] = file.read()
    return members


def _vector_set(icons: dict[str, Any]) -> Drawings:
    import resvg_py  # needed here only, so no dependency of the package

    def draw(name: str) -> Picture | None:
        for alias in (name, f"{name}-face", name.replace("cat", "cat-face"), name.replace("motor-boat", "motorboat")):
            icon = icons["icons"].get(icons.get("aliases", {}).get(alias, {}).get("parent", alias))
            if icon is not None:
                break
        else:
            return None
        width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}" width="512" height="512">'
            f"{icon['body'].replace('1em', '512')}</svg>"
        )
        return _decoded(bytes(resvg_py.svg_to_bytes(svg_string=svg)))

    return draw


def _picture_set(pictures: dict[str, bytes], codes: dict[str, str]) -> Drawings:
    files = {name: code for code, name in codes.items() if code in pictures}
    files |= {name: f"{code}-fe0f" for code, name in codes.items() if f"{code}-fe0f" in pictures}

    def draw(name: str) -> Picture | None:
        return _decoded(pictures[files[name]]) if name in files else None

    return draw


def _decoded(data: bytes) -> Picture:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        raise ValueError("not a picture with an alpha channel")
    return picture.astype(np.uint8, copy=False)


def _trim(picture: Picture) -> Picture:
    """Crop to what is opaque, scale the longer side to :data:`SIZE`."""
    rows, columns = np.nonzero(picture[..., 3] > 8)
    picture = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = SIZE / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC).astype(np.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the .tgz files of npm pack are")
    parser.add_argument("--out", type=Path, default=DATA / "sprites.zip")
    arguments = parser.parse_args()
    build(arguments.folder, arguments.out)
