"""A sweep's folder, beside its figures: the manifest, the pictures' digests, the database, failed items.

``manifest.json`` says what the sweep is, which must not change in one folder, and what it was made with;
``pictures.json`` has the content of every picture that was evaluated; ``runs.sqlite`` is the cloud's store, with
one run per condition and seed, and each picture's result stored exactly once.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from featlink.dataset import Dataset, store_name
from featlink.errors import CommandError
from featlink.results import DATABASE, MANIFEST, flattened, load_manifest
from featlink.shared.conditions.language import parse
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import GroundTruth
from featlink.shared.files import lock, replace
from featlink.shared.store import Result, Store, sqlite_url
from featlink.sweeps.engine import ItemError, ItemResult, ModelInfo
from featlink.sweeps.plan import PlannedRun, SweepOptions, by_condition

PICTURES = "pictures.json"
FAILED = "failed"
"""The manifest's key for what could not be computed."""

_LIBRARIES = ("torch", "torchvision", "openvino", "numpy", "opencv-python-headless", "imageio-ffmpeg", "pycocotools")
_SAME = ("dataset.digest", "dataset.truth", "model", "conditions", "fidelity")
"""What must stay the same in one folder. The engine, its threads, the limit and the shard may change, and conditions
may be added."""
_BY_CALL = ("featlink", "command", "engine", "versions", "machine")
"""What may differ from call to call; the manifest keeps each."""
_FREE = ("model.weights", "model.threads")
"""The weights' path and the number of threads may; the weights' identity may not."""
_MANY = 1_000_000
_LINGERS = 2.0
"""Seconds for which a sweep that was killed may hold its lock: a coder that it was just starting still has it."""
_AT_ONCE = 64
"""Results that are copied in one transaction."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other sweeps out of a folder, which is made if missing. The lock ends with the process.

    Raises:
        CommandError: another process has it.
        StorageError: it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        until = time.monotonic() + _LINGERS
        while True:
            try:
                stack.enter_context(lock(folder, wait=False))
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise CommandError(f"another sweep is running in {folder}") from None
                time.sleep(0.05)
        yield


# --- manifest.json


def describe(
    dataset: Dataset, truth: GroundTruth, options: SweepOptions, identity: ModelInfo, plan: Sequence[PlannedRun]
) -> dict[str, Any]:
    """Make a sweep's manifest as it starts.

    Args:
        dataset: what is evaluated.
        truth: its ground truth.
        options: the sweep as asked for.
        identity: the network as the engine has it.
        plan: the runs.
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
            "folder": str(dataset.source),
            "digest": dataset_digest(dataset, truth),
            "images": len(dataset.images),
        }
        | ({"truth": "clean"} if options.truth == "clean" else {})
        | ({"pictures": str(options.pictures.resolve())} if options.pictures is not None else {}),
        "model": {"name": identity.model, "weights": config.weights, "identity": identity.weights, **model}
        | {"device": identity.device}
        | ({"frames": str(options.frames.resolve())} if options.frames is not None else {}),
        "conditions": {
            id: {"text": str(runs[0].condition), "seeds": [run.condition.seed for run in runs]}
            for id, runs in by_condition(plan).items()
        },
        "fidelity": options.fidelity,
        "engine": _engine(options),
        "versions": versions(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()},
    }


def _engine(options: SweepOptions) -> dict[str, Any]:
    """What may change from call to call."""
    engine: dict[str, Any] = {
        "name": options.engine,
        "threads": options.config.threads,
        "limit": options.limit,
        "shard": f"{options.shard[0]}/{options.shard[1]}",
    }
    if options.engine == "http":
        engine["edge"] = options.edge
    if options.engine == "ray":
        engine |= {"workers": options.ray_workers, "address": options.ray_address}
    return engine


def plan_of(manifest: Mapping[str, Any]) -> list[PlannedRun]:
    """The runs that a manifest names."""
    return [
        PlannedRun(id, parse(condition["text"]).model_copy(update={"seed": seed}))
        for id, condition in manifest["conditions"].items()
        for seed in condition["seeds"]
    ]


def versions() -> dict[str, str]:
    """Versions of what numbers depend on, by name."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES if _installed(name)}


def featlink_version() -> str:
    """Featlink's own version."""
    return version("featlink") if _installed("featlink") else "not installed"


def begin(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write a manifest that goes on from what the folder has: see :func:`continued`.

    Raises:
        CommandError: the folder holds another sweep.
        StorageError: the manifest cannot be written.
    """
    manifest = continued(folder, manifest)
    write(folder, manifest)
    return manifest


def continued(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Make the manifest to write, unless the folder has that of another sweep.

    Returns:
        The manifest, with the creation date of the sweep that is continued; ``before`` lists what differed in
        earlier calls, e.g. the versions of libraries.

    Raises:
        CommandError: the folder holds another sweep; the message names the first difference.
    """
    if (folder / MANIFEST).exists():
        earlier = load_manifest(folder)
        known = {id: one for id, one in manifest["conditions"].items() if id in earlier.get("conditions", {})}
        refuse_other(earlier, {**manifest, "conditions": known}, str(folder))
        before = list(earlier.get("before", []))
        if changed := {name: earlier[name] for name in _BY_CALL if name in earlier and earlier[name] != manifest[name]}:
            before.append({"until": manifest["created"], **changed})
        manifest = {**manifest, "created": earlier.get("created", manifest["created"]), "before": before}
        manifest[FAILED] = earlier.get(FAILED, [])
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


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest.json``.

    Raises:
        StorageError: it cannot be written.
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
    flat = {"model.device": "cpu", **flattened(manifest)}  # older folders do not say
    return {
        key: value
        for key, value in flat.items()
        if key not in _FREE and any(key == same or key.startswith(same + ".") for same in _SAME)
    }


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


# --- pictures.json


def load_pictures(folder: Path) -> dict[int, str]:
    """Digests of pictures by image id; empty if the folder has none.

    Raises:
        CommandError: the file cannot be read.
    """
    path = folder / PICTURES
    if not path.exists():
        return {}
    try:
        return {int(image_id): str(digest) for image_id, digest in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        raise CommandError(f"cannot read {path}") from None


def save_pictures(folder: Path, digests: Mapping[int, str], evaluated: Collection[int]) -> None:
    """Add digests to those of earlier calls.

    Args:
        folder: the sweep's.
        digests: by image id.
        evaluated: ids of images that have a result already.

    Raises:
        CommandError: one of these has another content than it was evaluated with.
        StorageError: the file cannot be written.
    """
    earlier = load_pictures(folder)
    for image_id, digest in digests.items():
        if image_id in evaluated and earlier.get(image_id, digest) != digest:
            raise CommandError(
                f"{folder} holds another sweep: the picture of image {image_id} is another than was evaluated; "
                "choose another --out"
            )
    merged = dict(sorted({**earlier, **digests}.items()))
    if merged != earlier:
        replace(folder / PICTURES, json.dumps(merged).encode() + b"\n")


# --- runs.sqlite


class Records:
    """The sweep's database. A context manager.

    Args:
        folder: the sweep's.
        dataset: name of the data set.
        truth: its ground truth.
        identity: of the network.
        plan: the runs.

    Raises:
        CommandError: the database cannot be opened or written.
        ConflictError: it has other ground truth of that name.
    """

    def __init__(
        self, folder: Path, dataset: str, truth: GroundTruth, identity: ModelInfo, plan: Sequence[PlannedRun]
    ) -> None:
        self._folder = folder
        self.plan = plan
        with self._failing():
            self.store = Store(sqlite_url(folder.resolve() / DATABASE))
            name = self.store.put_dataset(store_name(dataset), truth).name
            known = runs_by_name(self.store)
            self.runs = [
                known.get(run.name)
                or self.store.create_run(
                    name,
                    condition=str(run.condition),
                    domain=run.condition.domain,
                    model=identity.model,
                    weights=identity.weights,
                    name=run.name,
                ).id
                for run in plan
            ]
            self._done = [self.store.done(run) for run in self.runs]

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *error: object) -> None:
        self.store.close()

    def missing(self, image_id: int) -> tuple[int, ...]:
        """Indices of the runs that have no result for an image."""
        return tuple(index for index, done in enumerate(self._done) if image_id not in done)

    def add(self, computed: ItemResult) -> None:
        """Store a result, unless there is one; when this returns, it is on disk.

        Raises:
            CommandError: it cannot be written.
        """
        with self._failing():
            self.store.add_result(self.runs[computed.run], computed.result)
        self._done[computed.run].add(computed.result.image_id)

    def copy(self, run: int, results: Iterable[Result]) -> None:
        """Store results that a run lacks, some at a time.

        Args:
            run: index of the run.
            results: each of another image.

        Raises:
            CommandError: they cannot be written.
        """
        lacking = (one for one in results if one.image_id not in self._done[run])
        while some := list(itertools.islice(lacking, _AT_ONCE)):
            with self._failing():
                self.store.add_results(self.runs[run], some)
            self._done[run].update(one.image_id for one in some)

    def evaluated(self) -> set[int]:
        """Ids of the images that have a result in any run."""
        return set().union(*self._done)

    def complete(self) -> set[int]:
        """Ids of the images that have a result in every run."""
        return set.intersection(*self._done)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise CommandError(
                f"{self._folder / DATABASE}: {reason}; what was stored is safe, and the same command continues"
            ) from None


def runs_by_name(store: Store) -> dict[str, str]:
    """Ids of a sweep's runs by their names."""
    return {run.name: run.id for run in store.runs(_MANY)}


# --- what could not be computed: listed in the manifest, and taken up by the next call


@dataclass
class Failures:
    """Why images lack results, by image and run.

    Attributes:
        names: of the runs, by index.
        files: the pictures, by image id.
    """

    names: Sequence[str]
    files: Mapping[int, Path]
    _why: dict[tuple[int, str], str] = field(default_factory=dict)

    def recall(self, manifest: Mapping[str, Any]) -> None:
        """Take over what earlier calls could not compute."""
        for entry in manifest.get(FAILED, ()):
            for name in entry["conditions"]:
                self._why[entry["image"], name] = entry["why"]

    def add(self, error: ItemError) -> None:
        """Note a failure, in place of an earlier one of the same image and run."""
        for run in error.runs:
            self._why[error.image_id, self.names[run]] = error.why

    def mended(self, image_id: int, run: int) -> None:
        """Forget what has been computed after all."""
        self._why.pop((image_id, self.names[run]), None)

    def entries(self) -> list[dict[str, Any]]:
        """One for each image and reason, as in the manifest: image, file, conditions, why."""
        grouped: dict[tuple[int, str], list[str]] = {}
        for (image_id, name), why in self._why.items():
            grouped.setdefault((image_id, why), []).append(name)
        return [
            {"image": image_id, "file": self._file(image_id), "conditions": names, "why": why}
            for (image_id, why), names in sorted(grouped.items())
        ]

    def _file(self, image_id: int) -> str:
        return self.files[image_id].name if image_id in self.files else ""


def failure_lines(entries: Sequence[Mapping[str, Any]], runs: int, most: int = 10) -> Iterator[str]:
    """Say in a line each what could not be computed.

    Args:
        entries: of :meth:`Failures.entries`.
        runs: how many runs the sweep has.
        most: entries shown.
    """
    for entry in entries[:most]:
        names = entry["conditions"]
        where = (
            "" if len(names) == runs else f" under {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")
        )
        yield f"image {entry['image']} ({entry['file']}){where}: {entry['why']}"
    if len(entries) > most:
        yield f"and {len(entries) - most} more"
