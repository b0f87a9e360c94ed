"""The client tries again where a repeat is safe, and only there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import httpx
import pytest
import tenacity

from featlink import client as requests

Answer = httpx.Response | type[httpx.HTTPError]
OK, BUSY, DOWN = httpx.Response(200), httpx.Response(503, headers={"retry-after": "0"}), httpx.Response(502)


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_jitter", tenacity.wait_none())


@pytest.fixture
def ask() -> Callable[..., tuple[httpx.Response, int]]:
    """Ask a service that gives some answers in turn: the last one seen, and how many requests it took."""
    asked = 0

    def client(answers: list[Answer]) -> httpx.Client:
        left = itertools.chain(answers, itertools.repeat(answers[-1]))

        def answer(request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            given = next(left)
            if isinstance(given, httpx.Response):
                return given
            raise given("lost", request=request)

        return httpx.Client(transport=httpx.MockTransport(answer), base_url="http://service")

    def ask(answers: list[Answer], method: str = "POST", path: str = "/v1/infer") -> tuple[httpx.Response, int]:
        with client(answers) as one:
            return requests.request(one, method, path), asked

    return ask


def test_what_is_busy_or_lost_is_asked_again(ask: Callable[..., tuple[httpx.Response, int]]) -> None:
    response, asked = ask([BUSY, DOWN, httpx.ReadError, httpx.RemoteProtocolError, OK])
    assert (response.status_code, asked) == (200, 5)


@pytest.mark.parametrize("status", [200, 400, 404, 413, 500, 504])
def test_other_answers_are_final(status: int, ask: Callable[..., tuple[httpx.Response, int]]) -> None:
    assert ask([httpx.Response(status)])[1] == 1


def test_a_run_is_not_opened_twice(ask: Callable[..., tuple[httpx.Response, int]]) -> None:
    response, asked = ask([BUSY, OK], path="/v1/runs")
    assert (response.status_code, asked) == (503, 1)
    with pytest.raises(httpx.ReadError):
        ask([httpx.ReadError, OK], path="/v1/runs")


def test_patience_ends_with_what_was_wrong(
    ask: Callable[..., tuple[httpx.Response, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "PATIENCE_SECONDS", 0.05)
    assert ask([BUSY])[0].status_code == 503
    with pytest.raises(httpx.ReadError, match="lost"):
        ask([httpx.ReadError])


def test_only_a_service_that_has_answered_can_be_on_its_way_back(
    ask: Callable[..., tuple[httpx.Response, int]],
) -> None:
    with pytest.raises(httpx.ConnectError):
        ask([httpx.ConnectError, OK])
    answers: Iterator[Answer] = iter([OK, httpx.ConnectError, httpx.ConnectError, OK])

    def answer(request: httpx.Request) -> httpx.Response:
        given = next(answers)
        if isinstance(given, httpx.Response):
            return given
        raise given("refused", request=request)

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://service") as client:
        assert requests.request(client, "GET", "/readyz").status_code == 200
        assert requests.request(client, "GET", "/readyz").status_code == 200


def test_retry_after_is_respected() -> None:
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    state.set_result(httpx.Response(503, headers={"retry-after": "7"}))
    assert 7 <= requests._wait(state) <= 17
