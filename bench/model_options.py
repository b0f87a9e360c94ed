"""The options by which commands name a network."""

from __future__ import annotations

from typing import Annotated

import typer

from shared.model_config import MODELS

ModelOption = Annotated[str, typer.Option(help=f"One of {', '.join(MODELS)}.")]
WeightsOption = Annotated[str, typer.Option(help="'starter' (bundled), 'coco' (official, downloaded once), or a file.")]
ProfileOption = Annotated[str, typer.Option(help="'fast', or 'exact': bit-identical to torchvision.")]
SizeOption = Annotated[int | None, typer.Option(help="Of the network input, pixels; default: the weights' own.")]
ThreadsOption = Annotated[int, typer.Option(help="CPU threads of one inference; 0: all.")]
