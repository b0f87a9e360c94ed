"""HTTP client of a running deployment, for scripts, sweeps and the live page."""

from __future__ import annotations

import os
import ssl
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx
import tenacity
from pydantic import ValidationError

from featlink.errors import CommandError, RefusalError
from featlink.shared.conditions.language import validation_line
from featlink.shared.frames import wire
from featlink.shared.frames.wire import Frame
from featlink.shared.result import InferenceResult, Telemetry
from featlink.shared.service.access import RUN_TOKEN

Service = Literal["edge", "channel", "cloud"]

PATIENCE_SECONDS = 60.0
"""How long a request is tried again; a service that was killed is back before that."""

_AGAIN = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE}
_SAFE = {"GET", "HEAD", "PUT", "DELETE"}
_PURE = {"/v1/infer", "/v1/features"}
"""POSTs that change nothing, or add a result of a run that is added once, however often it is sent."""

_answered: weakref.WeakSet[httpx.Client] = weakref.WeakSet()
_jitter = tenacity.wait_random_exponential(multiplier=0.2, max=10)


class Client:
    """Talks to the edge, to the cloud's runs API, and to the channel where its address is given.

    Args:
        edge_url: base URL of the edge.
        cloud_url: base URL of the cloud.
        timeout_s: for one request.
        channel_url: base URL of the channel.
        patient: whether a request is sent again while the service is busy or away for a while.

    Every method raises :class:`CommandError` with one line when the service cannot be reached, and its subclass
    :class:`RefusalError` when it answers a problem. Threads may share a client.
    """

    def __init__(
        self,
        edge_url: str,
        cloud_url: str,
        timeout_s: float = 300,
        channel_url: str = "http://127.0.0.1:8002",
        patient: bool = True,
    ) -> None:
        self._patient = patient
        self._edge, self._channel, self._cloud = (
            http_client(url, timeout_s) for url in (edge_url, channel_url, cloud_url)
        )
        self._tokens: dict[str, str] = {}  # of the runs that were opened here

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        for client in (self._edge, self._channel, self._cloud):
            client.close()

    def infer(
        self, image: bytes, uploaded: Callable[[], None] | None = None, **params: str | int | bool | None
    ) -> InferenceResult:
        """Send a picture.

        Args:
            image: the picture file's bytes.
            uploaded: called when the edge has the picture, which is before it answers.
            params: query parameters of ``POST /v1/infer``: domain, condition, run, image_id, fidelity, link, received,
                stream, frame; None leaves out.
        """
        token = self._tokens.get(str(params.get("run")))
        headers = {RUN_TOKEN: token} if token else None

        def trace(event: str, _: object) -> None:
            if uploaded is not None and event.endswith(".send_request_body.complete"):
                uploaded()

        given: dict[str, Any] = {"content": image, "params": _given(params), "headers": headers}
        return self._result(self._edge, "/v1/infer", extensions={"trace": trace}, **given)

    def stream(self, id: str | None = None, **params: str | int | bool | None) -> ClientStream:
        """Begin a stream, for a ``with`` statement; its pictures are sent with :meth:`ClientStream.push`.

        Args:
            id: letters, digits, ``.``, ``_`` and ``-``; by default one that nobody else has.
            params: of every picture, as for :meth:`infer`.
        """
        return ClientStream(self, id or uuid.uuid4().hex, params)

    def end_stream(self, id: str) -> None:
        """Close a stream. One that is not open is none to close."""
        try:
            self._send(self._edge, "DELETE", f"/v1/streams/{id}")
        except RefusalError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def features(self, image: bytes, domain: str) -> Frame:
        """The frame a picture becomes at the edge."""
        return wire.read(
            self._send(self._edge, "POST", "/v1/features", content=image, params={"domain": domain}).content
        )

    def transmit(self, frame: bytes, telemetry: Telemetry, **params: str | int | bool | None) -> InferenceResult:
        """Send a frame of a device to the channel.

        Args:
            frame: its bytes.
            telemetry: the device's times.
            params: query parameters of ``POST /v1/transmit``; None leaves out.
        """
        given = {"content": frame, "params": _given(params), "headers": telemetry.header()}
        return self._result(self._channel, "/v1/transmit", **given)

    def model(self) -> dict[str, Any]:
        """Which network the edge runs: its architecture, the weights' identity and the names of its labels."""
        return self._json(self._edge, "GET", "/v1/model")

    def put_dataset(self, name: str, annotations: Path) -> dict[str, Any]:
        """Store a COCO ground truth file."""
        return self._json(self._cloud, "PUT", f"/v1/datasets/{name}", content=annotations.read_bytes())

    def create_run(self, dataset: str, condition: str, domain: str, name: str = "") -> str:
        """Open a run and return its id. Its token stays here: this client alone can add results."""
        body = {"dataset": dataset, "condition": condition, "domain": domain, "name": name}
        opened = self._json(self._cloud, "POST", "/v1/runs", json=body)
        self._tokens[opened["id"]] = opened["token"]
        return str(opened["id"])

    def metrics(self, run: str) -> dict[str, Any]:
        """A run's metrics so far."""
        return self._json(self._cloud, "GET", f"/v1/runs/{run}/metrics")

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The latest runs, the newest first."""
        runs: Any = self._json(self._cloud, "GET", "/v1/runs", params={"limit": limit})
        return list(runs)

    def detections(self, run: str) -> Iterator[bytes]:
        """A run's detections as JSON in COCO's results format, piece by piece; the first is asked for at once."""
        request = self._cloud.build_request("GET", f"/v1/runs/{run}/detections")
        try:
            response = self._cloud.send(request, stream=True)
        except httpx.HTTPError as error:
            raise CommandError(f"{self._cloud.base_url}: {str(error) or type(error).__name__}") from None
        if response.is_error:
            response.read()
            raise _refused(response)

        def pieces() -> Iterator[bytes]:
            try:
                yield from response.iter_bytes()
            finally:
                response.close()

        return pieces()

    def ready(self, service: Service) -> None:
        """Check that a service answers requests.

        Raises:
            CommandError: it does not; the message says why.
        """
        client = {"edge": self._edge, "channel": self._channel, "cloud": self._cloud}[service]
        self._send(client, "GET", "/readyz", timeout=5)

    def catalogue(self) -> dict[str, Any]:
        """What the channel can do: the conditions' JSON ``schema``, and ``named`` conditions."""
        return self._json(self._channel, "GET", "/v1/conditions")

    def link_schema(self) -> dict[str, Any]:
        """JSON schema of a link's settings."""
        schema: dict[str, Any] = self._json(self._channel, "GET", "/openapi.json")["components"]["schemas"]["Link"]
        return schema

    def _result(self, client: httpx.Client, path: str, **options: Any) -> InferenceResult:
        try:
            return InferenceResult.model_validate(self._json(client, "POST", path, **options))
        except ValidationError as error:
            raise CommandError(f"{client.base_url} answered no result: {validation_line(error)}") from None

    def _json(self, client: httpx.Client, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._send(client, method, path, **options)
        try:
            body: dict[str, Any] = response.json()
            return body
        except ValueError:
            raise CommandError(f"{client.base_url} did not answer JSON (status {response.status_code})") from None

    def _send(self, client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            if self._patient:
                response = request(client, method, path, **options)
            else:
                response = client.request(method, path, **options)
        except httpx.ConnectError as error:
            raise CommandError(f"{client.base_url}: {error}; if nothing runs there, `featlink up` starts it") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{client.base_url}: {str(error) or type(error).__name__}") from None
        if response.is_error:
            raise _refused(response)
        return response


class ClientStream:
    """The pictures of one sequence, sent one after the other; in a ``with`` statement, the stream is closed at its end.

    Args:
        client: to send with.
        id: of the stream.
        params: of every picture.
    """

    def __init__(self, client: Client, id: str, params: Mapping[str, str | int | bool | None]) -> None:
        self.id = id
        self._client, self._params, self._number = client, params, 0

    def __enter__(self) -> ClientStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._number:
            self._client.end_stream(self.id)

    def push(self, image: bytes, **params: str | int | bool | None) -> InferenceResult:
        """Send the next picture and wait for its answer.

        Args:
            image: the picture file's bytes.
            params: of this picture, as for :meth:`Client.infer`.

        Raises:
            CommandError: it was refused, or nobody answers; the next picture is then a key frame.
        """
        number, self._number = self._number, self._number + 1
        return self._client.infer(image, None, stream=self.id, frame=number, **{**self._params, **params})


def _refused(response: httpx.Response) -> RefusalError:
    title = str(_problem(response).get("title", response.status_code))
    return RefusalError(refusal(response), response.status_code, title)


def refusal(response: httpx.Response) -> str:
    """What an answer of 4xx or 5xx says, in one line: its problem's title and detail, or its status."""
    problem = _problem(response)
    what = problem.get("title", f"{response.url} answered {response.status_code}")
    return f"{what}: {problem.get('detail', response.reason_phrase)}"


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _given(params: dict[str, str | int | bool | None]) -> dict[str, str | int | bool]:
    return {name: value for name, value in params.items() if value is not None}


def http_client(url: str, timeout_s: float) -> httpx.Client:
    """A client of one service, with the token that ``FEATLINK_TOKEN`` names and trust in ``FEATLINK_TLS_CA``.

    It never goes by way of a proxy, which would get to see the pictures.

    Raises:
        CommandError: no certificate can be read there.
    """
    timeout = httpx.Timeout(timeout_s, connect=5)
    authorities = os.environ.get("FEATLINK_TLS_CA") or None
    try:
        context = ssl.create_default_context(cafile=authorities) if authorities and url.startswith("https:") else True
    except OSError as error:  # ssl's errors too
        raise CommandError(f"FEATLINK_TLS_CA {authorities}: {error}") from None
    return httpx.Client(base_url=url, timeout=timeout, headers=authorization(), trust_env=False, verify=context)


def authorization() -> dict[str, str]:
    """The header that carries ``FEATLINK_TOKEN``, or the services' own ``FEATLINK_SERVICE_TOKEN``; none without."""
    token = os.environ.get("FEATLINK_TOKEN") or os.environ.get("FEATLINK_SERVICE_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}


def request(client: httpx.Client, method: str, path: str, **given: Any) -> httpx.Response:
    """Send a request; again, after a time that ``Retry-After`` or chance decides, while that can help.

    Args:
        client: to send it with.
        method: its method.
        path: its path.
        given: further arguments of ``client.request``.

    Returns:
        The answer; the last one if it never was another than "try again".

    Raises:
        httpx.HTTPError: the last one.
    """
    if method not in _SAFE and path not in _PURE:
        return client.request(method, path, **given)

    def lost(error: BaseException) -> bool:
        """A connection that broke, or cannot be made any more: what has never answered is no service."""
        broken = httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError
        return isinstance(error, broken | httpx.ConnectError if client in _answered else broken)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lost) | tenacity.retry_if_result(_busy),
        wait=_wait,
        stop=tenacity.stop_after_delay(PATIENCE_SECONDS),
        retry_error_callback=_last,
    )
    response: httpx.Response = retrying(client.request, method, path, **given)
    _answered.add(client)
    return response


def _busy(response: httpx.Response) -> bool:
    return response.status_code in _AGAIN


def _wait(state: tenacity.RetryCallState) -> float:
    outcome = state.outcome
    after = "" if outcome is None or outcome.failed else outcome.result().headers.get("retry-after", "")
    return (float(after) if after.isdecimal() else 0) + _jitter(state)


def _last(state: tenacity.RetryCallState) -> httpx.Response:
    if state.outcome is None:
        raise RuntimeError("nothing was tried")
    response: httpx.Response = state.outcome.result()
    return response
