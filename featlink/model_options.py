"""The options by which commands name a network and a data set; a network's may come from ``FEATLINK_*``, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from featlink.errors import CommandError
from shared.conditions.language import validation_line
from shared.detector.config import MODELS, ModelConfig

DatasetOption = Annotated[
    Path,
    typer.Option(
        help="COCO folder with annotations/instances_X.json beside X/, or such a file; 'starter': the bundled scenes."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", "--images", min=1, help="Take only the first so many images.", show_default="all"),
]
BitstreamsOption = Annotated[
    Path | None, typer.Option(help="Keep the codecs' bitstreams in this folder.", show_default="keep none")
]

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
SizeOption = Annotated[
    int | None, typer.Option(help="Size of the network input in pixels.", show_default="the weights' own")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(help="CPU threads of one inference; 0 takes all.", envvar="FEATLINK_THREADS", show_default="0"),
]


def network_config(**given: Any) -> ModelConfig:
    """The network's settings; what the command line does not give comes from ``FEATLINK_*``, as for services.

    Args:
        given: fields of :class:`shared.detector.config.ModelConfig`; None for what was not given.

    Raises:
        CommandError: a value that cannot be, in one line.
    """
    from shared.service.settings import ModelSettings

    try:
        config = ModelSettings(**{name: value for name, value in given.items() if value is not None}).config()
    except ValidationError as error:
        raise CommandError(validation_line(error)) from None
    if config.weights in ("starter", "coco"):
        return config
    return replace(config, weights=str(Path(config.weights).expanduser().resolve()))  # services may be elsewhere
