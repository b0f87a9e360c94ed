"""``featlink check-model``: prove that a split model's halves are its whole."""

from __future__ import annotations

import typer

from featlink.errors import CommandError
from featlink.options import takes_network
from featlink.shared.models.config import ModelConfig


@takes_network()
def check_model(*, config: ModelConfig) -> None:
    """Prove that a model's halves, built apart, are the whole network bit for bit; name every tensor that crosses.

    The model's code is run. Exit code 1 if anything is wrong.
    """
    from featlink.model_check import check_model as check
    from featlink.report.table import MISSING, Column, Table, number, show

    found = check(config)
    columns = [Column("tensor", number=False), Column("channels"), Column("stride"), Column("shape", number=False)]
    columns += [Column("kB of float32"), Column("", number=False), Column("detections need it", number=False)]
    lines = []
    for one in found.crossing:
        size = 4 * one.shape[0] * one.shape[1] * one.shape[2] / 1000 if len(one.shape) == 3 else None
        made = f"of {one.source}, need not be sent" if one.source else ""
        needed = MISSING if one.needed is None else "yes" if one.needed else "no"
        shape = "×".join(map(str, one.shape)) or MISSING
        channels = str(one.shape[0]) if one.shape else MISSING
        lines.append([one.name, channels, str(one.stride), shape, number(size, 0), made, needed])
    height, width = found.picture
    show(Table(f"What crosses the link of {found.name} ({found.weights}), of {width}×{height} pixels", columns, lines))
    typer.echo()
    if found.multiply_adds is not None:
        edge, cloud = found.multiply_adds
        typer.echo(f"multiply-adds: edge {edge / 1e6:,.1f} million, cloud {cloud / 1e6:,.1f} million")
    for name, why in found.reductions.items():
        typer.echo(f"{name}: {why or 'works'}")
    for text in found.remarks:
        typer.echo(f"note: {text}")
    for text in found.proven:
        typer.echo(f"holds: {text}")
    if found.conditions and not any(found.conditions.values()):
        typer.echo(f"holds: it goes through {', '.join(found.conditions)}")
    for text in found.faults:
        typer.echo(f"wrong: {text}")
    if found.faults:
        raise CommandError(f"{found.name} is not a network in two halves yet")
