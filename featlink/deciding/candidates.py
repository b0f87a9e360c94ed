"""What a sweep offers to send: its rows that code, with their costs by image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featlink.costs import of_row
from featlink.errors import CommandError
from featlink.report.latency import CLOUD
from featlink.report.sweep import Sweep, condition_of, label
from featlink.results import Row
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import StepSpec
from featlink.shared.evaluation.matching import Floats

_APART = {"transfer", "hops", "fidelity", "total"}
_NO_CHOICE = {"loss", "probe"}


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to send.

    Attributes:
        row: its figures.
        reduction: the chain's reduction, as text without its strength; empty without.
        codec: the rest of the chain, as text, without strengths; empty for what is sent as it is.
        strength: of the steps that have one, as text.
        edge_ms: (N,) computing before the link, by image.
        cloud_ms: (N,) computing after it.
        hops_ms: (N,) between services, where the sweep went through them.
        bits: (N,) over the link.
        multiply_adds: of edge and cloud, an image; None where the manifest does not say.
    """

    row: Row
    reduction: str
    codec: str
    strength: str
    edge_ms: Floats
    cloud_ms: Floats
    hops_ms: Floats
    bits: Floats
    multiply_adds: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """Its chain as text, or ``clean``."""
        return label(self.row)


def candidates(sweep: Sweep, edge_from: Sweep | None = None, cloud_from: Sweep | None = None) -> list[Candidate]:
    """The clean runs, and every row that codes, reduces or quantises and is neither a loss nor a probe.

    Args:
        sweep: with samples.
        edge_from: a sweep of the same conditions on the machine that is to be the edge, whose times count.
        cloud_from: the same of the cloud.

    Raises:
        CommandError: the sweep has no samples, or no row remains.
    """
    if sweep.samples is None:
        raise CommandError(f"{sweep.folder} has no samples.npz: run the same `featlink bench` again to write it")
    found = [
        made
        for row in sweep.rows
        if row.id in sweep.samples.runs and _is_choice(row) and (made := _candidate(sweep, row, edge_from, cloud_from))
    ]
    if not found:
        raise CommandError(f"{sweep.folder} has no condition with times that could be chosen")
    return found


def _is_choice(row: Row) -> bool:
    steps = registry.chain(condition_of(row))
    if any(step.kind in _NO_CHOICE or step.random for step in steps):
        return False
    return row.clean or any(step.changes_bits or step.kind in ("codec", "reduction") for step in steps)


def _candidate(sweep: Sweep, row: Row, edge_from: Sweep | None, cloud_from: Sweep | None) -> Candidate | None:
    runs = sweep.samples.runs[row.id] if sweep.samples is not None else ()
    sides = [_side(run.timings, len(run.bits)) for run in runs if run.timings]
    if not sides:
        return None
    edge_ms, cloud_ms, hops_ms = (np.mean([side[i] for side in sides], axis=0) for i in range(3))
    for other, ours, place in ((edge_from, edge_ms, 0), (cloud_from, cloud_ms, 1)):
        if other is not None:
            there = other.by_id.get(row.id)
            if there is None or not there.timings:
                return None
            theirs = _side({k: np.array([v]) for k, v in there.timings.items() if v is not None}, 1)[place]
            ours *= float(theirs[0]) / max(float(ours.mean()), 1e-9)
    reduction, codec, strength = _parts(row)
    bits = np.mean([run.bits for run in runs], axis=0)
    counted = of_row(sweep.manifest.get("multiply_adds") or {}, row.id, row.domain)
    return Candidate(row, reduction, codec, strength, edge_ms, cloud_ms, hops_ms, bits, counted)


def _parts(row: Row) -> tuple[str, str, str]:
    """A row's reduction, the rest of its chain without strengths but with options, and the strengths."""
    condition = condition_of(row)
    reduction: list[str] = []
    chain: list[str] = []
    strengths: list[str] = []
    for text, step in zip(condition.steps, registry.chain(condition), strict=True):
        varied = step.strength
        if varied and getattr(step, varied) is not None:
            strengths.append(f"{varied}={getattr(step, varied):g}")
            text = StepSpec(type=text.type, params={k: v for k, v in text.params.items() if k != varied})
        (reduction if step.kind == "reduction" else chain).append(str(text))
    options = str(condition.model_copy(update={"seed": 0, "steps": ()})).partition("@")[2].strip()
    return " | ".join(reduction), " @ ".join(filter(None, [" | ".join(chain), options])), ", ".join(strengths)


def _side(timings: Mapping[str, npt.ArrayLike], images: int) -> tuple[Floats, Floats, Floats]:
    """Milliseconds of the edge, of the cloud and between services, (N,) each; a stage that an image lacks took none."""

    def total(names: Iterable[str]) -> Floats:
        parts = [np.nan_to_num(np.asarray(timings[name], np.float64)) for name in names]
        spent: Floats = np.sum([np.zeros(images), *parts], axis=0)
        return spent

    return (
        total(name for name in timings if name not in CLOUD | _APART),
        total(name for name in timings if name in CLOUD),
        total(name for name in timings if name == "hops"),
    )
