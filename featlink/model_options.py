"""Command-line options that choose a network and a data set; a network's may also come from ``FEATLINK_*``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from featlink.network import checked_config
from featlink.shared.models.config import ModelConfig

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

_NETWORK = ("model", "weights", "profile", "min_size", "max_size", "threads", "device", "split")


def _network_option(name: str) -> inspect.Parameter:
    """A keyword of a command for a field of :class:`~featlink.shared.models.config.ModelConfig`."""
    field = ModelConfig.model_fields[name]
    shown = "the model's own" if field.default is None else str(field.default)
    option = typer.Option(help=field.description, envvar=f"FEATLINK_{name.upper()}", show_default=shown)
    kind = int | None if int in (field.annotation, *get_args(field.annotation)) else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def takes_network(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command that has a keyword ``config``: it gets the options that choose a network in its place.

    Args:
        names: which of them, by their fields in :class:`featlink.shared.models.config.ModelConfig`; default: all.
            Fields that are not given on the command line come from ``FEATLINK_*``, as for services.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        options = [_network_option(name) for name in names or _NETWORK]
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
