"""``featlink decide``: recommend whether to send pixels or features, with confidence intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featlink.errors import CommandError
from featlink.options import takes_question

if TYPE_CHECKING:
    from featlink.deciding.query import Query


@takes_question
def decide(
    folders: Annotated[
        list[Path],
        typer.Argument(help="A finished sweep's output folder; several, of one network cut at several places."),
    ],
    *,
    query: Query,
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
    top: Annotated[int | None, typer.Option(min=1, help="Show only the best so many.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the decision as JSON.")] = False,
) -> None:
    """Say which to send over a link, pixels or features, coded how, cut where, and what cannot be told apart."""
    from rich.console import Console

    from featlink.deciding.decision import decide as of_pictures
    from featlink.deciding.decision import decision_table, rate_intervals_table, to_dict
    from featlink.deciding.ranking import with_edge
    from featlink.deciding.streams import decide_stream, stream_table, stream_to_dict
    from featlink.report.splits import cut_table, decide_cut, in_order
    from featlink.report.sweep import open_sweep
    from featlink.report.table import Table, say, show

    sweeps = [open_sweep(folder) for folder in folders]
    sweep = sweeps[0]
    query, edge = with_edge(query, sweep, edge_from)
    cloud = None if cloud_from is None else open_sweep(cloud_from)
    if len(sweeps) > 1:
        if edge or cloud or query.fps is not None:
            raise CommandError("several split points are compared for single pictures, by the sweeps' own times")
        cuts = decide_cut(in_order(sweeps), query)
        result, sentence, scope = to_dict(cuts), cuts.sentence, cuts.scope
        tables: list[Table | None] = [cut_table(cuts, top)]
    elif query.fps is None:
        pictures = of_pictures(sweep, query, edge, cloud)
        result, sentence, scope = to_dict(pictures), pictures.sentence, pictures.scope
        tables = [decision_table(pictures, top), rate_intervals_table(pictures)]
    else:
        frames = decide_stream(sweep, query, edge, cloud, Console(stderr=True))
        result, sentence, scope = stream_to_dict(frames), frames.sentence, frames.scope
        tables = [stream_table(frames, top)]
    if as_json:
        import json

        typer.echo(json.dumps(result, indent=1))
        return
    for table in filter(None, tables):
        show(table)
        typer.echo()
    say(sentence)
    say(scope)
