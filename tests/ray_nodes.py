"""Ray nodes started by hand on this machine, each with its own raylet, and gone without a trace at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from waiting import wait_until

from featlink.launcher import free_port

_CPUS = ("--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats")


class Nodes:
    """A head and nodes that join it; each has one core.

    Attributes:
        address: of the head.
    """

    def __init__(self, folder: Path, *more: str) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._seen: dict[int, psutil.Process] = {}
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        places = (f"--temp-dir={folder / 'ray'}", "--include-dashboard=false")
        self._start("--head", f"--port={port}", *places, *more)

    def join(self) -> int:
        """Start another node, and return its place in the order of starts; the head's is 0."""
        self._start(f"--address={self.address}")
        return len(self._started) - 1

    def kill(self, node: int) -> None:
        """``kill -9`` a node's raylet; its workers go with it."""
        raylets = [one for one in self._children(node) if one.name() == "raylet"]
        assert len(raylets) == 1
        raylets[0].kill()

    def stop(self) -> None:
        """End every process, the youngest node's first."""
        for node in range(len(self._started)):
            self._children(node)
        for process in [*reversed(self._started), *self._seen.values()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self._started:
            process.wait(timeout=10)
        psutil.wait_procs(list(self._seen.values()), timeout=10)

    def _start(self, *arguments: str) -> None:
        before = self._raylets()
        with (self._folder / f"{len(self._started)}.log").open("wb") as log:
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments, *_CPUS]
            environment = {
                **os.environ,
                "XDG_CACHE_HOME": str(self._folder / f"cache{len(self._started)}"),
                "RAY_worker_niceness": "0",  # else workers starve on a machine with other work
                "RAY_local_fs_capacity_threshold": "1",  # else nothing is stored where 95 % of the disk are taken
            }
            self._started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        written = self._folder / f"{len(self._started) - 1}.log"

        def has_started() -> bool:
            assert self._started[-1].poll() is None, written.read_text()
            return b"Ray runtime started" in written.read_bytes()

        wait_until(has_started, "a Ray node")
        assert self._raylets() > before

    def _raylets(self) -> int:
        return sum(one.name() == "raylet" for node in range(len(self._started)) for one in self._children(node))

    def _children(self, node: int) -> list[psutil.Process]:
        try:
            found = psutil.Process(self._started[node].pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen |= {one.pid: one for one in found}
        return found


@contextlib.contextmanager
def ray_nodes(*more: str) -> Iterator[Nodes]:
    """A cluster of one node, with further arguments of ``ray start``; nodes can join and die."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # sockets lie in it, whose paths must be short
    try:
        nodes = Nodes(folder, *more)
        try:
            yield nodes
        finally:
            nodes.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
