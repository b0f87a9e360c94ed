"""Runs that collect results at the cloud: their progress, their leading figures, and files of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from nicegui import ui
from starlette.requests import Request

from featlink.errors import CommandError
from featlink.page import layout
from featlink.page.context import Context, passing
from featlink.shared.conditions.language import parse
from featlink.shared.errors import ConditionError

Run = Mapping[str, Any]
"""A run as ``GET /v1/runs`` has it, or a run's metrics as ``GET /v1/runs/ID/metrics`` has them."""

_RUNS_EVERY_S = 1.0
_MOST_RUNS = 200
_MOST_METRICS = 100
_AT_ONCE = 4  # metrics are an evaluation each: the list is filled little by little
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_NO_SCORES = ("run", "fidelity", "fidelity_images", "timings")

_ONE_DIGIT = "value => value == null ? '–' : value.toFixed(1)"
_LEFT = (
    *(("name", "Run"), ("domain", "Sent as"), ("condition", "Condition"), ("dataset", "Data set"), ("share", "Done")),
    *(("created", "Opened (UTC)"), ("id", "Files")),
)
"""Columns of the table that are text, and their headings."""

_SHARE_CELL = """
<q-td :props="props" key="share">
  <div class="progress" role="progressbar" :aria-valuenow="props.row.done" aria-valuemin="0"
       :aria-valuemax="props.row.total" :aria-label="props.row.name" :data-run="props.row.id">
    <span :style="{width: 100 * props.row.share + '%'}"></span></div>
  <small>{{ props.row.done }} of {{ props.row.total }}</small>
</q-td>"""
_DOMAIN_CELL = """
<q-td :props="props" key="domain"><span :class="'domain ' + props.row.domain">
  {{ props.row.domain == 'image' ? 'pixels' : 'features' }}</span></q-td>"""
_FILES_CELL = """
<q-td :props="props" key="id">
  <a :href="'ROOT/runs/' + props.row.id + '/detections.json'" download>detections</a>&ensp;
  <a :href="'ROOT/runs.csv?ids=' + props.row.id" download>CSV</a></q-td>"""


def measures(metrics: Run) -> dict[str, float | None]:
    """What is told of a run, in words: its size, each evaluator's leading figures, fidelity and times.

    Args:
        metrics: of the run.
    """
    bits = metrics["bits_per_image"]
    return {
        "images done": metrics["run"]["done"],
        "kB per image": None if bits is None else bits / 8000,
        "bits per pixel": metrics["bpp"],
        **{f"{name} %": None if value is None else 100 * value for name, value in leading_figures(metrics).items()},
        **{f"{name} (fidelity)": value for name, value in metrics["fidelity"].items()},
        **{f"{name}, ms": value for name, value in metrics["timings"].items()},
    }


def leading_figures(metrics: Run) -> dict[str, float | None]:
    """The first figure of each group of scores, by ``group figure``; of COCO's, AP of masks and of boxes."""
    groups = {name: group for name, group in metrics.items() if name not in _NO_SCORES and isinstance(group, Mapping)}
    return {f"{group} {next(iter(scores))}": next(iter(scores.values())) for group, scores in groups.items() if scores}


def table_row(run: Run, metrics: Run | None) -> dict[str, Any]:
    """A row of the table of runs.

    Args:
        run: of the list.
        metrics: of the run; None if they are not known yet.
    """
    total = run["total"] or 0
    measured = measures(metrics) if metrics else {}
    return {
        "id": run["id"],
        "name": run["name"] or run["id"][:8],
        "dataset": run["dataset"],
        "condition": without_domain(run["condition"]),
        "domain": run["domain"],
        "done": run["done"],
        "total": total,
        "share": run["done"] / total if total else 0,
        "created": run["created"].replace("T", " ")[:16],
        **{name: value for name, value in measured.items() if name.endswith(" %") or name == "kB per image"},
    }


def without_domain(condition: str) -> str:
    """A condition without its domain, which has a column of its own.

    Example:
        >>> without_domain("image: vvenc(qp=40)"), without_domain("feature: identity")
        ('vvenc(qp=40)', 'clean')
    """
    try:
        text = str(parse(condition)).partition(":")[2].strip()
    except ConditionError:  # of another version
        return condition
    return "clean" if text == "identity" else text


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Columns of the table: text, and each measure that a row has."""
    text = [{"name": name, "label": label, "field": name, "align": "left", "sortable": True} for name, label in _LEFT]
    measured = dict.fromkeys(name for row in rows for name in row if " " in name)
    return [
        *text[:5],
        *({"name": name, "label": name, "field": name, "sortable": True, ":format": _ONE_DIGIT} for name in measured),
        *text[5:],
    ]


def to_csv(runs: Iterable[Run]) -> str:
    """Metrics of runs, a line each.

    Args:
        runs: their metrics.
    """
    lines = []
    for metrics in runs:
        line = {**metrics["run"], "bits_per_image": metrics["bits_per_image"], "bpp": metrics["bpp"]}
        for name, group in metrics.items():
            if name not in ("run", "fidelity_images") and isinstance(group, Mapping):
                line |= {f"{name}.{figure}": value for figure, value in group.items()}
        lines.append(line)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for line in lines for name in line)), restval="")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def add_pages(app: FastAPI, context: Context) -> None:
    """Put the runs at ``/runs``, and their files at ``/runs/ID/detections.json`` and ``/runs.csv?ids=ID,ID``."""
    known: dict[str, Run] = {}  # metrics by run; the same for every visitor

    @app.get("/runs/{run_id}/detections.json", response_model=None)
    async def detections(run_id: str) -> Response:
        if not _RUN_ID.fullmatch(run_id):
            return PlainTextResponse("no such run", 404)
        try:
            pieces = await context.ask(context.client.detections, run_id)
        except CommandError as error:
            return _refusal(error)
        headers = {"content-disposition": f'attachment; filename="detections-{run_id[:8]}.json"'}
        return StreamingResponse(pieces, media_type="application/json", headers=headers)

    @app.get("/runs.csv", response_model=None)
    async def metrics(ids: str) -> Response:
        runs = [one for one in ids.split(",") if _RUN_ID.fullmatch(one)][:_MOST_METRICS]
        try:
            rows = [await context.ask(context.client.metrics, run) for run in runs]
        except CommandError as error:
            return _refusal(error)
        headers = {"content-disposition": 'attachment; filename="runs.csv"'}
        return Response(to_csv(rows), media_type="text/csv", headers=headers)

    @ui.page("/runs", title="Featlink runs")
    def runs(request: Request) -> None:
        with layout.frame("/runs", request):
            RunsView(context, layout.root_path(request), known).build()


def _refusal(error: CommandError) -> Response:
    return PlainTextResponse(str(error), 502 if passing(error) else 404)


class RunsView:
    """One visitor's view of the runs.

    Args:
        context: shared with others.
        root: path below which the page is served.
        known: metrics by run, as far as it was when they were last asked for.
    """

    def __init__(self, context: Context, root: str, known: dict[str, Run]) -> None:
        self._context = context
        self._root = root
        self._known = known
        self._busy = False

    def build(self) -> None:
        """Make the elements; a timer fills them."""
        ui.html("<h1>Runs at the cloud</h1>", sanitize=False)
        self._status = ui.html("<p class='quiet'>Asking the cloud…</p>", sanitize=False).props('role="status"')
        self._table = ui.table(
            columns=_columns([]),
            rows=[],
            row_key="id",
            pagination={"rowsPerPage": 20, "sortBy": None},
        ).classes("runs")
        self._table.props("flat dense no-data-label='No runs yet'")
        cells = {"share": _SHARE_CELL, "domain": _DOMAIN_CELL, "id": _FILES_CELL.replace("ROOT", self._root)}
        for name, cell in cells.items():
            self._table.add_slot(f"body-cell-{name}", cell)
        ui.html(
            "<p class='quiet'>A client opens a run with POST /v1/runs and feeds it "
            "through the edge; <code>featlink bench --engine http</code> does so too.</p>",
            sanitize=False,
        )
        ui.timer(_RUNS_EVERY_S, self._refresh)

    async def _refresh(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            runs = await self._context.ask(self._context.client.runs, _MOST_RUNS)
            self._fill(runs)
            await self._evaluate(runs)
            self._fill(runs)
        except CommandError as error:
            self._status.content = f"<p class='banner waiting'>{escape(str(error).rstrip('.'))}. Waiting for it…</p>"
        finally:
            self._busy = False

    def _fill(self, runs: list[dict[str, Any]]) -> None:
        rows = [table_row(run, self._known.get(run["id"])) for run in runs]
        if rows != self._table.rows:
            self._table.columns = _columns(rows)
            self._table.rows = rows
            self._table.update()
        growing = sum(0 < run["done"] < run["total"] for run in runs)
        self._status.content = (
            f"<p class='quiet'>{len(runs)} run{'' if len(runs) == 1 else 's'}"
            f"{f', {growing} in progress' if growing else ''}</p>"
        )

    async def _evaluate(self, runs: list[dict[str, Any]]) -> None:
        evaluated = {name: metrics["run"]["done"] for name, metrics in self._known.items()}
        todo = [run["id"] for run in runs if run["done"] and run["done"] != evaluated.get(run["id"])]
        for name in todo[:_AT_ONCE]:
            self._known[name] = await self._context.ask(self._context.client.metrics, name)
