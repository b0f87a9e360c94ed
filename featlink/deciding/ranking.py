"""Rank a sweep's candidates over a link: latency by part, deadline AP, the required AP, and which are too close."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featlink.costs import of_row
from featlink.deciding.query import Query, Route, Transfers
from featlink.errors import CommandError
from featlink.leaks import read_leaks
from featlink.report.sweep import Sweep, about, condition_of, is_choice, label, open_sweep, unit_loss
from featlink.results import Row
from featlink.shared.conditions import registry
from featlink.shared.conditions.language import StepSpec
from featlink.shared.evaluation.coco_metrics import Bools, Floats, Ints
from featlink.shared.evaluation.confidence_intervals import Interval, interval, undecided
from featlink.shared.timing import in_order

TIMING_ERROR = 0.15
"""Times measured again, through services and a link that really waits, differ by up to this share: nearer than that,
two latencies are too close to call."""


@dataclass(frozen=True, eq=False)
class Option:
    """A candidate over the link.

    Attributes:
        candidate: what is sent.
        edge_ms, link_ms, cloud_ms, hops_ms: mean time of an image by part.
        latency: interval of their sum over images, in ms.
        frames_per_second: with edge, link and cloud at work at once, the slowest decides.
        ap: in 0..1; with a deadline, of the answers that come in time.
        ap_interval: of it, over images.
        on_time: share of the images that meet the deadline; 1 without one.
        kept: AP over the domain's clean AP, which has no deadline.
        draws: AP in each bootstrap draw.
        latency_draws: latency in each.
        meets: whether it is good enough.
        surely: whether its interval says so too.
        maybe: whether its interval leaves that open.
    """

    candidate: Candidate
    edge_ms: float
    link_ms: float
    cloud_ms: float
    hops_ms: float
    latency: Interval | None
    frames_per_second: float
    ap: float
    ap_interval: Interval | None
    on_time: float
    kept: float | None
    draws: Floats
    latency_draws: Floats
    meets: bool
    surely: bool
    maybe: bool

    @property
    def latency_ms(self) -> float:
        """Mean time of an image."""
        return self.edge_ms + self.link_ms + self.cloud_ms + self.hops_ms


def draw_transfers(sweep: Sweep, found: list[Candidate], query: Query) -> list[Transfers | None]:
    """Each candidate's transfers, which are the same at any rate of the link; None without a deadline."""
    if query.deadline_ms is None or sweep.samples is None:
        return [None] * len(found)
    images = sweep.samples.images.tolist()
    return [query.route.draw(one.bits, images) for one in found]


def evaluate(
    sweep: Sweep, found: list[Candidate], drawn: list[Transfers | None], query: Query, certain: bool = True
) -> list[Option]:
    """Every candidate over the link, in the sweep's order; those without AP are left out.

    Args:
        sweep: theirs.
        found: its candidates.
        drawn: their transfers.
        query: the question.
        certain: take draws too, which take most of the time; without, ``surely`` and ``maybe`` mean nothing.
    """
    options = (_option(sweep, one, transfers, query, certain) for one, transfers in zip(found, drawn, strict=True))
    return [one for one in options if one is not None]


def ranked(options: list[Option], query: Query) -> list[Option]:
    """The best first: what is good enough before what is not; by AP with a deadline, else by latency."""
    if query.deadline_ms is not None:
        return sorted(options, key=lambda one: (not one.meets, -one.ap, one.latency_ms))
    return sorted(options, key=lambda one: (not one.meets, one.latency_ms if one.meets else -one.ap))


def too_close(best: Option, other: Option, query: Query) -> bool:
    """Whether the best cannot be told from another that is good enough, or perhaps is."""
    if not (other.meets or other.maybe):
        return False
    if query.deadline_ms is not None:
        return len(best.draws) == 0 or undecided(best.draws - other.draws)
    # A slower one that may not even be good enough is no rival; a faster one that may be good enough is.
    near = other.latency_ms <= best.latency_ms * (1 + TIMING_ERROR)
    if near:
        return True
    slower = other.latency_draws - best.latency_draws
    return len(slower) > 0 and undecided(slower)


def front(options: list[Option]) -> set[str]:
    """Ids of the Pareto front: no other is as accurate and as fast, and better in one of both."""
    ids = set()
    for one in options:
        beaten = any(
            other.ap >= one.ap
            and other.latency_ms <= one.latency_ms
            and (other.ap > one.ap or other.latency_ms < one.latency_ms)
            for other in options
        )
        if not beaten:
            ids.add(one.candidate.row.id)
    return ids


def _option(
    sweep: Sweep, candidate: Candidate, transfers: Transfers | None, query: Query, certain: bool
) -> Option | None:
    samples, row = sweep.samples, candidate.row
    ap = sweep.ap(row, query.kind)
    if samples is None or ap is None:
        return None
    again_ms = query.route.again_ms(candidate.bits, query.erased or 0, candidate.retries)
    link_ms = query.route.expected_ms(candidate.bits) + again_ms
    edge_ms, cloud_ms = candidate.edge_ms / query.edge_speed, candidate.cloud_ms / query.cloud_speed
    whole = edge_ms + link_ms + cloud_ms + candidate.hops_ms
    drawn = samples.draws if certain else samples.draws[:0]
    latency_draws = drawn @ whole / drawn.sum(axis=1)
    draws = sweep.draws(row, query.kind) if certain else None
    draws = np.zeros(0) if draws is None else draws
    on_time = 1.0
    ends = sweep.interval(row, query.kind)
    if query.deadline_ms is not None and transfers is not None:
        simulated = query.route.delivered_ms(transfers) + again_ms
        kept = edge_ms + simulated + cloud_ms + candidate.hops_ms <= query.deadline_ms
        on_time = float(kept.mean())
        ap, draws = ap_in_time(sweep, row, query, kept, drawn)
        ends = interval(draws)
    found = standing(sweep, row, query, ap, ends, draws)
    return Option(
        candidate,
        float(edge_ms.mean()),
        float(link_ms.mean()),
        float(cloud_ms.mean()),
        float(candidate.hops_ms.mean()),
        interval(latency_draws),
        _frames_per_second(query.route, candidate, float(edge_ms.mean()), float(cloud_ms.mean())),
        ap,
        ends,
        on_time,
        found.kept,
        draws,
        latency_draws,
        meets=found.meets,
        surely=found.surely,
        maybe=found.maybe,
    )


@dataclass(frozen=True)
class Standing:
    """How an AP compares with the AP that is asked for.

    Attributes:
        kept: its share of the domain's clean AP; None where there is none.
        meets: whether it is good enough.
        surely: whether its interval says so too.
        maybe: whether its interval leaves that open.
    """

    kept: float | None
    meets: bool
    surely: bool
    maybe: bool


def standing(sweep: Sweep, row: Row, query: Query, ap: float, ends: Interval | None, draws: Floats) -> Standing:
    """Compare an AP with what a query asks for.

    Args:
        sweep: the row's.
        row: whose.
        query: says what is good enough.
        ap: over the link.
        ends: its interval.
        draws: (B,) of it.
    """
    clean = sweep.clean(row.domain)
    clean_ap = None if clean is None else sweep.ap(clean, query.kind)
    least = 0.0 if query.keep is None or clean_ap is None else query.keep * clean_ap
    if query.floor is not None:
        least = query.floor
    low, high = ends or (ap, ap)
    if query.keep is not None and clean is not None and not row.clean:  # AP and clean AP go up and down together
        reference = sweep.draws(clean, query.kind)
        if reference is not None and len(reference) == len(draws) and len(draws):
            around = interval(draws - query.keep * reference)
            low, high = (low, high) if around is None else (least + around[0], least + around[1])
    return Standing(ap / clean_ap if clean_ap else None, ap >= least, low >= least, ap < least <= high)


def ap_in_time(sweep: Sweep, row: Row, query: Query, kept: Bools, draws: Ints) -> tuple[float, Floats]:
    """AP where images that come too late count as not detected, and its draws: medians over seeds.

    Args:
        sweep: with samples.
        row: whose.
        query: says whose AP.
        kept: (N,), images that come in time.
        draws: (B, N) weights of images.
    """
    kind = query.kind or sweep.kind
    pools = [run.pools[kind] for run in sweep.samples.runs[row.id]] if sweep.samples else []
    ones = np.ones(len(kept), np.int64)
    values = [one.average_precision(ones, kept) or 0.0 for one in pools]
    return float(np.median(values)), np.median([one.draws(draws, kept) for one in pools], axis=0)


def _frames_per_second(route: Route, candidate: Candidate, edge_ms: float, cloud_ms: float) -> float:
    busiest = max(edge_ms, float(route.serialise_ms(candidate.bits).mean()), cloud_ms)
    return 1e3 / busiest if busiest else float("inf")


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
        retries: how often what is missing is sent again at most.
        leak: PSNR of the picture that the strongest attacker known to the sweep's folder recovers, in dB.
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
    retries: int = 0
    leak: float | None = None

    @property
    def name(self) -> str:
        """Its chain as text, or ``clean``."""
        return label(self.row)


def candidates(
    sweep: Sweep, edge_from: Sweep | None = None, cloud_from: Sweep | None = None, query: Query | None = None
) -> list[Candidate]:
    """The clean runs, and every row that codes, reduces or quantises and is neither a loss nor a probe.

    Where packets are lost for good, the rows that were measured so: protection is their own. What is sent again must
    have the time, and in a stream, where it would hold back frames behind, nothing is.

    Args:
        sweep: with samples.
        edge_from: a sweep of the same conditions on the machine that is to be the edge, whose times count.
        cloud_from: the same of the cloud.
        query: says what is lost and what may leak; default: nothing, and anything.

    Raises:
        CommandError: the sweep has no samples, or no row remains.
    """
    if sweep.samples is None:
        raise CommandError(f"{sweep.folder} has no samples.npz: run the same `featlink bench` again to write it")
    chosen = is_choice if query is None or query.erased is None else functools.partial(_survives, query)
    leaks = read_leaks(sweep.folder)
    known = {} if leaks is None else {text: one.psnr.value for text, one in leaks.strongest().items()}
    found = [
        replace(made, leak=known.get(str(condition_of(row))))
        for row in sweep.rows
        if row.id in sweep.samples.runs and chosen(row) and (made := _candidate(sweep, row, edge_from, cloud_from))
    ]
    if not found and query is not None and query.erased is not None:
        step = f"packet_loss(rate={query.erased:g}, burst={query.burst:g})"
        raise CommandError(f"{sweep.folder} has no condition with {step} behind a codec: sweep some, such as `loss`")
    if not found:
        raise CommandError(f"{sweep.folder} has no condition with times that could be chosen")
    if query is not None and query.leak_at_most is not None:
        most = query.leak_at_most
        found = [one for one in found if one.leak is not None and one.leak <= most]
        if not found:
            raise CommandError(
                f"{sweep.folder} has no condition of which attackers are known to recover {most:g} dB at most: measure "
                f"it with `featlink leak --out {sweep.folder}`"
            )
    return found


def _survives(query: Query, row: Row) -> bool:
    """Whether a row was measured with a query's loss, and its protection fits the query's time."""
    loss = unit_loss(row)
    if loss is None or (loss.rate, loss.burst if loss.rate else query.burst) != (query.erased, query.burst):
        return False
    late = query.deadline_ms is not None and query.route.link.rtt_ms * (loss.retries + 0.5) > query.deadline_ms
    return not (loss.retries and (late or query.fps is not None))


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
    loss = unit_loss(row)
    retries = 0 if loss is None else loss.retries
    counted = of_row(sweep.manifest.get("multiply_adds") or {}, row.id, row.domain)
    return Candidate(row, reduction, codec, strength, edge_ms, cloud_ms, hops_ms, bits, counted, retries)


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
    edge, cloud, hops = np.zeros(images), np.zeros(images), np.zeros(images)
    for one in in_order(timings):
        ms = np.nan_to_num(np.asarray(timings[one.name], np.float64))
        if one.place == "edge":
            edge = edge + ms
        elif one.place == "cloud":
            cloud = cloud + ms
        elif one.name == "hops":
            hops = hops + ms
    return edge, cloud, hops


def with_edge(query: Query, sweep: Sweep, given: Path | None) -> tuple[Query, Sweep | None]:
    """A query with the edge's own times, and the sweep that has them.

    Args:
        query: to answer.
        sweep: to answer it by.
        given: a sweep of the same conditions made on the edge's machine, or a device's report (:func:`device_speed`).

    Raises:
        CommandError: it is neither, or the query says the edge's speed, too.
    """
    if given is None or not given.is_file():
        return query, None if given is None else open_sweep(given)
    if query.edge_speed != 1:
        raise CommandError("the edge's speed follows from the device's report: leave out one of them")
    return replace(query, edge_speed=device_speed(sweep, given)), None


def device_speed(sweep: Sweep, report: Path) -> float:
    """How many times as fast a device is as the machine of a sweep, by the backbone, which is most of the edge's work.

    Args:
        sweep: with features.
        report: what ``featlink-edge --report`` wrote on the device.

    Raises:
        CommandError: it is no such file, or of other weights, or the sweep has no backbone's time.
    """
    try:
        told = json.loads(report.read_bytes())
        theirs, weights = float(told["stages_ms"]["backbone"]["median"]), str(told["weights"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CommandError(f"{report} is not what `featlink-edge --report` writes") from None
    if weights != (own := about(sweep).identity[:16]):
        raise CommandError(f"{report} is of weights {weights}, the sweep of {own or 'unknown ones'}")
    times = [row.timings.get("backbone") for row in sweep.rows if row.domain == "feature"]
    known = [ms for ms in times if ms]
    if not known or theirs <= 0:
        raise CommandError(f"the sweep has no time of the backbone to compare with {report}")
    return float(np.mean(known)) / theirs
