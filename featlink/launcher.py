"""The three services, and the live page, as local processes: started together, watched, stopped together."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx

from featlink.client import http_client, refusal
from featlink.errors import CommandError
from featlink.shared.models.config import ModelConfig

LogLine = Callable[[str, str], None]
"""Called with a service's name and a line of its log."""

_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""glibc gives up to 64 MiB of freed memory back late: a frame comes in thousands of small buffers, and a page fault for
every 4 KiB of them takes more time than all copies."""
_STOP_SECONDS = 70
"""Seconds; a little more than services give their accepted requests to finish."""

_FATAL = "cannot start"
_RESTARTS, _WITHIN_SECONDS = 5, 600.0
"""How often one service is started again in how long; more is no accident."""


def _scheme() -> str:
    return "https" if os.environ.get("FEATLINK_TLS_CERT") else "http"


@dataclass(frozen=True)
class Ports:
    """Where the services listen on 127.0.0.1, and how they are asked; the page only if it has a port."""

    edge: int = 8001
    channel: int = 8002
    cloud: int = 8003
    page: int | None = None
    scheme: str = field(default_factory=_scheme)

    @property
    def edge_url(self) -> str:
        """Base URL of the edge."""
        return f"{self.scheme}://127.0.0.1:{self.edge}"

    @property
    def channel_url(self) -> str:
        """Base URL of the channel."""
        return f"{self.scheme}://127.0.0.1:{self.channel}"

    @property
    def cloud_url(self) -> str:
        """Base URL of the cloud."""
        return f"{self.scheme}://127.0.0.1:{self.cloud}"

    @property
    def page_url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.page}"

    @property
    def names(self) -> tuple[str, ...]:
        """What listens, in the order in which it is stopped: nothing is asked that has stopped already."""
        return (*(() if self.page is None else ("page",)), "edge", "channel", "cloud")


def service_settings(config: ModelConfig, database: Path, keep_bitstreams: Path | None = None) -> dict[str, str]:
    """``FEATLINK_*`` settings, without the prefix; services take what is not set here from the environment.

    Args:
        config: the network of edge and cloud.
        database: the SQLite file in which the cloud keeps its runs.
        keep_bitstreams: the folder in which the channel keeps codecs' bitstreams; None keeps none.
    """
    settings = {
        **vars(config),
        "database_url": str(database.resolve()),
        "keep_bitstreams": keep_bitstreams and keep_bitstreams.resolve(),
    }
    return {name: str(value) for name, value in settings.items() if value is not None}


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def free_or(port: int) -> int:
    """This port if it is free, else another."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return free_port()
    return port


def free_ports() -> Ports:
    """Three ports that are free now."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        return Ports(*(s.getsockname()[1] for s in sockets))


@dataclass
class Stack:
    """Edge, channel and cloud as child processes; a context manager that starts and stops them.

    Once they were ready, a service that dies is started again, up to 5 times in 10 minutes.

    Args:
        ports: where they listen.
        settings: further ``FEATLINK_*`` settings, without the prefix, for all three.
        log: called with each line they log.
    """

    ports: Ports
    settings: Mapping[str, str]
    log: LogLine
    _processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    _readers: dict[str, threading.Thread] = field(default_factory=dict)
    _last_line: dict[str, str] = field(default_factory=dict)
    _restarts: dict[str, list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _watcher: threading.Thread | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _failure: str | None = None

    def __enter__(self) -> Stack:
        for name in self.ports.names:
            _check_free(name, getattr(self.ports, name))
        try:
            for name in reversed(self.ports.names):  # the last to start needs the others
                self._start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ready(self, timeout_s: float = 600) -> None:
        """Wait until the edge, and so everything behind it, is ready.

        Args:
            timeout_s: long enough for a download of official weights.

        Raises:
            CommandError: a service stopped, or the time ran out.
        """
        deadline, reason = time.monotonic() + timeout_s, "the edge does not answer"
        with http_client(self.ports.edge_url, timeout_s=5) as client:
            while time.monotonic() < deadline:
                self.check()
                try:
                    response = client.get("/readyz")
                except httpx.TransportError as error:  # not listening yet
                    reason = str(error) or reason
                else:
                    if response.is_success:
                        self._watch()
                        return
                    reason = refusal(response)
                    if response.status_code == httpx.codes.UNAUTHORIZED:
                        raise CommandError(f"{reason}; FEATLINK_TOKEN or FEATLINK_SERVICE_TOKEN names it")
                if "CERTIFICATE_VERIFY_FAILED" in reason:  # nor will it be later
                    raise CommandError(f"{reason}; FEATLINK_TLS_CA names the certificates to trust, for 127.0.0.1 too")
                time.sleep(0.2)
        raise CommandError(f"the services were not ready within {timeout_s:.0f} s: {reason}")

    def check(self) -> None:
        """Check that all three run, or are being started again.

        Raises:
            CommandError: one has stopped for good.
        """
        if self._failure is not None:
            raise CommandError(self._failure)
        if self._watcher is None:
            for name, process in self._processes.items():
                if (code := process.poll()) is not None:
                    raise CommandError(self._why(name, code))

    def pids(self) -> dict[str, int]:
        """Process ids of the services, by name."""
        with self._lock:
            return {name: process.pid for name, process in self._processes.items()}

    def stop(self) -> None:
        """Stop all, the edge first, so that accepted pictures can finish. Kills what does not stop."""
        self._stopping.set()
        with self._lock:  # from here on nothing is started again
            processes = dict(self._processes)
        for name in self.ports.names:
            if (process := processes.get(name)) is None:
                continue
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._watcher is not None:  # only now: Linux stops what a thread has started when that thread ends
            self._watcher.join()
        for reader in self._readers.values():
            reader.join()
        self._processes.clear()

    def _watch(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._restart_what_dies, name="launcher", daemon=True)
            self._watcher.start()

    def _restart_what_dies(self) -> None:
        while not self._stopping.wait(0.2) and self._failure is None:
            with self._lock:
                dead = {name: code for name, p in self._processes.items() if (code := p.poll()) is not None}
                if self._stopping.is_set():
                    break
                for name, code in dead.items():
                    why, now = self._why(name, code), time.monotonic()
                    recent = [then for then in self._restarts.get(name, []) if now - then < _WITHIN_SECONDS]
                    if len(recent) >= _RESTARTS:
                        self._failure = f"{why}; it was started again {_RESTARTS} times"
                        break
                    self._restarts[name] = [*recent, now]
                    self.log(name, f"{why}; starting it again")
                    self._start(name)
        self._stopping.wait()  # what this thread has started ends with it

    def _why(self, name: str, code: int) -> str:
        self._readers[name].join()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"the {name} stopped ({how}): {_reason(self._last_line.get(name, ''))}"

    def _start(self, name: str) -> None:
        environment = {
            **os.environ,
            # OpenMP's threads would spin at every barrier, and take the cores from the next service.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive"),
            **{name: os.environ.get(name, value) for name, value in _KEEP_MEMORY.items()},
            **{f"FEATLINK_{key.upper()}": value for key, value in self.settings.items()},
            "FEATLINK_HOST": "127.0.0.1",
            "FEATLINK_PORT": str(getattr(self.ports, name)),
            "FEATLINK_EDGE_URL": self.ports.edge_url,
            "FEATLINK_CHANNEL_URL": self.ports.channel_url,
            "FEATLINK_CLOUD_URL": self.ports.cloud_url,
        }
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"featlink.{name}"],  # -P: a file of the caller's folder is no module
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops them in order
            preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
        )
        self._last_line.pop(name, None)
        self._processes[name] = process
        self._readers[name] = threading.Thread(target=self._read, args=(name, process.stdout), daemon=True)
        self._readers[name].start()

    def _read(self, name: str, lines: IO[str]) -> None:
        for line in (line.rstrip("\n") for line in lines):
            if _event(self._last_line.get(name, "")) != _FATAL:  # whatever is logged after it says less
                self._last_line[name] = line
            self.log(name, line)


def _stop_with_parent() -> None:
    """Have Linux send this process SIGTERM when its parent dies, even by SIGKILL."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _check_free(name: str, port: int) -> None:
    """Refuse a port in use before anything starts: its owner would answer instead of the service."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise CommandError(f"the {name} cannot listen on port {port}: {error.strerror}") from None


def _event(line: str) -> str | None:
    """The event of a service's log line; None if it is none of Featlink's."""
    try:
        return str(json.loads(line)["event"])
    except (ValueError, KeyError, TypeError):
        return None


def _reason(line: str) -> str:
    """What a stopped service's last log line says."""
    if (event := _event(line)) is None:
        return line or "it logged nothing"
    return str(json.loads(line).get("reason", event))
