"""Services on real sockets, inside the test's process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from waiting import wait_until

from featlink.shared.service.app import server_config


@dataclass(frozen=True)
class Deployment:
    """Base URLs of three services."""

    edge: str
    channel: str
    cloud: str


@contextlib.contextmanager
def serve(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port, in a thread; yields its base URL."""
    server = uvicorn.Server(server_config(app, port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the server to start")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
