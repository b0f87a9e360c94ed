"""Run one service in this process, and tell what its first requests did that an earlier one would have done.

    python first_requests.py edge|channel|cloud SETTINGS REQUESTS

A process of its own, as one that runs tests has everything imported and compiled. ``SETTINGS`` is JSON; ``REQUESTS`` a
JSON file: a list of [path, file with the body]. The last line printed is JSON: ``kernels``, the compiled
signatures of each Numba kernel when the service had loaded; ``compiled``, of those that the requests added to;
``imported``, modules that they imported; ``kept``, what the service keeps, asked before them; ``answered``, bytes.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import httpx

_KEPT = {"edge": [], "channel": ["/v1/link", "/v1/condition"], "cloud": ["/v1/runs", "/v1/datasets"]}


def kernels() -> dict[str, int]:
    """Compiled signatures of each Numba kernel of Featlink's modules."""
    from numba.core.dispatcher import Dispatcher

    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "featlink"]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)]
    return {f"{one.py_func.__module__}.{one.py_func.__name__}": len(one.signatures) for one in found}


def modules() -> set[str]:
    """Imported modules but for the standard library's."""
    return {name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names}


async def main(service: str, settings: dict[str, Any], requests: list[tuple[str, str]]) -> dict[str, Any]:
    """Start the service, wait until it has loaded, and send its first requests."""
    app_module = importlib.import_module(f"featlink.{service}.app")
    app = app_module.create_app(getattr(app_module, f"{service.title()}Settings")(**settings))
    bodies = [(path, Path(body).read_bytes()) for path, body in requests]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", timeout=300) as client,
    ):
        async with asyncio.timeout(300):
            while "loading" in (await client.get("/readyz")).text:
                await asyncio.sleep(0.05)
        metrics = (await client.get("/metrics")).text
        kept = [(await client.get(path)).json() for path in _KEPT[service]]
        compiled, imported = kernels(), modules()
        answers = [await client.post(path, content=body) for path, body in bodies]
        return {
            "kernels": compiled,
            "compiled": {name: count for name, count in kernels().items() if count != compiled.get(name, 0)},
            "imported": sorted(modules() - imported),
            "metrics": metrics,
            "kept": kept,
            "answered": [len(answer.raise_for_status().content) for answer in answers],
        }


if __name__ == "__main__":
    _, chosen, given, listed = sys.argv
    found = asyncio.run(main(chosen, json.loads(given), json.loads(Path(listed).read_text())))
    sys.stdout.write(json.dumps(found) + "\n")
