"""A run's detections and metrics as files; the browser asks the page, the page the cloud."""

from __future__ import annotations

import re

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from featlink.page.context import Context
from featlink.page.runs.table import to_csv
from featlink.page.services import ServiceError

_RUN = re.compile(r"[0-9a-f]{32}")
_MOST = 100


def add_downloads(app: FastAPI, context: Context) -> None:
    """Serve ``/runs/ID/detections.json`` and ``/runs.csv?ids=ID,ID``."""

    @app.get("/runs/{run_id}/detections.json", response_model=None)
    async def detections(run_id: str) -> Response:
        if not _RUN.fullmatch(run_id):
            return PlainTextResponse("no such run", 404)
        try:
            pieces = await context.services.stream("cloud", f"/v1/runs/{run_id}/detections")
        except ServiceError as error:
            return PlainTextResponse(str(error), 502 if error.passing else 404)
        headers = {"content-disposition": f'attachment; filename="detections-{run_id[:8]}.json"'}
        return StreamingResponse(pieces, media_type="application/json", headers=headers)

    @app.get("/runs.csv", response_model=None)
    async def metrics(ids: str) -> Response:
        wanted = [one for one in ids.split(",") if _RUN.fullmatch(one)][:_MOST]
        try:
            found = [await context.services.get("cloud", f"/v1/runs/{one}/metrics") for one in wanted]
        except ServiceError as error:
            return PlainTextResponse(str(error), 502 if error.passing else 404)
        headers = {"content-disposition": 'attachment; filename="runs.csv"'}
        return Response(to_csv(found), media_type="text/csv", headers=headers)
