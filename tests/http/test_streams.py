"""Streams over HTTP: the same bits and detections as in process, in order, once each, and none left open."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from deployment import Deployment, serve
from requests_by_hand import SIZES, infer, picture
from tiny_model import TINY
from waiting import wait_until

import featlink as fl
from featlink.channel.app import create_app
from featlink.channel.settings import ChannelSettings
from featlink.client import Client
from featlink.errors import RefusalError
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.pictures import decode

CONDITIONS = (
    "gaussian_noise(sigma=5) | quantize(bits=4) @ seed=2",
    "hevc(qp=30, gop=low_delay, period=3)",
    "image: h264(qp=30, gop=low_delay)",
    "image: vvenc(qp=40)",
)
PICTURES = [picture(64, 48, seed=seed) for seed in range(5)]


@pytest.fixture
def client(services: Deployment) -> Iterator[Client]:
    with Client(services.edge, services.cloud, channel_url=services.channel) as client:
        yield client


def listed(services: Deployment) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{services.channel}/v1/streams").raise_for_status().json()
    return found


@pytest.mark.parametrize(
    "text", [*CONDITIONS[:2], *(pytest.param(one, marks=pytest.mark.slow) for one in CONDITIONS[2:])]
)
def test_services_and_api_agree_to_the_bit(client: Client, services: Deployment, text: str) -> None:
    model = fl.load(model=TINY, score_threshold=0.05, **SIZES)
    is_image = text.startswith("image")
    with fl.open_stream(text, model=model) as here, client.stream(condition=text) as there:
        for number, data in enumerate(PICTURES):
            image = decode(data, 1 << 20)
            (sent,) = here.push(image if is_image else model.pyramid(image), image_id=number)
            answer = there.push(data, image_id=number)
            assert answer.bits == sent.bits
            assert answer.detections == to_coco(model.detect(sent), number)
            assert answer.stream is not None
            assert (answer.stream.id, answer.stream.frame) == (there.id, number)
            assert (answer.stream.key, answer.stream.restarted) == (sent.key, None)
            assert sent.key == (number == 0 or "low_delay" not in text or ("period=3" in text and number == 3))
        assert [one["id"] for one in listed(services)] == [there.id]
    assert listed(services) == []


def test_a_still_says_nothing_of_streams(services: Deployment) -> None:
    assert "stream" not in infer(services.edge, PICTURES[0])


def test_a_repeated_frame_is_answered_again_and_an_old_one_refused(client: Client, services: Deployment) -> None:
    params = {"condition": "quantize(bits=4)", "stream": "again"}
    answers = [client.infer(data, None, frame=number, **params) for number, data in enumerate(PICTURES[:3])]
    assert client.infer(PICTURES[2], None, frame=2, **params).detections == answers[2].detections
    assert listed(services)[0]["frames"] == 3
    with pytest.raises(RefusalError, match="another picture") as told:
        client.infer(PICTURES[0], None, frame=2, **params)
    assert told.value.status == 409
    client.end_stream("again")
    client.end_stream("again")  # once more harms nobody


@pytest.mark.slow
def test_frames_sent_all_at_once_are_coded_in_order(services: Deployment, client: Client) -> None:
    def send(number: int) -> dict[str, Any]:
        return infer(services.edge, PICTURES[number % 5], condition="quantize(bits=4)", stream="many", frame=number)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(16)))
    assert [answer["stream"]["restarted"] for answer in answers] == [None] * 16
    assert listed(services)[0]["frames"] == 16
    with client.stream(condition="quantize(bits=4)") as one_by_one:
        for number, answer in enumerate(answers):
            assert one_by_one.push(PICTURES[number % 5]).detections == answer["detections"]
    client.end_stream("many")


def test_a_gap_begins_with_a_key_frame_of_a_new_coder(services: Deployment, client: Client) -> None:
    query = {"condition": "image: hevc(qp=30, gop=low_delay)", "stream": "anew"}
    answers = [infer(services.edge, PICTURES[n % 5], frame=n, **query) for n in (0, 1, 2, 7, 8)]
    assert [(one["stream"]["key"], one["stream"]["restarted"]) for one in answers] == [
        *((True, None), (False, None), (False, None), (True, "gap"), (False, None)),
    ]
    with client.stream(condition=query["condition"]) as other:
        assert other.push(PICTURES[7 % 5]).bits == answers[3]["bits"]
        assert other.push(PICTURES[8 % 5]).detections == answers[4]["detections"]
    client.end_stream("anew")


def test_a_coder_that_holds_pictures_back_is_for_sweeps(services: Deployment) -> None:
    query = {"condition": "image: hevc(qp=30, gop=random_access)", "stream": "late", "frame": 0}
    refused = httpx.post(f"{services.edge}/v1/infer", content=PICTURES[0], params=query, timeout=60)
    assert refused.status_code == 422
    assert "pictures back" in refused.json()["detail"]
    assert listed(services) == []


@pytest.mark.parametrize(
    "query", [{"stream": "a"}, {"frame": 0}, {"stream": "a b", "frame": 0}, {"stream": "a", "frame": -1}]
)
def test_half_a_place_is_refused(services: Deployment, query: dict[str, Any]) -> None:
    assert httpx.post(f"{services.edge}/v1/infer", content=PICTURES[0], params=query).status_code == 422


@pytest.mark.slow
def test_a_frame_that_the_cloud_did_not_answer_is_coded_once() -> None:
    from featlink.edge.app import create_app as edge_app
    from featlink.edge.settings import EdgeSettings

    with (
        serve(create_app(ChannelSettings(cloud_url="http://127.0.0.1:9"))) as channel,
        serve(edge_app(EdgeSettings(channel_url=channel, model=TINY))) as edge,
    ):
        query: dict[str, Any] = {"stream": "kept", "frame": 0, "condition": "quantize(bits=4)"}

        def status() -> int:
            return httpx.post(f"{edge}/v1/infer", content=PICTURES[0], params=query, timeout=60).status_code

        wait_until(lambda: status() == 502, "the edge to have its model")
        assert [status(), status()] == [502, 502]
        (stream,) = httpx.get(f"{channel}/v1/streams").json()
        assert (stream["frames"], stream["frame"]) == (1, 0)
        assert stream["kept_bytes"] > 0
        metrics = httpx.get(f"{channel}/metrics").text
        assert "featlink_streams 1.0" in metrics
        assert httpx.delete(f"{edge}/v1/streams/kept").status_code == 204
        assert httpx.delete(f"{edge}/v1/streams/kept").status_code == 404
