"""Command-line options that choose a network and a data set; a network's may also come from ``FEATLINK_*``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from featlink.network import checked_config
from featlink.shared.fpn import PYRAMID, SPLITS
from featlink.shared.models.config import MODELS

DatasetOption = Annotated[
    Path,
    typer.Option(
        help="COCO or CocoVID folder with annotations/instances_X.json beside X/, or such a file; 'starter': bundled "
        "scenes; 'clips': moving ones, drawn at first use; a MOTChallenge or SFU-HW folder; with --truth clean, a "
        "video file or pictures in order (frames/%06d.png)."
    ),
]
PicturesOption = Annotated[
    Path | None,
    typer.Option("--pictures", help="Folder of the data set's pictures.", show_default="found beside the annotations"),
]
PicturesInOption = Annotated[
    Path | None,
    typer.Option(
        "--pictures-in", help="Folder of the data set's pictures.", show_default="found beside the annotations"
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", "--images", min=1, help="Take only the first so many images, or clips.", show_default="all"
    ),
]
BitstreamsOption = Annotated[
    Path | None, typer.Option(help="Keep the codecs' bitstreams in this folder.", show_default="keep none")
]

ModelOption = Annotated[
    str | None,
    typer.Option(
        help=f"One of {', '.join(MODELS)}, one of another package, or your own as FILE.py:FUNCTION.",
        envvar="FEATLINK_MODEL",
        show_default=MODELS[0],
    ),
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
        help="'fast', 'exact': bit-identical to torchvision, or 'bf16': faster, rounded to bfloat16.",
        envvar="FEATLINK_PROFILE",
        show_default="fast",
    ),
]
MinSizeOption = Annotated[
    int | None,
    typer.Option(help="Shorter side of the network input in pixels.", show_default="the weights' own"),
]
MaxSizeOption = Annotated[
    int | None,
    typer.Option(help="Longer side of the network input at most, in pixels.", show_default="the weights' own"),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(help="CPU threads of one inference; 0 takes all.", envvar="FEATLINK_THREADS", show_default="0"),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        help="Where the network runs: 'auto' (a CUDA GPU where there is one), 'cpu', 'cuda', 'cuda:1'.",
        envvar="FEATLINK_DEVICE",
        show_default="auto",
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help=f"Where the network is cut: {', '.join(SPLITS)}, or a place that another model names.",
        envvar="FEATLINK_SPLIT",
        show_default=PYRAMID,
    ),
]

_NETWORK: dict[str, Any] = {
    "model": ModelOption,
    "weights": WeightsOption,
    "profile": ProfileOption,
    "min_size": MinSizeOption,
    "max_size": MaxSizeOption,
    "threads": ThreadsOption,
    "device": DeviceOption,
    "split": SplitOption,
}


def takes_network(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command that has a keyword ``config``: it gets the options that choose a network in its place.

    Args:
        names: which of them, by their fields in :class:`featlink.shared.models.config.ModelConfig`; default: all.
            Fields that are not given on the command line come from ``FEATLINK_*``, as for services.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_NETWORK[name])
            for name in names or _NETWORK
        ]
        parameters = [
            one for name, given in signature.parameters.items() for one in (options if name == "config" else [given])
        ]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {option.name: given.pop(option.name) for option in options}
            config = checked_config(**{name: value for name, value in chosen.items() if value is not None})
            command(config=config, **given)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
