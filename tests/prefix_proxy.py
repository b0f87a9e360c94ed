"""A reverse proxy that shows a page below a path, WebSockets included."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


@contextmanager
def reverse_proxy(url: str, prefix: str) -> Iterator[str]:
    """Show what is at ``url`` below ``prefix`` of another address, and nothing else; gives that address."""
    upstream = urlsplit(url)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n").split("\r\n")
        method, path, version = first.split(" ")
        if not path.startswith(f"{prefix}/"):
            writer.write(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        if not any(line.lower().startswith("upgrade:") for line in headers):  # one request a connection
            headers = [*(line for line in headers if not line.lower().startswith("connection:")), "connection: close"]
        lines = [f"{method} {path.removeprefix(prefix)} {version}", *headers, f"x-forwarded-prefix: {prefix}"]
        from_page, to_page = await asyncio.open_connection(upstream.hostname, upstream.port)
        to_page.write("\r\n".join([*lines, "", ""]).encode())
        await asyncio.gather(pipe(reader, to_page), pipe(from_page, writer), return_exceptions=True)

    started, port = threading.Event(), 0
    loop = asyncio.new_event_loop()

    async def listen() -> None:
        nonlocal port
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        started.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(listen())
        loop.run_forever()
        open_connections = asyncio.all_tasks(loop)
        for task in open_connections:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*open_connections, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
