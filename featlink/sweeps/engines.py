"""Make the engine that is asked for, with what it needs around it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from featlink.shared.conditions.language import Condition
from featlink.sweeps.engine import Engine
from featlink.sweeps.options import Options


@contextlib.contextmanager
def open_engine(options: Options, conditions: Sequence[Condition]) -> Iterator[Engine]:
    """Start the engine of a sweep, and stop it at the end.

    Args:
        options: of the sweep.
        conditions: by index.

    Raises:
        FeatlinkError: it cannot be started.
    """
    if options.engine == "http":
        from featlink.client import Client
        from featlink.sweeps.http import HttpEngine

        with _edge(options) as edge, Client(edge, edge) as client:
            yield HttpEngine(client, conditions, options.fidelity)
    elif options.engine == "ray":
        from featlink.sweeps.cluster.engine import Cluster, RayEngine

        cluster = Cluster(
            options.ray_workers, options.ray_address, memory_per_worker=int(options.worker_memory_gb * 1e9)
        )
        with RayEngine(options.config, conditions, options.fidelity, cluster) as engine:
            yield engine
    else:
        from featlink.sweeps.local import build_local  # torch takes seconds to import

        yield build_local(options.config, conditions, options.fidelity)


@contextlib.contextmanager
def _edge(options: Options) -> Iterator[str]:
    """The URL of the edge given, or of one that is started here."""
    from featlink.launcher import Stack, free_ports, service_settings

    if options.edge is not None:
        yield options.edge
        return
    ports = free_ports()
    with (
        tempfile.TemporaryDirectory(prefix="featlink-") as folder,  # the sweep keeps its runs itself
        (options.out / "services.log").open("w") as log,
        Stack(
            ports,
            service_settings(options.config, Path(folder) / "runs.sqlite", options.keep_bitstreams),
            lambda name, line: print(name, line, file=log),
        ) as stack,
    ):
        stack.wait_ready()
        yield ports.edge_url
