"""The sweep that comes with the live page: made of the bundled scenes, packed so that it is small.

``python -m benchmarks.page_example FOLDER`` runs the sweep into the folder (stop it, and the same command goes on) and
writes ``featlink/page/assets/example.zip``. Of the detections, those that the page draws are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import tempfile
import zipfile
import zlib
from pathlib import Path

import featlink as fl
from featlink.views import THRESHOLD

CONDITIONS = [
    *(f"bottleneck(step={step}) | entropy @ bit_depth=10" for step in (0.7, 1.4, 2.8, 4.8, 9.5)),
    *(f"quantize(bits={bits})" for bits in (8, 4, 2)),
    *(f"image: vvenc(qp={qp})" for qp in (22, 27, 32, 37, 42, 47)),
    *(f"image: jpeg(quality={quality})" for quality in (5, 20, 60)),
]
TARGET = Path(__file__).parents[1] / "featlink" / "page" / "assets" / "example.zip"


def pack(folder: Path) -> None:
    """Write what the page reads of a finished sweep.

    Args:
        folder: of the sweep.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["command"] = ["featlink", "bench", "--dataset", "starter"]
    manifest["dataset"]["folder"] = None  # the page knows where the bundled scenes are
    manifest.pop("before", None)  # runs that were stopped, with their folders
    with (
        tempfile.TemporaryDirectory() as scratch,
        zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z,
    ):
        z.writestr("manifest.json", json.dumps(manifest))
        for name in ("results.json", "samples.npz"):
            z.write(folder / name, name)
        database = Path(scratch, "runs.sqlite")
        with (
            contextlib.closing(sqlite3.connect(folder / "runs.sqlite")) as whole,
            contextlib.closing(sqlite3.connect(database)) as small,
        ):
            whole.backup(small)
            for run, image, blob in small.execute("SELECT run_id, image_id, detections FROM results").fetchall():
                drawn = [one for one in json.loads(zlib.decompress(blob)) if one["score"] >= THRESHOLD]
                text = json.dumps(drawn, separators=(",", ":")).encode()
                small.execute(
                    "UPDATE results SET detections = ?, timings = '{}', fidelity = '{}' "
                    "WHERE run_id = ? AND image_id = ?",
                    (zlib.compress(text, 0), run, image),  # the archive compresses better what is alike
                )
            small.commit()
            small.execute("PRAGMA journal_mode = DELETE")
            small.execute("VACUUM")
        z.write(database, database.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    fl.sweep("starter", CONDITIONS, out=folder)
    pack(folder)
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")
