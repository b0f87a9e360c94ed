"""The page of runs."""

from __future__ import annotations

from html import escape
from typing import Any

from nicegui import ui
from starlette.requests import Request

from featlink.page import layout
from featlink.page.context import Context
from featlink.page.runs.table import comparison, row
from featlink.page.services import ServiceError

_EVERY_S = 1.0
_MOST = 200
_AT_ONCE = 4  # metrics are an evaluation each: the list is filled little by little

_ONE_DIGIT = "value => value === null ? '–' : value.toFixed(1)"
_COLUMNS: list[dict[str, Any]] = [
    {"name": "name", "label": "Run", "field": "name", "align": "left", "sortable": True},
    {"name": "domain", "label": "Sent as", "field": "domain", "align": "left", "sortable": True},
    {"name": "condition", "label": "Condition", "field": "condition", "align": "left", "sortable": True},
    {"name": "dataset", "label": "Data set", "field": "dataset", "align": "left", "sortable": True},
    {"name": "share", "label": "Done", "field": "share", "align": "left", "sortable": True},
    {"name": "segm", "label": "Mask AP %", "field": "segm", "sortable": True, ":format": _ONE_DIGIT},
    {"name": "bbox", "label": "Box AP %", "field": "bbox", "sortable": True, ":format": _ONE_DIGIT},
    {"name": "kB", "label": "kB per image", "field": "kB", "sortable": True, ":format": _ONE_DIGIT},
    {"name": "created", "label": "Opened (UTC)", "field": "created", "align": "left", "sortable": True},
    {"name": "files", "label": "Files", "field": "id", "align": "left"},
]
_SHARE = """
<q-td :props="props" key="share">
  <div class="progress" role="progressbar" :aria-valuenow="props.row.done" aria-valuemin="0"
       :aria-valuemax="props.row.total" :aria-label="props.row.name" :data-run="props.row.id">
    <span :style="{width: 100 * props.row.share + '%'}"></span></div>
  <small>{{ props.row.done }} of {{ props.row.total }}</small>
</q-td>"""
_DOMAIN = """
<q-td :props="props" key="domain"><span :class="'domain ' + props.row.domain">
  {{ props.row.domain == 'image' ? 'pixels' : 'features' }}</span></q-td>"""
_FILES = """
<q-td :props="props" key="files">
  <a :href="'/runs/' + props.row.id + '/detections.json'" download>detections</a>&ensp;
  <a :href="'/runs.csv?ids=' + props.row.id" download>CSV</a></q-td>"""


def add_page(context: Context) -> None:
    """Put the runs at ``/runs``."""
    known: dict[tuple[str, int], Any] = {}  # metrics by run and images done; the same for every visitor

    @ui.page("/runs", title="Featlink runs")
    def runs(request: Request) -> None:
        with layout.frame("/runs", request.cookies):
            RunsView(context, known).build()


class RunsView:
    """One visitor's view of the runs.

    Args:
        context: shared with others.
        known: metrics by run and images done.
    """

    def __init__(self, context: Context, known: dict[tuple[str, int], Any]) -> None:
        self._context = context
        self._known = known
        self._busy = False

    def build(self) -> None:
        """Make the elements; a timer fills them."""
        ui.html("<h1>Runs at the cloud</h1>", sanitize=False)
        self._told = ui.html("<p class='quiet'>Asking the cloud…</p>", sanitize=False).props('role="status"')
        self._table = ui.table(
            columns=_COLUMNS,
            rows=[],
            row_key="id",
            selection="multiple",
            pagination={"rowsPerPage": 20, "sortBy": None},
            on_select=self._compare,
        ).classes("runs")
        self._table.props("flat dense no-data-label='No runs yet'")
        for name, slot in (("share", _SHARE), ("domain", _DOMAIN), ("files", _FILES)):
            self._table.add_slot(f"body-cell-{name}", slot)
        ui.html(
            "<p class='quiet'>Select two runs to compare them. A client opens a run with POST /v1/runs and feeds it "
            "through the edge; <code>featlink bench --engine http</code> does so too.</p>",
            sanitize=False,
        )
        self._compared = ui.element("section").classes("card compared").props('aria-label="Comparison"')
        self._compared.set_visibility(False)
        ui.timer(_EVERY_S, self._refresh)

    async def _refresh(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            runs = await self._context.services.get("cloud", "/v1/runs", limit=_MOST)
            self._fill(runs)
            await self._measure(runs)
            self._fill(runs)
        except ServiceError as error:
            self._told.content = f"<p class='banner waiting'>{escape(str(error))} Waiting for it…</p>"
        finally:
            self._busy = False

    def _fill(self, runs: list[dict[str, Any]]) -> None:
        rows = [row(run, self._newest(run)) for run in runs]
        if rows != self._table.rows:
            self._table.rows = rows
            self._table.update()
        growing = sum(0 < run["done"] < run["total"] for run in runs)
        self._told.content = (
            f"<p class='quiet'>{len(runs)} run{'' if len(runs) == 1 else 's'}"
            f"{f', {growing} in progress' if growing else ''}</p>"
        )

    def _newest(self, run: dict[str, Any]) -> dict[str, Any] | None:
        """Metrics of the run as far as it is, or as far as it was when they were last computed."""
        found: dict[str, Any] | None = self._known.get((run["id"], run["done"]))
        if found is None:
            older = [key for key in self._known if key[0] == run["id"]]
            found = self._known[max(older, key=lambda key: key[1])] if older else None
        return found

    async def _measure(self, runs: list[dict[str, Any]]) -> None:
        todo = [run for run in runs if run["done"] and (run["id"], run["done"]) not in self._known]
        for run in todo[:_AT_ONCE]:
            found = await self._context.services.get("cloud", f"/v1/runs/{run['id']}/metrics", timeout_s=120)
            for key in [key for key in self._known if key[0] == run["id"]]:
                del self._known[key]
            self._known[run["id"], found["run"]["done"]] = found

    async def _compare(self) -> None:
        chosen = [one["id"] for one in self._table.selected]
        self._compared.set_visibility(len(chosen) == 2)
        if len(chosen) != 2:
            return
        try:
            pair = [
                await self._context.services.get("cloud", f"/v1/runs/{one}/metrics", timeout_s=120) for one in chosen
            ]
        except ServiceError as error:
            self._told.content = f"<p class='banner error'>{escape(str(error))}</p>"
            return
        heads = "".join(
            f'<th scope="col">{escape(one["run"]["name"] or one["run"]["id"][:8])}'
            f"<br><small>{escape(one['run']['condition'])}</small></th>"
            for one in pair
        )
        body = "".join(
            f'<tr><th scope="row">{escape(title)}</th><td class="number">{a}</td><td class="number">{b}</td>'
            f'<td class="number">{difference}</td></tr>'
            for title, a, b, difference in comparison(pair)
        )
        self._compared.clear()
        with self._compared:
            ui.html("<h2>Two runs compared</h2>", sanitize=False)
            ui.html(
                f'<table class="figures compare"><thead><tr><th></th>{heads}<th scope="col">difference</th></tr>'
                f"</thead><tbody>{body}</tbody></table>",
                sanitize=False,
            ).classes("scroll")
