"""A sweep from a notebook: the rows of ``featlink bench`` as plain dicts."""

from __future__ import annotations

import operator
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console

from featlink.shared.conditions.language import Condition
from featlink.shared.conditions.registry import Step
from featlink.shared.errors import FeatlinkError

if TYPE_CHECKING:
    from featlink.dataset import Truth
    from featlink.sweeps.plan import EngineName, SweepOptions


def sweep(
    dataset: str | Path,
    conditions: str | Condition | Step | Sequence[str | Condition | Step],
    *,
    limit: int | None = None,
    weights: str | Path = "starter",
    seeds: Sequence[int] = (0, 1, 2),
    fidelity: bool = True,
    truth: Truth = "annotations",
    pictures: str | Path | None = None,
    out: str | Path | None = None,
    engine: EngineName = "local",
    edge: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    progress: bool = True,
    **network: Any,
) -> list[dict[str, Any]]:
    """Evaluate a data set under many conditions, and without any.

    Args:
        dataset: a COCO instances file or a folder that has one, as COCO or an annotation tool lays it out, or
            ``starter``.
        conditions: each a text, a name or beginning of names (``paper.table5``), a ``.yaml`` or ``.json`` file, a
            condition, or a registered step, which is then of the feature domain.
        limit: only the data set's first so many images.
        weights: as for :func:`featlink.load`.
        seeds: of conditions with random steps; figures are medians over them.
        fidelity: measure it.
        truth: what counts as right: ``annotations``, or ``clean``, what the undistorted run detects; then ``dataset``
            can be any folder of pictures.
        pictures: folder of the data set's pictures; default: found beside its annotations.
        out: folder for everything the sweep makes; the same call continues there. Default: kept nowhere.
        engine: what computes: this process, running services, or a Ray cluster. Steps defined in a notebook are known
            to this process only.
        edge: ``http``: URL of a running edge; default: start services.
        workers: ``ray``: how many at most; default: two here, and on a cluster as many as it has room for.
        ray_address: ``ray``: of a cluster; default: start one here.
        progress: show a bar.
        **network: the other arguments of :func:`featlink.load`: ``model``, ``profile``, ``min_size``, …

    Returns:
        One row per condition, first the clean runs of both domains: the lines of ``results.csv``, with ``id``,
        ``condition``, ``domain``, ``images``, ``bbox_AP``, ``segm_AP``, ``bits_per_image``, ``bpp``, ``psnr_f``,
        ``psnr_i``, ``heads_ms``, and so on. ``pandas.DataFrame(rows)`` is a table of them.

    Raises:
        FeatlinkError: the data set, a condition or the network cannot be used, or the engine fails.
        KeyboardInterrupt: it was stopped; the same call with the same ``out`` continues.
    """
    from featlink.api.model import check_process, model_config
    from featlink.dataset import Truth
    from featlink.sweeps.plan import EngineName, SweepOptions, read_seeds

    if engine not in get_args(EngineName):
        raise FeatlinkError(f"an engine is one of {', '.join(get_args(EngineName))}, not {engine!r}")
    if truth not in get_args(Truth):
        raise FeatlinkError(f"a truth is one of {', '.join(get_args(Truth))}, not {truth!r}")
    limit, workers = (None if number is None else operator.index(number) for number in (limit, workers))
    if limit is not None and limit < 1:
        raise FeatlinkError(f"limit is a number of images from 1 on, not {limit}")
    if engine == "local":
        check_process()
    given = [conditions] if isinstance(conditions, str | Condition | Step) else conditions
    with tempfile.TemporaryDirectory(prefix="featlink-") as temporary:
        options = SweepOptions(
            dataset=Path(dataset),
            config=model_config(weights=weights, **network),
            conditions=tuple(map(_text, given)),
            out=Path(temporary if out is None else out),
            seeds=read_seeds(",".join(map(str, seeds))),
            fidelity=fidelity,
            engine=engine,
            limit=limit,
            truth=truth,
            pictures=None if pictures is None else Path(pictures),
            edge=edge,
            workers=workers,
            ray_address=ray_address,
        )
        return _run(options, progress)


def _run(options: SweepOptions, progress: bool) -> list[dict[str, Any]]:
    from featlink.results import flat
    from featlink.sweeps.folder import failure_lines
    from featlink.sweeps.run import run_sweep

    ended = run_sweep(options, _console(not progress))
    if ended.why == "interrupted":
        raise KeyboardInterrupt
    if ended.failed:
        warnings.warn("; ".join(failure_lines(ended.failed, ended.runs, most=3)), stacklevel=3)
    return [flat(row) for row in ended.rows]


def _console(quiet: bool) -> Console:
    """A console whose bar needs no widgets in a notebook, where it goes to the cell's output."""
    in_notebook = Console().is_jupyter
    return Console(stderr=not in_notebook, quiet=quiet, force_jupyter=False, force_terminal=in_notebook or None)


def _text(given: str | Condition | Step) -> str:
    from featlink.api.transmission import as_condition

    # JSON, not text: it also says what was given but is the default, such as seed 0.
    return given if isinstance(given, str) else as_condition(given).model_dump_json(exclude_unset=True)
