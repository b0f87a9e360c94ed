"""What ``FEATLINK_*`` environment variables there are, and what is said of wrong ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

PREFIX = "FEATLINK_"
NOT_OF_SERVICES = ("BIND", "EDGE_PORT", "CHANNEL_PORT", "CLOUD_PORT", "PAGE_PORT", "DATA", "OUT", "FITTED")
"""Variables of Compose's file and of :mod:`featlink.shared.fitted`; services pass over them."""
_OF_KUBERNETES = re.compile(r"\w*_(SERVICE_(HOST|PORT)\w*|PORT(_\d+_(TCP|UDP)\w*)?)")
_ALIKE = 0.85
"""Ratio of :func:`difflib.get_close_matches` from which a name is taken for a slip of the pen."""


def wrong_settings(error: ValidationError, given: Iterable[str] = ()) -> str:
    """What is wrong with settings, in one line that names the variables.

    Args:
        error: of a settings class.
        given: fields that did not come from the environment.
    """
    lines = []
    for item in error.errors():
        field = str(item["loc"][0]) if item["loc"] else ""
        name = field if field in given or not field else PREFIX + field.upper()
        within = ".".join(str(part) for part in item["loc"][1:])
        message = (within and f"{within}: ") + item["msg"].removeprefix("Value error, ")
        if str(item["input"]).startswith("tcp://"):
            message += f" (Kubernetes sets it for a Service of that name; {PREFIX}* needs enableServiceLinks: false)"
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(lines)


def slip(environment: Mapping[str, str], known: Iterable[str]) -> str | None:
    """The first variable that is nearly a setting's name and none, in a line; None if there is none.

    Args:
        environment: of the process.
        known: fields of settings classes.

    Example:
        >>> slip({"FEATLINK_WEIGHT": "coco"}, ["weights"])
        'FEATLINK_WEIGHT is no setting; did you mean FEATLINK_WEIGHTS?'
    """
    names = {field.upper() for field in known} | set(NOT_OF_SERVICES)
    for variable, value in sorted(environment.items()):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in names or not value or _OF_KUBERNETES.fullmatch(name):
            continue
        if alike := difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE):
            return f"{variable} is no setting; did you mean {PREFIX}{alike[0]}?"
    return None
