"""``featlink conditions``: the conditions that have a name."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from featlink.errors import CommandError


def conditions(
    names: Annotated[str, typer.Argument(help="Only these, e.g. 'paper.table3' or 'paper+equal'.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print {name: text} as JSON.")] = False,
) -> None:
    """List the named conditions. Use a name wherever a condition is asked for."""
    from featlink.shared.conditions.names import NAMED, select

    chosen = select(names) if names else NAMED
    if not chosen:
        raise CommandError(f"no condition is named {names!r}; 'featlink conditions' lists all")
    if as_json:
        typer.echo(json.dumps(chosen, indent=1))
        return
    width = max(map(len, chosen))
    for name, text in chosen.items():
        typer.echo(f"{name:<{width}}  {text}")
