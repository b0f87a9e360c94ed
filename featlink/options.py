"""Command-line options: of a network, which may also come from ``FEATLINK_*``, a data set, and a decision."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import BaseModel

from featlink.deciding.question import Question
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

Command = Callable[..., None]
_NETWORK = ("model", "weights", "profile", "min_size", "max_size", "threads", "device", "split")


def takes_network(*names: str) -> Callable[[Command], Command]:
    """Decorate a command that has a keyword ``config``: it gets the options that choose a network in its place.

    Args:
        names: which of them, by their fields in :class:`featlink.shared.models.config.ModelConfig`; default: all.
            Fields that are not given on the command line come from ``FEATLINK_*``, as for services.
    """
    return _takes("config", ModelConfig, names or _NETWORK, checked_config, "the model's own", "FEATLINK_")


def takes_question(command: Command) -> Command:
    """Decorate a command that has a keyword ``query``: it gets the options of a decision in its place."""

    def make_query(**given: Any) -> Any:
        from featlink.deciding import query  # loads numba

        return query.make_query(**given)

    return _takes("query", Question, tuple(Question.model_fields), make_query, "none")(command)


def _takes(
    keyword: str,
    model: type[BaseModel],
    names: Sequence[str],
    make: Callable[..., Any],
    without: str,
    environment: str | None = None,
) -> Callable[[Command], Command]:
    """Replace a command's keyword by options for fields of a pydantic model; what is given makes the keyword's value.

    Args:
        keyword: of the command.
        model: whose fields they are.
        names: the fields.
        make: makes the value of those that are given.
        without: shown as the default of fields that have none.
        environment: prefix of the variables that may give a field instead.
    """

    def option(name: str) -> inspect.Parameter:
        field = model.model_fields[name]
        shown = without if field.default is None else str(field.default)
        variable = environment and environment + name.upper()
        help_text = str(field.description)
        given = typer.Option(help=f"{help_text[:1].upper()}{help_text[1:]}.", envvar=variable, show_default=shown)
        kinds = (field.annotation, *get_args(field.annotation))
        kind = next((kind for kind in (bool, int, float, Path) if kind in kinds), str)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, given]
        )

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command, locals={"Query": Any}, eval_str=True)
        options = [option(name) for name in names]
        parameters = [
            one for name, given in signature.parameters.items() for one in (options if name == keyword else [given])
        ]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {option.name: given.pop(option.name) for option in options}
            value = make(**{name: value for name, value in chosen.items() if value is not None})
            command(**{keyword: value}, **given)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate
