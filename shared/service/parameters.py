"""Query parameters that an endpoint does not have are refused: a misspelt one would silently do nothing."""

from __future__ import annotations

import difflib

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


async def known_only(request: Request) -> None:
    """A dependency of every endpoint.

    Raises:
        RequestValidationError: the query has a parameter that the endpoint does not take.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    operation = request.app.openapi()["paths"].get(route.path_format, {}).get(request.method.lower())
    if operation is None:  # not documented, such as the documentation
        return
    known = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
    errors = []
    for name in request.query_params:
        if name not in known:
            alike = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {alike[0]}?" if alike else f"known are {', '.join(known) or 'none'}"
            errors.append({"type": "extra_forbidden", "loc": ("query", name[:64]), "msg": f"unknown parameter; {hint}"})
    if errors:
        raise RequestValidationError(errors)
