"""``manifest.json``: what a sweep is, which its output folder must not change, and what it was made with."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featlink.dataset import Dataset
from featlink.errors import CommandError
from featlink.files import replace
from featlink.results import MANIFEST, load_manifest
from featlink.shared.conditions.language import parse
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import GroundTruth
from featlink.sweeps.engine import Identity
from featlink.sweeps.options import Options
from featlink.sweeps.plan import Entry

_LIBRARIES = ("torch", "torchvision", "openvino", "numpy", "opencv-python-headless", "imageio-ffmpeg", "pycocotools")
_SAME = ("dataset.digest", "dataset.truth", "model", "conditions", "fidelity")
"""What must stay the same in one folder. The engine, its threads, the limit and the shard may change."""
_BY_CALL = ("featlink", "command", "engine", "versions", "machine")
"""What may differ from call to call; the manifest keeps each."""
_FREE = ("model.weights", "model.threads")
"""The weights' path and the number of threads may; the weights' identity may not."""


def describe(
    dataset: Dataset,
    truth: GroundTruth,
    options: Options,
    identity: Identity,
    rows: Sequence[Entry],
) -> dict[str, Any]:
    """A sweep's manifest as it starts.

    Args:
        dataset: what is evaluated.
        truth: its ground truth.
        options: the sweep as asked for.
        identity: the network as the engine has it.
        rows: the conditions.
    """
    config = options.config
    model = {name: value for name, value in vars(config).items() if name not in ("model", "weights")}
    return {
        "featlink": featlink_version(),
        "created": now(),
        "finished": None,
        "command": sys.argv,
        "dataset": {
            "name": dataset.name,
            "folder": str(dataset.folder),
            "digest": dataset_digest(dataset, truth),
            "images": len(dataset.images),
        }
        | ({"truth": "clean"} if options.truth == "clean" else {}),
        "model": {"name": identity.model, "weights": config.weights, "identity": identity.weights, **model}
        | {"device": identity.device},
        "conditions": {row.id: {"text": str(row.condition), "seeds": list(row.seeds)} for row in rows},
        "fidelity": options.fidelity,
        "engine": dict(options.how),
        "versions": versions(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()},
    }


def versions() -> dict[str, str]:
    """Of what numbers depend on, by name."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES if _installed(name)}


def featlink_version() -> str:
    """Featlink's own."""
    return version("featlink") if _installed("featlink") else "not installed"


def begin(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write a manifest that goes on from what the folder has: see :func:`continued`.

    Raises:
        CommandError: the folder holds another sweep, or the manifest cannot be written.
    """
    manifest = continued(folder, manifest)
    write(folder, manifest)
    return manifest


def continued(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest to write, unless the folder has that of another sweep.

    Returns:
        The manifest, with the creation date of the sweep that is continued; ``before`` lists what differed in
        earlier calls, e.g. the versions of libraries.

    Raises:
        CommandError: the folder holds another sweep; the message names the first difference.
    """
    if (folder / MANIFEST).exists():
        earlier = load_manifest(folder)
        refuse_other(earlier, manifest, str(folder))
        before = list(earlier.get("before", []))
        if changed := {name: earlier[name] for name in _BY_CALL if name in earlier and earlier[name] != manifest[name]}:
            before.append({"until": manifest["created"], **changed})
        manifest = {**manifest, "created": earlier.get("created", manifest["created"]), "before": before}
        manifest["failed"] = earlier.get("failed", [])
    return manifest


def refuse_other(earlier: Mapping[str, Any], manifest: Mapping[str, Any], where: str) -> None:
    """Compare what must be the same.

    Raises:
        CommandError: something is not; names it.
    """
    old, new = _fixed(earlier), _fixed(manifest)
    for key in [*old, *new]:
        if old.get(key) != new.get(key):
            there, here = (str(side[key]) if key in side else "nothing" for side in (old, new))
            raise CommandError(
                f"{where} holds another sweep: {key} is {there} there, {here} here; choose another --out"
            )


def rows_of(manifest: Mapping[str, Any]) -> list[Entry]:
    """The conditions that a manifest names."""
    return [
        Entry(name, parse(condition["text"]), tuple(condition["seeds"]))
        for name, condition in manifest["conditions"].items()
    ]


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest.json``.

    Raises:
        CommandError: it cannot be written.
    """
    replace(folder / MANIFEST, json.dumps(manifest, indent=1).encode() + b"\n")


def dataset_digest(dataset: Dataset, truth: GroundTruth) -> str:
    """SHA-256 of the ground truth and of every picture's name; contents are in ``pictures.json``."""
    digest = hashlib.sha256(coco.dump(truth))
    for image_id, path in sorted(dataset.images.items()):
        digest.update(f"{image_id} {path.name}\n".encode())
    return digest.hexdigest()


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _fixed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    flat = {"model.device": "cpu", **_flat(manifest)}  # older folders do not say
    return {
        key: value
        for key, value in flat.items()
        if key not in _FREE and any(key == same or key.startswith(same + ".") for same in _SAME)
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    lines: dict[str, Any] = {}
    for key, item in value.items():
        lines |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {prefix + key: item}
    return lines


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
