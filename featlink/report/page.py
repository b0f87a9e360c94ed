"""The report as data: sections of text, tables, plots and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from featlink.report.about import about, manifest_table
from featlink.report.agreement import agreement_table, by_table
from featlink.report.coding_times import coding_times_table, multiply_adds_table
from featlink.report.condition_tables import equal_noise_table, other_table, paper_tables, size_table
from featlink.report.curve import Curve
from featlink.report.curves import curve_figures, paper_figure
from featlink.report.decision import decision_blocks
from featlink.report.feature_coding import coding_blocks
from featlink.report.figure import Figure
from featlink.report.gallery import THRESHOLD, Strip
from featlink.report.latency import break_even_table, latency_figures, overlaps
from featlink.report.rates import bd_findings, bd_table, equal_bits_table, equal_psnr_table
from featlink.report.sweep import Sweep
from featlink.report.table import Table, markdown, percent
from featlink.results import Row

Block = Table | Figure | Strip | str

_OVERLAP = (
    " Stages of this sweep overlapped: their times include waiting for one another, and are no basis for a decision. A "
    "sweep of a few images with --threads 1 or --engine http gives times that are."
)
_DECISION = (
    "The fastest way to keep 95 % of the clean AP over some links, with both machines as measured. `featlink decide` "
    "answers for other links, traces, machines, floors and deadlines."
)
_CODING = "What coded pixels, features and reduced features need for the same AP, over every set of `fcm` rows."


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: for links.
        title: heading.
        lead: what it is about, in a sentence or two.
        blocks: text, tables, plots and pictures.
    """

    id: str
    title: str
    lead: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: heading.
        statement: which model's numbers these are.
        facts: the headline, (what, value).
        findings: what the numbers say, in one sentence each.
        sections: the rest.
    """

    title: str
    statement: str
    facts: Sequence[tuple[str, str]]
    findings: Sequence[str]
    sections: Sequence[Section]


def page(
    sweep: Sweep, gallery: Sequence[Strip | str], planes: Sequence[Strip | str], others: Sequence[Curve] = ()
) -> Page:
    """Put a sweep's report together.

    Args:
        sweep: whose report.
        gallery: overlays, or why there are none.
        planes: packed planes, or why there are none.
        others: curves of others, to stand beside ours.
    """
    what = about(sweep)
    coding, decision = coding_blocks(sweep, others), decision_blocks(sweep)
    sections = [
        Section("paper", "The paper's tables", _paper_lead(sweep), _present(*_paper_blocks(sweep))),
        Section(
            "equal",
            "At equal cost",
            "The paper compares both domains at the same setting of a distortion. Here they are compared where they "
            "cost the same bits, or where the errors are equally large.",
            _present(*curve_figures(sweep), bd_table(sweep), equal_bits_table(sweep), equal_psnr_table(sweep)),
        ),
        *([Section("coding", "Feature coding", _CODING, coding)] if coding else []),
        Section(
            "other",
            "Beyond the paper",
            "Mixes of distortions, losses, further strengths, and rank probes: rank_shuffle keeps the histogram of the "
            "features and breaks their order, monotone keeps their order and changes the histogram.",
            _present(other_table(sweep) or "This sweep has no such conditions."),
        ),
        Section("sizes", "Small and large objects", "What a distortion costs by size of object.", [size_table(sweep)]),
        Section(
            "latency",
            "Time",
            "Mean time of one image by stage, and the link rate from which sending features pays."
            + (_OVERLAP if overlaps(sweep) else ""),
            _present(
                *latency_figures(sweep),
                break_even_table(sweep) or "This sweep has no timings of both domains.",
                coding_times_table(sweep),
                multiply_adds_table(sweep),
            ),
        ),
        *([Section("decision", "Which to send", _DECISION, decision)] if decision else []),
        Section(
            "gallery",
            "What is detected",
            f"Detections with a score from {THRESHOLD} under the costliest strength of each distortion: what was sent "
            "as features above, as an image below.",
            gallery,
        ),
        Section("planes", "What crosses the link", "The features of one image as the planes that are sent.", planes),
        Section("manifest", "Manifest", "", [manifest_table(sweep)]),
    ]
    return Page(
        "Featlink report: features or pixels over the link", what.statement, what.facts, findings(sweep), sections
    )


def findings(sweep: Sweep) -> list[str]:
    """What the numbers say, in one sentence each."""
    found = []
    retentions = [(sweep.retention(feature), sweep.retention(image)) for feature, image in sweep.twins()]
    kept = [(f, i) for f, i in retentions if f is not None and i is not None]
    if kept:
        wins = sum(f > i for f, i in kept)
        found.append(
            f"Under the same distortion, features keep more of their clean AP than the image in {wins} of {len(kept)} "
            "pairs of conditions."
        )
    overall = by_table(sweep, sweep.kind)["overall"]
    if overall.spearman is not None:
        found.append(
            f"Over {overall.rows} rows of the paper, retention correlates with the paper's by Spearman's "
            f"ρ = {overall.spearman:.2f}; it differs by {percent(overall.error)} percentage points on average."
        )
    return found + bd_findings(sweep)


def to_markdown(report: Page) -> str:
    """The report's texts and tables in Markdown, without the manifest, which is of one machine."""
    parts = [f"# {report.title}", report.statement]
    parts.append("\n".join(f"- {what}: {value}" for what, value in report.facts))
    parts += report.findings
    for section in report.sections:
        tables = [markdown(block).strip() for block in section.blocks if isinstance(block, Table)]
        if tables and section.id != "manifest":
            parts += [f"## {section.title}", *([section.lead] if section.lead else []), *tables]
    return "\n\n".join(parts) + "\n"


def _paper_lead(sweep: Sweep) -> str:
    spread = max((_spread(sweep, row) for row in sweep.rows), default=0.0)
    lead = (
        "Each row beside the paper's own numbers. Retention is AP over the AP without distortion in the same domain; "
        "the paper's is relative to its mAP of 40.3. Δ is ours less the paper's, in percentage points."
    )
    if spread:
        lead += f" Random distortions: median over seeds, whose APs lie at most {100 * spread:.1f} points apart."
    return lead


def _spread(sweep: Sweep, row: Row) -> float:
    """Greatest less least AP of a row's seeds."""
    scores = [seed.segm if sweep.kind == "segm" else seed.bbox for seed in row.seeds]
    values = [ap for one in scores if one is not None and (ap := one.get("AP")) is not None]
    return max(values) - min(values) if values else 0.0


def _paper_blocks(sweep: Sweep) -> list[Block | None]:
    tables: list[Block | None] = [*paper_tables(sweep)]
    tables.insert(2, equal_noise_table(sweep))
    return [paper_figure(sweep), agreement_table(sweep), *tables]


def _present(*blocks: Block | None) -> list[Block]:
    return [block for block in blocks if block is not None]
