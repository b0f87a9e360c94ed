"""``featlink decide``: recommend whether to send pixels or features, with confidence intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from featlink.errors import CommandError


def decide(
    folders: Annotated[
        list[Path],
        typer.Argument(help="A finished sweep's output folder; several, of one network cut at several places."),
    ],
    rate: Annotated[
        float | None, typer.Option(help="Link rate in Mbit/s.", show_default="none: give it or --trace")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="The link's rate over time: CSV of seconds and mbps, or Mahimahi.")
    ] = None,
    rtt: Annotated[float, typer.Option(help="Round trip, ms.")] = 0,
    jitter: Annotated[float, typer.Option(help="Standard deviation of the one-way delay, ms.")] = 0,
    loss: Annotated[float, typer.Option(help="Share of packets that are lost and sent again.")] = 0,
    edge_speed: Annotated[float, typer.Option(help="How many times as fast the edge is as the sweep's machine.")] = 1,
    cloud_speed: Annotated[float, typer.Option(help="How many times as fast the cloud is as the sweep's machine.")] = 1,
    edge_from: Annotated[
        Path | None,
        typer.Option(
            help="Take the edge's times from this sweep of the same conditions, made on its machine, or its speed from "
            "what `featlink-edge --report` wrote there."
        ),
    ] = None,
    cloud_from: Annotated[
        Path | None,
        typer.Option(help="Take the cloud's times from this sweep of the same conditions, made on its machine."),
    ] = None,
    floor: Annotated[float | None, typer.Option(help="Lowest acceptable AP, %.")] = None,
    keep: Annotated[
        float | None,
        typer.Option(help="Lowest acceptable share of the clean AP, %.", show_default="95 without floor or deadline"),
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(help="ms: later answers do not count; in a stream, an older one does."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Decide for a camera's stream of so many frames a second.", show_default="single pictures"),
    ] = None,
    camera: Annotated[
        str, typer.Option(help="What a camera that falls behind sends: every picture, or only the newest.")
    ] = "every",
    under_way: Annotated[
        int, typer.Option(help="Frames between camera and answer at most, if it sends the newest.")
    ] = 3,
    kind: Annotated[str | None, typer.Option(help="segm or bbox.", show_default="segm if there are masks")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Show only the best so many.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
) -> None:
    """Say which to send over a link, pixels or features, coded how, cut where, and what cannot be told apart."""
    from rich.console import Console

    from featlink.deciding.decision import decide as of_pictures
    from featlink.deciding.decision import decision_table, rate_intervals_table, to_dict
    from featlink.deciding.query import make_query
    from featlink.deciding.ranking import with_edge
    from featlink.deciding.streams import decide_stream, stream_table, stream_to_dict
    from featlink.report.splits import cut_table, decide_cut, in_order
    from featlink.report.sweep import open_sweep
    from featlink.report.table import Table, say, show

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
        fps=fps,
        camera=camera,
        under_way=under_way,
    )
    sweeps = [open_sweep(folder) for folder in folders]
    sweep = sweeps[0]
    query, edge = with_edge(query, sweep, edge_from)
    cloud = None if cloud_from is None else open_sweep(cloud_from)
    if len(sweeps) > 1:
        if edge or cloud or query.fps is not None:
            raise CommandError("several split points are compared for single pictures, by the sweeps' own times")
        cuts = decide_cut(in_order(sweeps), query)
        found, said, scope = to_dict(cuts), cuts.sentence, cuts.scope
        tables: list[Table | None] = [cut_table(cuts, top)]
    elif query.fps is None:
        pictures = of_pictures(sweep, query, edge, cloud)
        found, said, scope = to_dict(pictures), pictures.sentence, pictures.scope
        tables = [decision_table(pictures, top), rate_intervals_table(pictures)]
    else:
        frames = decide_stream(sweep, query, edge, cloud, Console(stderr=True))
        found, said, scope = stream_to_dict(frames), frames.sentence, frames.scope
        tables = [stream_table(frames, top)]
    if as_json:
        import json

        typer.echo(json.dumps(found, indent=1))
        return
    for table in filter(None, tables):
        show(table)
        typer.echo()
    say(said)
    say(scope)
