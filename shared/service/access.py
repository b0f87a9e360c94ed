"""Authentication by bearer tokens, host checks, CORS and CSRF protection, and headers of trusted reverse proxies."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from fastapi import Header
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from featlink.shared.errors import FeatlinkError
from featlink.shared.service.problems import path_below, problem

Role = Literal["anyone", "client", "service"]
"""``anyone`` where no token is asked for; else whose token came with the request."""

RUN_TOKEN = "featlink-run-token"
"""Header with the token of the run that a result is to enter; edge and channel pass it on."""

RunToken = Annotated[
    str | None,
    Header(alias=RUN_TOKEN, description="token of the run, as POST /v1/runs answered it", max_length=200),
]
"""The header as a parameter of endpoints."""

_OPEN = {"/livez"}
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_PORTS = {"http": 80, "https": 443}
_ONE_LABEL = re.compile(r"[a-z0-9_-]+", re.IGNORECASE)


class ForbiddenError(FeatlinkError):
    """A request that its token gives no right to."""

    status = 403
    title = "Forbidden"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def digest(token: str) -> str:
    """A token as it is stored: its SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def run_token(headers: Mapping[str, str]) -> dict[str, str]:
    """What of a request's headers goes on to the next service, for the run's sake."""
    return {RUN_TOKEN: headers[RUN_TOKEN]} if RUN_TOKEN in headers else {}


def role(scope: Scope) -> Role:
    """Whose request this is; see :data:`Role`."""
    whose: Role = scope.get("featlink.role", "anyone")
    return whose


class Forwarded:
    """ASGI middleware: a request as a trusted reverse proxy got it, by the ``X-Forwarded-*`` headers.

    ``Host`` (with ``Port``) is the name that clients use, ``Prefix`` the path below which they see the service, which
    becomes the root path; ``Proto`` and ``For`` are uvicorn's part.

    Args:
        app: what answers.
        proxies: addresses and networks of proxies; ``*`` for any.
    """

    def __init__(self, app: ASGIApp, proxies: list[str]) -> None:
        self._uvicorn = ProxyHeadersMiddleware(cast("Any", app), proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http":
            headers = MutableHeaders(scope=scope)
            prefix = headers.get("x-forwarded-prefix", "").rstrip("/")
            del headers["x-forwarded-prefix"]  # NiceGUI takes it from anyone
            if scope["client"] and scope["client"][0] in self._uvicorn.trusted_hosts:
                if host := headers.get("x-forwarded-host", "").rpartition(",")[2].strip():
                    port = headers.get("x-forwarded-port", "")
                    headers["host"] = f"{host}:{port}" if port.isdecimal() and _name(host) == host.lower() else host
                if _PREFIX.fullmatch(prefix):
                    scope["root_path"] = prefix + scope.get("root_path", "")
                    if not scope["path"].startswith(prefix + "/"):
                        scope["path"] = prefix + scope["path"]
        await self._uvicorn(cast("Any", scope), cast("Any", receive), cast("Any", send))


class Access:
    """ASGI middleware that refuses requests without a right to an answer.

    401 without a token, if there are any; 421 for a foreign ``Host``, which a page gets past the browser by pointing a
    name of its own at this machine (DNS rebinding); 403 for an ``Origin`` other than that host.

    Args:
        app: what it guards.
        clients: SHA-256 digests of clients' tokens, in hexadecimal.
        services: of the token that the services share; "" for none.
        hosts: further names, each with a dot, that the service answers to; ``*`` for any.
    """

    def __init__(self, app: ASGIApp, clients: Collection[str], services: str, hosts: Collection[str]) -> None:
        self._app = app
        self._clients = tuple(clients)
        self._services = services
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _name(host)
        whose = self._role(headers.get("authorization", ""))
        if host and not self._is_own(name):
            detail = f"this service is not {name!r}; FEATLINK_HOSTS lists the names it answers to"
            await problem(421, "Misdirected request", detail, path)(scope, receive, send)
        elif origin is not None and not _is_same(origin, host):
            await problem(403, "Forbidden", "pages of other sites may not ask", path)(scope, receive, send)
        elif whose is None and path_below(scope) not in _OPEN:
            response = problem(401, "Unauthorized", "a valid bearer token is needed", path)
            response.headers["www-authenticate"] = "Bearer"
            await response(scope, receive, send)
        else:
            scope["featlink.role"] = whose or "anyone"
            await self._app(scope, receive, send)

    def _role(self, authorization: str) -> Role | None:
        if not (self._clients or self._services):
            return "anyone"
        scheme, _, token = authorization.partition(" ")
        given = digest(token.strip())
        # in constant time, and all of them, whichever it is
        is_service = bool(self._services) and hmac.compare_digest(given, self._services)
        is_client = sum(hmac.compare_digest(given, client) for client in self._clients) > 0
        if scheme.lower() != "bearer":
            return None
        return "service" if is_service else "client" if is_client else None

    def _is_own(self, name: str) -> bool:
        """Addresses and names without a dot are nobody's to rebind."""
        if "*" in self._hosts or name in self._hosts or _ONE_LABEL.fullmatch(name):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _name(host: str) -> str:
    """A ``Host`` header without its port."""
    name = host if host.endswith("]") else re.sub(r":\d*$", "", host)
    return name.lower().rstrip(".")


def _is_same(origin: str, host: str) -> bool:
    """Whether a page's origin is the host that is asked; the port of its scheme may be left out of either."""
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        usual = _PORTS[page.scheme]
        return (page.hostname, page.port or usual) == (here.hostname, here.port or usual)
    except (KeyError, ValueError):
        return False
