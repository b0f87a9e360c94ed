"""The options by which commands name a network; those not given come from ``FEATLINK_*``, or are the services'."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.detector.config import MODELS

ModelOption = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(MODELS)}.", envvar="FEATLINK_MODEL", show_default=MODELS[0])
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        help="'starter' (bundled), 'coco' (official, downloaded once), or a file.",
        envvar="FEATLINK_WEIGHTS",
        show_default="starter",
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        help="'fast', or 'exact': bit-identical to torchvision.", envvar="FEATLINK_PROFILE", show_default="fast"
    ),
]
SizeOption = Annotated[int | None, typer.Option(help="Of the network input, pixels; default: the weights' own.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(help="CPU threads of one inference; 0: all.", envvar="FEATLINK_THREADS", show_default="0"),
]
