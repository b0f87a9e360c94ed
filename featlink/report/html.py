"""The report as one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from featlink.report.curves import Figure
from featlink.report.gallery import Strip
from featlink.report.table import Table, markdown

Block = Table | Figure | Strip | str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        id: for links.
        title: heading.
        lead: what it is about, in a sentence or two.
        blocks: text, tables, plots and pictures.
        folded: shown only on request.
    """

    id: str
    title: str
    lead: str
    blocks: Sequence[Block]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: heading.
        headline: what was seen, in a sentence; may be empty.
        statement: which model's numbers these are.
        facts: about the run, (what, value).
        findings: what else the numbers say, in one sentence each.
        sections: the rest.
        opening: a plot and pictures above all sections.
    """

    title: str
    headline: str
    statement: str
    facts: Sequence[tuple[str, str]]
    findings: Sequence[str]
    sections: Sequence[Section]
    opening: Sequence[Block] = ()


def render(page: Page) -> str:
    """A page as HTML, with style, script, plots' library and pictures in it."""
    blocks = [*page.opening, *(block for section in page.sections for block in section.blocks)]
    plots = any(isinstance(block, Figure) for block in blocks)
    library = get_plotlyjs() if plots else ""
    html: str = _template().render(page=page, style=_asset("style.css"), script=_asset("script.js"), plotly=library)
    return html


def to_markdown(page: Page) -> str:
    """The report's texts and tables in Markdown, without the manifest, which is of one machine, and what is folded."""
    parts = [f"# {page.title}", *([page.headline] if page.headline else []), page.statement]
    parts.append("\n".join(f"- {what}: {value}" for what, value in page.facts))
    parts += page.findings
    for section in page.sections:
        tables = [markdown(block).strip() for block in section.blocks if isinstance(block, Table) and not block.folded]
        if tables and section.id != "manifest":
            parts += [f"## {section.title}", *([section.lead] if section.lead else []), *tables]
    return "\n\n".join(parts) + "\n"


@cache
def _template() -> Any:
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    environment.tests |= {kind.__name__.lower(): _is(kind) for kind in (Table, Figure, Strip)}
    return environment.get_template("report.html")


def _is(kind: type) -> Any:
    return lambda block: isinstance(block, kind)


def _breakable(text: str) -> Markup:
    """Text that may break before a distortion's parameters."""
    return Markup("(<wbr>").join(text.split("("))


def _asset(name: str) -> str:
    return (files("featlink.report") / "assets" / name).read_text(encoding="utf-8")
