"""What a service says of itself at ``/``, to people and to programs."""

from __future__ import annotations

import html
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

_LINKS = {"docs": "/docs", "api": "/openapi.json", "ready": "/readyz", "metrics": "/metrics"}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Featlink {name}</title>
<style>body{{font:16px/1.5 sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}</style>
<h1>Featlink {name}</h1>
<p>{summary}</p>
<p>{advice}</p>
<ul>{links}</ul>
<p>Version {version}</p>
</html>
"""


def install(app: FastAPI, name: str, summary: str, advice: str) -> None:
    """Answer ``GET /``.

    Args:
        app: the service's.
        name: ``edge``, ``channel`` or ``cloud``.
        summary: what it does.
        advice: what to do with it.
    """
    links = "".join(f'<li><a href="{path}">{word}</a></li>' for word, path in _LINKS.items())
    words = {"name": name, "summary": html.escape(summary), "advice": html.escape(advice)}
    page = _PAGE.format(**words, links=links, version=version("featlink"))

    @app.get("/", include_in_schema=False)
    async def front(request: Request) -> Response:
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(page)
        about = {"service": f"Featlink {name}", "version": version("featlink"), "summary": summary, "advice": advice}
        return JSONResponse({**about, **_LINKS})
