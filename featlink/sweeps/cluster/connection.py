"""The way to a Ray cluster, or to one that is started here."""

from __future__ import annotations

import logging
import os
import re
import socket
from typing import Any

from featlink.errors import CommandError
from featlink.sweeps.cluster.room import Node

_HOST_PORT = re.compile(r"(?P<host>.+):(?P<port>\d+)")
_REACH_S = 10
"""Seconds that a cluster has to answer in."""
_OBJECT_STORE = 256 << 20
"""Bytes of a cluster that is started here; a picture's file and its detections are all that goes through it."""


def connect(address: str | None, cores: int) -> Any:
    """Join a cluster, or start one.

    Args:
        address: of its head, host:port; None starts one here.
        cores: of the one that is started.

    Returns:
        The module ``ray``, connected.

    Raises:
        CommandError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _import_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # keeps Ray from sending usage statistics
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        quiet |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    else:
        _check_reachable(address)
    try:
        ray.init(address=address or "local", **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CommandError(f"Ray: {reason}{_hint(reason)}") from None
    return ray


def nodes_of(ray: Any) -> list[Node]:
    """The nodes that are alive now."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(one.get("CPU", 0), one.get("GPU", 0), one.get("memory", 0)) for one in resources]


def _hint(reason: str) -> str:
    if "AF_UNIX" in reason:
        return "; set TMPDIR to a shorter path"
    if "onnect to Ray cluster" in reason and not os.environ.get("RAY_AUTH_MODE"):
        return "; if it asks for a token, set RAY_AUTH_MODE=token"
    return ""


def _check_reachable(address: str) -> None:
    """Find out in seconds whether a cluster answers; Ray itself tries for minutes."""
    if address.startswith("ray://"):
        raise CommandError(
            f"Ray: {address} is Ray Client's address; run this on a node of the cluster, with --ray-address HEAD:6379"
        )
    match = _HOST_PORT.fullmatch(address)
    if match is None:  # such as "auto", which Ray resolves
        return
    try:
        socket.create_connection((match["host"].strip("[]"), int(match["port"])), _REACH_S).close()
    except (OSError, OverflowError) as error:
        raise CommandError(f"Ray: nothing answers at {address}: {error}") from None


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise CommandError("the ray engine needs Ray: pip install 'featlink[ray]'") from None
    return ray
