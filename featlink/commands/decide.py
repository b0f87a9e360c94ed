"""``featlink decide``: recommend whether to send pixels or features, with confidence intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def decide(
    folder: Annotated[Path, typer.Argument(help="A finished sweep's output folder.")],
    rate: Annotated[
        float | None, typer.Option(help="Link rate in Mbit/s.", show_default="none: give it or --trace")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="The link's rate over time: CSV of seconds and mbps, or Mahimahi.")
    ] = None,
    rtt: Annotated[float, typer.Option(help="Round trip, ms.")] = 0,
    jitter: Annotated[float, typer.Option(help="Standard deviation of the one-way delay, ms.")] = 0,
    loss: Annotated[float, typer.Option(help="Share of packets that are lost and sent again.")] = 0,
    edge_speed: Annotated[float, typer.Option(help="The edge is so many times as fast as what was measured.")] = 1,
    cloud_speed: Annotated[float, typer.Option(help="The same of the cloud.")] = 1,
    edge_from: Annotated[
        Path | None, typer.Option(help="A sweep of the same conditions on the edge's machine: its times count.")
    ] = None,
    cloud_from: Annotated[Path | None, typer.Option(help="The same of the cloud's machine.")] = None,
    floor: Annotated[float | None, typer.Option(help="Least AP, %.")] = None,
    keep: Annotated[
        float | None, typer.Option(help="Least share of the clean AP, %.", show_default="95 without floor or deadline")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(help="ms: an image whose answer comes later counts as not detected.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="segm or bbox.", show_default="segm if there are masks")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Show only the first so many.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
) -> None:
    """Say which to send over a link, pixels or features, coded how, and what cannot be told apart."""
    from featlink.deciding.decision import decide as answer
    from featlink.deciding.decision import decision_table, rate_intervals_table, to_dict
    from featlink.deciding.query import make_query
    from featlink.report.sweep import open_sweep
    from featlink.report.table import say, show

    query = make_query(
        rate=rate,
        trace=trace,
        rtt=rtt,
        jitter=jitter,
        loss=loss,
        edge_speed=edge_speed,
        cloud_speed=cloud_speed,
        floor=floor,
        keep=keep,
        deadline=deadline,
        kind=kind,
    )
    edge, cloud = (None if path is None else open_sweep(path) for path in (edge_from, cloud_from))
    decision = answer(open_sweep(folder), query, edge, cloud)
    if as_json:
        import json

        typer.echo(json.dumps(to_dict(decision), indent=1))
        return
    show(decision_table(decision, top))
    typer.echo()
    crossings = rate_intervals_table(decision)
    if crossings is not None:
        show(crossings)
        typer.echo()
    say(decision.sentence)
