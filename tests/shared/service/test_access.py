"""Who gets an answer: tokens, hosts and origins."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import ValidationError

from featlink.shared.service.access import digest, role
from featlink.shared.service.settings import ServiceSettings

CLIENT, OTHER, SERVICE = "client-token-0123456789", "another-token-0123456789", "service-token-0123456789"


@pytest.fixture
def guarded(make_service: Callable[..., FastAPI]) -> FastAPI:
    return routed(make_service(tokens=f"{digest(CLIENT)}, {digest(OTHER)}", service_token=SERVICE))


def routed(app: FastAPI) -> FastAPI:
    @app.post("/role")
    async def whose(request: Request) -> str:
        await request.body()
        return role(request.scope)

    return app


def asked(app: FastAPI, visit: Any, path: str = "/role", **headers: str) -> httpx.Response:
    method = "POST" if path == "/role" else "GET"
    answer: httpx.Response = visit(app, lambda client: client.request(method, path, headers=headers))
    return answer


@pytest.mark.parametrize(("token", "whose"), [(CLIENT, "client"), (OTHER, "client"), (SERVICE, "service")])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_token_opens(guarded: FastAPI, visit: Any, token: str, whose: str, scheme: str) -> None:
    assert asked(guarded, visit, authorization=f"{scheme} {token}").json() == whose


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", f"Basic {CLIENT}", f"Bearer {digest(CLIENT)}"])
def test_without_one_only_liveness_answers(
    guarded: FastAPI, visit: Any, given: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = {} if given is None else {"authorization": given}
    for path in ("/role", "/readyz", "/metrics", "/docs", "/openapi.json", "/nothing"):
        refused = asked(guarded, visit, path, **headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["content-type"] == "application/problem+json"
    assert asked(guarded, visit, "/livez", **headers).status_code == 200
    logged = capsys.readouterr().out
    assert "401" in logged
    assert CLIENT not in logged
    assert digest(CLIENT) not in logged


def test_where_no_token_is_set_anyone_may_ask(make_service: Callable[..., FastAPI], visit: Any) -> None:
    assert asked(routed(make_service()), visit).json() == "anyone"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_beyond_this_machine_tokens_are_needed_unless_switched_off_by_name(host: str) -> None:
    with pytest.raises(ValidationError, match="FEATLINK_TOKENS"):
        ServiceSettings(host=host)
    assert ServiceSettings(host=host, access="open").client_tokens == []
    assert ServiceSettings(host=host, tokens=digest(CLIENT)).client_tokens == [digest(CLIENT)]


@pytest.mark.parametrize("tokens", ["secret", "a" * 63, f"{'a' * 64};{'b' * 64}"])
def test_tokens_are_set_as_digests(tokens: str) -> None:
    with pytest.raises(ValidationError, match="tokens"):
        ServiceSettings(tokens=tokens)


def test_a_secret_is_not_shown() -> None:
    assert SERVICE not in repr(ServiceSettings(service_token=SERVICE))


@pytest.mark.parametrize(
    ("host", "known"),
    [
        *((host, True) for host in ("127.0.0.1:8001", "[::1]:8001", "localhost", "LOCALHOST:80", "edge:8000")),
        *((host, True) for host in ("lent.example:8001", "Lent.Example.", "10.0.0.7")),
        *(
            (host, False)
            for host in ("evil.example", "evil.example:8001", "localhost.evil.example", "a b", "127.0.0.1.e")
        ),
    ],
)
def test_only_own_names_are_answered(make_service: Callable[..., FastAPI], visit: Any, host: str, known: bool) -> None:
    app = make_service(hosts="lent.example, other.example")
    answer = asked(app, visit, "/livez", host=host)
    assert answer.status_code == (200 if known else 421)
    assert known or "FEATLINK_HOSTS" in answer.json()["detail"]


def test_pages_of_other_sites_may_not_ask(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app = routed(make_service())
    for origin in ("http://evil.example", "null", "http://service:81"):
        refused = asked(app, visit, origin=origin)
        assert refused.status_code == 403
        assert not any(name.startswith("access-control") for name in refused.headers)
    assert asked(app, visit, origin="http://service").json() == "anyone"


@pytest.mark.parametrize(
    ("origin", "host", "known"),
    [
        ("https://gpubox", "gpubox:443", True),
        ("https://gpubox", "gpubox", True),
        ("http://gpubox:80", "gpubox", True),
        ("https://gpubox:8443", "gpubox", False),
        ("https://gpubox:8443", "other:8443", False),
        ("ftp://gpubox", "gpubox", False),
        ("https://gpubox:x", "gpubox", False),
    ],
)
def test_a_port_that_goes_without_saying_is_no_difference(
    make_service: Callable[..., FastAPI], visit: Any, origin: str, host: str, known: bool
) -> None:
    answer = asked(routed(make_service()), visit, origin=origin, host=host)
    assert answer.status_code == (200 if known else 403)


FORWARDED = {"x-forwarded-host": "gpubox.example", "x-forwarded-port": "8443", "x-forwarded-proto": "https"}


@pytest.mark.parametrize("proxies", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "*"])
def test_a_trusted_proxy_says_how_it_was_asked(make_service: Callable[..., FastAPI], visit: Any, proxies: str) -> None:
    app = routed(make_service(proxies=proxies, hosts="gpubox.example"))
    headers = {**FORWARDED, "origin": "https://gpubox.example:8443", "host": "127.0.0.1:8001"}
    assert asked(app, visit, **headers).json() == "anyone"
    below = asked(app, visit, "/docs", **headers, **{"x-forwarded-prefix": "/edge"})
    assert '"/edge/openapi.json"' in below.text.replace("'", '"')
    assert asked(app, visit, "/openapi.json", **{"x-forwarded-prefix": "/edge"}).json()["servers"] == [{"url": "/edge"}]
    assert asked(app, visit, "/livez", **headers, **{"x-forwarded-prefix": "//evil.example"}).status_code == 200
    assert asked(app, visit, "/", **{"x-forwarded-prefix": "/edge"}).json()["docs"] == "/edge/docs"


@pytest.mark.parametrize("proxies", ["", "10.0.0.1"])
def test_nobody_else_does(make_service: Callable[..., FastAPI], visit: Any, proxies: str) -> None:
    app = routed(make_service(proxies=proxies, hosts="gpubox.example"))
    headers = {**FORWARDED, "origin": "https://gpubox.example:8443", "host": "127.0.0.1:8001"}
    assert asked(app, visit, **headers).status_code == 403
    # a page that has bound its name to this machine does not get around the check of the host
    assert asked(app, visit, "/livez", **{"x-forwarded-host": "127.0.0.1", "host": "evil.example"}).status_code == 421
    assert asked(app, visit, "/", **{"x-forwarded-prefix": "/edge"}).json()["docs"] == "/docs"


def test_what_is_no_address_of_a_proxy_is_refused() -> None:
    with pytest.raises(ValidationError, match="proxies"):
        ServiceSettings(proxies="127.0.0.1, gpubox")


def test_a_probe_below_a_path_is_a_probe(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app = make_service(proxies="*", tokens=digest(CLIENT))
    assert asked(app, visit, "/livez", **{"x-forwarded-prefix": "/edge"}).status_code == 200
    assert asked(app, visit, "/readyz", **{"x-forwarded-prefix": "/edge"}).status_code == 401


def test_every_status_is_documented_and_allow_is_complete(make_service: Callable[..., FastAPI], visit: Any) -> None:
    app = make_service(refusals=(415,))
    app.get("/thing")(lambda: None)
    app.delete("/thing")(lambda: None)

    async def scenario(client: httpx.AsyncClient) -> tuple[httpx.Response, Any]:
        return await client.put("/thing"), (await client.get("/openapi.json")).json()

    wrong, document = visit(app, scenario)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET")
    responses = document["paths"]["/thing"]["get"]["responses"]
    assert {"200", "401", "405", "415", "422", "503"} <= responses.keys()
    assert list(responses["422"]["content"]) == ["application/problem+json"]
    assert list(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    assert "HTTPValidationError" not in json.dumps(document["paths"])
