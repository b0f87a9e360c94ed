"""The ``ray`` engine: a pool of workers on this machine or a Ray cluster, in which failed workers are replaced.

A worker is a Ray actor around a ``local`` engine; Ray places it, and starts it once a node has room. It computes one
clip at a time, or one still, and sends results run by run, so that the results of a lost worker are kept, and another
worker computes the rest. Ray's own restarts would delay a picture until its worker fits again, and compute all anew.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import os
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from featlink.channel.codecs.base import Tools
from featlink.errors import CommandError
from featlink.shared import files
from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import chain
from featlink.shared.errors import FeatlinkError, ModelError
from featlink.shared.fitted import HOME, home
from featlink.shared.models.checkpoints import identity, sidecar_file, weights_file
from featlink.shared.models.config import DETECTORS, MODELS, ModelConfig
from featlink.shared.models.registry import check, is_file
from featlink.starter.bundle import fitted_to
from featlink.sweeps.engine import Frame, ItemError, ItemResult, ModelInfo, WorkItem
from featlink.sweeps.folder import featlink_version, versions
from featlink.sweeps.local import LocalEngine, build_local

_log = logging.getLogger(__name__)

_REACH_S = 10
"""Seconds that a cluster has to answer in."""
_LOOK_S = 5
"""Seconds between two looks at which nodes there are."""
_MEMORY_LOOK_S = 0.1
_OBJECT_STORE = 256 << 20
"""Bytes of a cluster that is started here; a picture's file and its detections are all that goes through it."""
_LOSSES = 3
"""Workers that one picture may end; then it is given up, and the others go on."""
_IN_VAIN = 30
"""Workers lost in a row, without a result between, that end the sweep."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Cluster:
    """Where the workers run.

    Attributes:
        workers: how many at most, each with the model; None for as many as there is room for.
        address: of a Ray cluster; None starts one here.
        memory_per_worker: bytes that a worker may hold: Ray puts no more workers on a node than it has memory for, and
            one that holds more is ended; 0 for no bound but Ray's own for the node.
        patience_s: seconds to wait for a worker when there is none.
    """

    workers: int | None
    address: str | None = None
    memory_per_worker: int = 0
    patience_s: float = 600


class RayEngine:
    """Results are those of the ``local`` engine. A context manager; leaving it stops the workers.

    Workers that have no room wait, in Ray, for a node that joins. One that cannot be opened is not asked for again.

    Args:
        config: the model; ``threads`` are each worker's, 0 shares the cluster's cores out; ``device`` is of all, and
            ``auto`` a GPU for each where the cluster has any.
        conditions: by index.
        fidelity: measure it.
        cluster: where.

    Raises:
        CommandError: Ray is not installed, cannot be reached, or no worker can be started.
        ModelError: the weights cannot be had, or the model's file is not there.
    """

    def __init__(self, config: ModelConfig, conditions: Sequence[Condition], fidelity: bool, cluster: Cluster) -> None:
        check(config.model)
        self._cluster = cluster
        self._ray = _connect(cluster.address, max(os.cpu_count() or 1, (cluster.workers or 1) * max(1, config.threads)))
        try:
            nodes = self._nodes()
            on_gpus = config.device.startswith("cuda") or (config.device == "auto" and any(node.gpus for node in nodes))
            self._need = share(nodes, cluster, config.threads, on_gpus)
            # All on one kind of device, as numbers differ between kinds. Ray shows each worker its own GPU alone.
            config = config.but(threads=self._need.threads, device="cuda" if on_gpus else "cpu")
            parcel = None if cluster.address is None else pack(_weights(config), self._ray.put, config.model)
            self._order = Order(config, tuple(conditions), fidelity, _deciding(), self._need.memory, parcel)
            self._actor = self._ray.remote(
                num_cpus=self._need.threads,
                num_gpus=self._need.gpus,
                memory=self._need.memory or None,
                max_restarts=0,
                scheduling_strategy="SPREAD",
            )(Worker)
            self._opening: dict[Any, Any] = {}
            self._members: set[Any] = set()
            self._idle: deque[Any] = deque()
            self._refused = 0
            self._why: FeatlinkError = CommandError("Ray: no worker can be started")
            self._room, self._looked = 0, -math.inf
            self.identity = ModelInfo("", "")
            self._wait_for_one()
        except self._ray.exceptions.RayError as error:  # no room for the weights in the object store, among others
            self.close()
            raise CommandError(f"Ray: {_lines(error)[0]}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers, and the cluster if it was started here."""
        self._ray.shutdown()

    @property
    def workers(self) -> list[Any]:
        """Ray's handles of the workers that are at work or ready for it."""
        return list(self._members)

    def run(self, items: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        """See :class:`featlink.sweeps.engine.Engine`."""
        source = iter(items)
        again: deque[WorkItem] = deque()
        losses: Counter[str] = Counter()
        done: set[tuple[int, int]] = set()
        in_vain = 0
        busy: dict[Any, _Share] = {}
        while True:
            self._grow()
            while self._idle and (item := again.popleft() if again else next(source, None)):
                sent = self._sent(item)
                if isinstance(sent, str):
                    yield from item.failed(sent)
                    continue
                worker = self._idle.popleft()
                stream = worker.compute.options(num_returns="streaming").remote(sent)
                busy[stream] = _Share(
                    worker, item, sent, {(run, one.image_id) for run in item.runs for one in item.frames}
                )
            if not busy:
                if not again and (item := next(source, None)) is None:
                    return
                if not again and item is not None:
                    again.append(item)
                self._wait_for_one()
                continue
            stream = self._wait(busy)
            if stream is None:
                continue
            share = busy[stream]
            try:
                computed = self._next(stream)
            except _LostError as lost:
                del busy[stream]
                self._members.discard(share.worker)
                self._ray.kill(share.worker)  # gone, or only without an answer
                in_vain += 1
                if in_vain >= max(_IN_VAIN, _LOSSES * len(self._members)):
                    raise CommandError(f"{in_vain} workers in a row were lost without a result: {lost}") from None
                left = replace(share.item, runs=tuple(sorted({run for run, _ in share.missing})))
                losses[left.name] += 1
                if losses[left.name] == _LOSSES:
                    for frame in share.item.frames:
                        if runs := tuple(run for run in left.runs if (run, frame.image_id) in share.missing):
                            yield ItemError(frame.image_id, runs, f"ended {_LOSSES} workers: {lost}")
                    continue
                _log.warning("a worker was lost; %s goes to another: %s", left.name, lost)
                again.append(left)
                done |= {(run, one.image_id) for run in left.runs for one in left.frames} - share.missing
            else:
                if computed is None:
                    self._idle.append(busy.pop(stream).worker)
                    continue
                in_vain = 0
                if isinstance(computed, ItemError):
                    found = {(run, computed.image_id) for run in computed.runs}
                else:
                    found = {(computed.run, computed.result.image_id)}
                share.missing -= found
                if not found <= done:  # as it may be of a clip that is computed again
                    yield computed

    def _sent(self, item: WorkItem) -> SentItem | str:
        """The work with its pictures in Ray's store, which spills to disk; or why one of them cannot be read."""
        pictures = []
        for frame in item.frames:
            data = frame.read()
            if isinstance(data, str):
                return data
            pictures.append((frame.image_id, self._ray.put(data)))
        return SentItem(tuple(pictures), item.runs, item.clip)

    def _next(self, stream: Any) -> ItemResult | ItemError | None:
        """A stream's next result; None at its end.

        Raises:
            FeatlinkError: the engine's own.
            _LostError: there will be none: the worker, its node or its memory is gone.
        """
        try:
            computed: ItemResult | ItemError = self._ray.get(next(stream))
        except StopIteration:
            return None
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, FeatlinkError):
                raise error.cause from None
            raise _LostError(repr(error.cause)) from None
        except self._ray.exceptions.RayError as error:  # the worker is gone, or a result on its node's disk
            raise _LostError(_lines(error)[0]) from None
        return computed

    def _grow(self) -> None:
        """Ask for the workers that are lacking."""
        wanted = self._cluster.workers
        if wanted is None:
            if time.monotonic() - self._looked > _LOOK_S:
                self._looked, self._room = time.monotonic(), room(self._nodes(), self._need)
            wanted = max(1, self._room)
        while len(self._members) + len(self._opening) + self._refused < wanted:
            worker = self._actor.remote(self._order, self._ray.get)
            self._opening[worker.open.remote()] = worker

    def _wait(self, streams: Iterable[Any]) -> Any:
        """The stream that has something; None after a while without, or when a worker has been opened."""
        ready, _ = self._ray.wait([*streams, *self._opening], num_returns=1, timeout=_LOOK_S)
        if not ready or ready[0] not in self._opening:
            return ready[0] if ready else None
        worker = self._opening.pop(ready[0])
        try:
            self.identity = self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            self._ray.kill(worker)
            self._refused += 1
            cause = getattr(error, "cause", None)
            self._why = (
                cause
                if isinstance(cause, FeatlinkError)
                else CommandError(f"Ray: no worker can be started: {_lines(error)[-1]}")
            )
            if self._members or self._opening:  # else it is the error that ends the sweep
                _log.warning("a worker cannot be used: %s", self._why)
        else:
            self._members.add(worker)
            self._idle.append(worker)
        return None

    def _wait_for_one(self) -> None:
        """Return once a worker is idle, where all are idle or opening.

        Raises:
            FeatlinkError: none can be opened, or there was no room for one for too long.
        """
        until, told = time.monotonic() + self._cluster.patience_s, False
        while not self._idle:
            self._grow()
            if not self._opening:
                raise self._why
            self._wait([])
            if not self._idle and not told and not room(self._nodes(), self._need):
                _log.warning("waiting for a node with room for a worker, which takes %s", self._need)
                told = True
            if not self._idle and time.monotonic() > until:
                raise CommandError(
                    f"Ray: no worker could be started within {self._cluster.patience_s:.0f} s; one takes {self._need}"
                )

    def _nodes(self) -> list[Node]:
        resources = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [Node(one.get("CPU", 0), one.get("GPU", 0), one.get("memory", 0)) for one in resources]


@dataclass
class _Share:
    """What a worker is doing."""

    worker: Any
    item: WorkItem
    sent: SentItem
    """Kept as long as the worker may ask for its pictures."""
    missing: set[tuple[int, int]]
    """Runs and image ids without a result."""


class _LostError(Exception):
    """A worker that will not answer, and why."""


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


def _connect(address: str | None, cores: int) -> Any:
    """Join a cluster, or start one with so many cores; returns the module ``ray``."""
    try:
        import ray  # an extra, which nothing else needs
    except ImportError:
        raise CommandError("the ray engine needs Ray: pip install 'featlink[ray]'") from None
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # keeps Ray from sending usage statistics
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        how |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    else:
        _check_reachable(address)
    try:
        ray.init(address=address or "local", **how)
    except (OSError, RuntimeError, ValueError) as error:
        reason, hint = _lines(error)[0], ""
        if "AF_UNIX" in reason:
            hint = "; set TMPDIR to a shorter path"
        elif "onnect to Ray cluster" in reason and not os.environ.get("RAY_AUTH_MODE"):
            hint = "; if it asks for a token, set RAY_AUTH_MODE=token"
        raise CommandError(f"Ray: {reason}{hint}") from None
    return ray


def _check_reachable(address: str) -> None:
    """Find out in seconds whether a cluster answers; Ray itself tries for minutes."""
    if address.startswith("ray://"):
        raise CommandError(
            f"Ray: {address} is Ray Client's address; run this on a node of the cluster, with --ray-address HEAD:6379"
        )
    match = re.fullmatch(r"(?P<host>.+):(?P<port>\d+)", address)
    if match is None:  # such as "auto", which Ray resolves
        return
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise CommandError(f"Ray: nothing answers at {address}: {error}") from None


# --- how many workers, and what each takes


class Node(NamedTuple):
    """What Ray may hand out on one machine: cores, GPUs, bytes of memory."""

    cpus: float
    gpus: float = 0
    memory: float = 0


class Need(NamedTuple):
    """What one worker takes: threads, each a core; one GPU, the n-th part of one, or 0; bytes of memory, 0 for any."""

    threads: int
    gpus: float = 0
    memory: int = 0

    def __str__(self) -> str:
        memory = f" and {self.memory / 1e9:g} GB" if self.memory else ""
        return f"{self.threads} cores{f', {self.gpus:g} GPUs' if self.gpus else ''}{memory}"


def room(nodes: Iterable[Node], need: Need) -> int:
    """Count the workers that fit, each on one node.

    Example:
        >>> room([Node(8), Node(3)], Need(threads=2))
        5
        >>> room([Node(8, gpus=1), Node(64)], Need(threads=2, gpus=0.5))
        2
    """
    return sum(_on(node, need) for node in nodes)


def _on(node: Node, need: Need) -> int:
    pairs = ((node.cpus, need.threads), (node.memory, need.memory))
    fitting = [int(has / takes + _ROUNDING) for has, takes in pairs if takes]
    if need.gpus:  # each has its part of one GPU, not of two
        fitting.append(int(node.gpus) * round(1 / need.gpus))
    return min(fitting)


def share(nodes: Sequence[Node], cluster: Cluster, threads: int, on_gpus: bool) -> Need:
    """Share a cluster out among its workers: GPUs evenly, and cores where ``threads`` is 0.

    Then there are as many workers as asked for, or one for each node or each GPU, with the most threads for which all
    of them have room.

    Example:
        >>> share([Node(8), Node(3)], Cluster(None), 0, False), share([Node(8), Node(3)], Cluster(4), 0, False)
        (Need(threads=4, gpus=0.0, memory=0), Need(threads=2, gpus=0.0, memory=0))
    """
    there = sum(int(node.gpus) for node in nodes)
    gpus = 1 / math.ceil(cluster.workers / there) if cluster.workers and there else 1.0
    if not on_gpus or (cluster.address is None and not there):  # there will never be one: a worker says so
        gpus = 0.0
    need = Need(threads or 1, gpus, cluster.memory_per_worker)
    if threads:
        return need
    workers = cluster.workers or sum(_on(node, need) if gpus else min(1, _on(node, need)) for node in nodes)
    most = int(max((node.cpus for node in nodes), default=1))
    sizes = (need._replace(threads=size) for size in range(most, 1, -1))
    return next((size for size in sizes if room(nodes, size) >= max(1, workers)), need)


# --- what a worker must have as the sender has it: weights, and what was fitted to them, known by their digests

Fetch = Callable[[Any], Any]
"""A reference to a file's content to the content, uint8 (bytes,). Ray carries a file to each node once."""


class SentFile(NamedTuple):
    """A file of the sender's: where it lies there, its SHA-256, and a reference to its content."""

    path: Path
    sha256: str
    content: Any


class Parcel(NamedTuple):
    """The weights, None for the bundled ones, which every worker has; and what was fitted to them or lies beside them.

    The sidecar is :class:`featlink.shared.models.checkpoints.Sidecar`; the model a file of one's own, without what it
    imports.
    """

    weights: SentFile | None
    fitted: tuple[SentFile, ...]
    sidecar: SentFile | None = None
    model: SentFile | None = None


def _weights(config: ModelConfig) -> Path | None:
    """Their file, if they have one: what they are called is for a model of another package or file to say."""
    if config.model in (*MODELS, *DETECTORS):
        return weights_file(config.weights, config.model)
    path = Path(config.weights).expanduser()
    return path if path.is_file() else None


def pack(weights: Path | None, put: Callable[[Any], Any], model: str = "") -> Parcel:
    """Read the files on the sender's side.

    Args:
        weights: their file; None for the bundled ones.
        put: content, uint8 (bytes,), to a reference that any worker can fetch.
        model: its name; a file of one's own is sent.

    Raises:
        ModelError: a file cannot be read.
    """
    sent, sidecar, known_as = None, None, fitted_to()
    if weights is not None:
        sent, beside = _sent(weights, put), sidecar_file(weights)
        sidecar = _sent(beside, put) if beside.exists() else None
        known_as = identity(sent.sha256, None if sidecar is None else beside.read_bytes())
    fitted = sorted(home().glob(f"*-{known_as}*.safetensors"))
    own = _sent(Path(model.rpartition(":")[0]).expanduser(), put) if is_file(model) else None
    return Parcel(sent, tuple(_sent(path, put) for path in fitted), sidecar, own)


def unpack(parcel: Parcel, fetch: Fetch) -> str | None:
    """Have the files on the worker's side; its process then finds the sender's fitted files, and no others.

    A file that lies where the sender has it, with the same digest, is used there; so is one that an earlier sweep
    brought, in ``featlink`` in the user's cache (``XDG_CACHE_HOME``).

    Returns:
        The weights' path; None for the bundled ones.

    Raises:
        ModelError: what arrived does not have its digest.
        StorageError: it cannot be written.
    """
    cache = files.cache()
    together = hashlib.sha256("".join(f"{one.path.name} {one.sha256}\n" for one in parcel.fitted).encode()).hexdigest()
    fitted = cache / "fitted" / together
    for one in parcel.fitted:
        _store(one, fitted / one.path.name, fetch)
    os.environ[HOME] = str(fitted)
    if parcel.weights is None:
        return None
    weights, sidecar = parcel.weights, parcel.sidecar
    beside = sidecar_file(weights.path)
    same_beside = not beside.exists() if sidecar is None else _has(beside, sidecar.sha256)
    if same_beside and _has(weights.path, weights.sha256):
        return str(weights.path)
    folder = cache / "weights" / ("" if sidecar is None else sidecar.sha256)
    path = folder / f"{weights.sha256}{weights.path.suffix}"
    _store(weights, path, fetch)
    if sidecar is not None:
        _store(sidecar, sidecar_file(path), fetch)
    return str(path)


def unpack_model(parcel: Parcel, model: str, fetch: Fetch) -> str:
    """Have a model's file on the worker's side; the name by which it is known there.

    Raises:
        ModelError: what arrived does not have its digest.
        StorageError: it cannot be written.
    """
    if parcel.model is None:
        return model
    path = files.cache() / "models" / parcel.model.sha256 / parcel.model.path.name
    _store(parcel.model, path, fetch)
    return f"{path}:{model.rpartition(':')[2]}"


def _sent(path: Path, put: Callable[[Any], Any]) -> SentFile:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    return SentFile(path.resolve(), hashlib.sha256(content.data).hexdigest(), put(content))


def _store(sent: SentFile, path: Path, fetch: Fetch) -> None:
    with files.lock(path.parent, wait=True):  # the other workers of this node wait for it, and find it
        if _has(path, sent.sha256):
            return
        content = fetch(sent.content)
        if hashlib.sha256(content.data).hexdigest() != sent.sha256:
            raise ModelError(f"{path.name} arrived damaged")
        files.replace(path, content.data)


def _has(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


# --- what runs on the nodes


@dataclass(frozen=True)
class Order:
    """What a worker is for.

    Attributes:
        config: the network.
        conditions: by index.
        fidelity: measure it.
        versions: what decides results, as the sender has it.
        memory: bytes that the worker may hold; 0 for no bound of its own.
        parcel: files that it needs; None on the sender's machine, where they are.
        tools: the codecs' programs, as the sender's environment names them.
    """

    config: ModelConfig
    conditions: tuple[Condition, ...]
    fidelity: bool
    versions: dict[str, str] = field(default_factory=dict)
    memory: int = 0
    parcel: Parcel | None = None
    tools: Tools = field(default_factory=Tools)


class SentItem(NamedTuple):
    """:class:`WorkItem` on its way: image ids with references to the pictures' files, runs, and the clip's name."""

    pictures: tuple[tuple[int, Any], ...]
    runs: tuple[int, ...]
    clip: str | None


class Worker:
    """Ray's actor.

    Args:
        order: what it is for.
        fetch: how it gets a file's content.
    """

    def __init__(self, order: Order, fetch: Fetch) -> None:
        self._order = order
        self._fetch = fetch

    def open(self) -> ModelInfo:
        """Get the files and load the model. The constructor does not, because Ray wraps its errors.

        Raises:
            CommandError: the node's numbers could differ from the sender's; names the first difference.
            FeatlinkError: a condition or the model cannot be used here.
        """
        here = _deciding()
        for name, there in self._order.versions.items():
            if here.get(name, "none") != there:
                raise CommandError(f"its node has {name} {here.get(name, 'none')}, this one {there}")
        if self._order.memory:
            threading.Thread(target=_end_beyond, args=(self._order.memory,), daemon=True).start()
        for condition in self._order.conditions:
            chain(condition)  # a step that this node does not know is an error now, not in the midst of the sweep
        config = self._order.config
        if (parcel := self._order.parcel) is not None:
            weights = unpack(parcel, self._fetch) or config.weights
            config = config.but(weights=weights, model=unpack_model(parcel, config.model, self._fetch))
        self._engine: LocalEngine = build_local(config, self._order.conditions, self._order.fidelity, self._order.tools)
        return self._engine.identity

    def compute(self, item: SentItem) -> Iterator[ItemResult | ItemError]:
        """Compute one clip, whose pictures are fetched one at a time; :meth:`open` comes first."""
        frames = (Frame(image_id, functools.partial(self._fetch, sent)) for image_id, sent in item.pictures)
        yield from self._engine.run([WorkItem(tuple(frames), item.runs, item.clip)])


def _deciding() -> dict[str, str]:
    """Versions of what decides results, on this machine. How a library was built, such as for a GPU, is left out."""
    found = {"featlink": featlink_version(), **versions()}
    return {name: version.partition("+")[0] for name, version in found.items() if name != "python"}


def _end_beyond(memory: int) -> None:
    """End this process as soon as it holds more than so many bytes; where that cannot be known, return."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        try:
            held = int(Path("/proc/self/statm").read_text().split()[1]) * page
        except OSError:  # not Linux
            return
        if held > memory:
            _log.error("a worker of %.2f GB is ended: it may hold %.2f", held / 1e9, memory / 1e9)
            os._exit(1)
        time.sleep(_MEMORY_LOOK_S)
