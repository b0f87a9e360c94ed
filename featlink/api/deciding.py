"""Decide from a sweep's folder whether to send pixels or features."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def decide(
    out: str | Path,
    *,
    rate: float | None = None,
    trace: str | Path | None = None,
    rtt: float = 0,
    jitter: float = 0,
    loss: float = 0,
    edge_speed: float = 1,
    cloud_speed: float = 1,
    edge_from: str | Path | None = None,
    cloud_from: str | Path | None = None,
    floor: float | None = None,
    keep: float | None = None,
    deadline: float | None = None,
    kind: str | None = None,
    fps: float | None = None,
    camera: str = "every",
    under_way: int = 3,
) -> dict[str, Any]:
    """Say which of a sweep's conditions to send over a link, and how sure that is.

    Args:
        out: a finished sweep's folder.
        rate: of the link, in 10⁶ bits per second.
        trace: its rate over time instead: a CSV file of ``seconds`` and ``mbps``, or a Mahimahi trace.
        rtt: round trip in ms.
        jitter: standard deviation of the one-way delay in ms.
        loss: share of packets, 0 to 0.99, that are lost and sent again.
        edge_speed: the edge is so many times as fast as what was measured.
        cloud_speed: the same of the cloud.
        edge_from: a sweep of the same conditions on the edge's own machine, whose times count there, or what
            ``featlink-edge --report`` wrote on it.
        cloud_from: the same of the cloud.
        floor: least AP in percent.
        keep: least share of the domain's clean AP in percent; 95 where neither ``floor`` nor ``deadline`` is given.
        deadline: ms; an image whose answer comes later counts as not detected, and a frame of a stream is judged by the
            newest answer that is there.
        kind: ``segm`` or ``bbox``; default: ``segm`` where there are masks.
        fps: decide for a camera's stream of so many frames a second; None: for single pictures.
        camera: what one that falls behind sends: ``every`` picture, or the ``newest``.
        under_way: frames between camera and answer at most, if it sends the ``newest``.

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

    query = make_query(
        rate=rate,
        trace=None if trace is None else Path(trace),
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
    sweep = open_sweep(Path(out))
    query, edge = with_edge(query, sweep, None if edge_from is None else Path(edge_from))
    cloud = None if cloud_from is None else open_sweep(Path(cloud_from))
    if query.fps is not None:
        return stream_to_dict(decide_stream(sweep, query, edge, cloud))
    return to_dict(answer(sweep, query, edge, cloud))
