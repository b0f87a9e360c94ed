"""Decide from a sweep's folder whether to send pixels or features."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def decide(
    out: str | Path, *, edge_from: str | Path | None = None, cloud_from: str | Path | None = None, **question: Any
) -> dict[str, Any]:
    """Say which of a sweep's conditions to send over a link, and how sure that is.

    Args:
        out: a finished sweep's folder.
        edge_from: a sweep of the same conditions on the edge's own machine, whose times count there, or what
            ``featlink-edge --report`` wrote on it.
        cloud_from: the same of the cloud.
        **question: the link, the machines and the goal, the options of ``featlink decide``: ``rate`` in Mbit/s or
            ``trace``, ``rtt``, ``jitter``, ``loss``, ``erase``, ``burst``; ``edge_speed``, ``cloud_speed``; ``floor``
            or ``keep``, ``deadline``, ``kind``; for a stream ``fps``, ``camera``, ``under_way``. Units and bounds:
            :class:`featlink.deciding.question.Question`.

    Returns:
        What :func:`featlink.deciding.decision.to_dict` makes of it: ``sentence``, ``call``, ``best``, ``options``,
        ``stretches``; with ``fps``, what :func:`featlink.deciding.streams.stream_to_dict` does.
        ``pandas.DataFrame(found["options"])`` is a table of the options.

    Raises:
        FeatlinkError: the folder, the link or the goal cannot be used.
    """
    from featlink.deciding.decision import decide as answer
    from featlink.deciding.decision import to_dict
    from featlink.deciding.query import make_query
    from featlink.deciding.ranking import with_edge
    from featlink.deciding.streams import decide_stream, stream_to_dict
    from featlink.report.sweep import open_sweep

    query = make_query(**question)
    sweep = open_sweep(Path(out))
    query, edge = with_edge(query, sweep, None if edge_from is None else Path(edge_from))
    cloud = None if cloud_from is None else open_sweep(Path(cloud_from))
    if query.fps is not None:
        return stream_to_dict(decide_stream(sweep, query, edge, cloud))
    return to_dict(answer(sweep, query, edge, cloud))
