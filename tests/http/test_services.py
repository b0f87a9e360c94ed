"""The three services together over HTTP: what they answer."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import jsonschema
import pytest
from deployment import Deployment, serve
from PIL import Image
from requests_by_hand import SIZES, infer, picture
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from tiny_model import TINY, other_weights
from waiting import wait_until, wait_until_ready

from featlink.shared.frames import wire


def test_fidelity_and_stages_are_reported(services: Deployment) -> None:
    answer = infer(services.edge, picture(), condition="quantize:bits=8")
    assert answer["fidelity"]["psnr_f"] == pytest.approx(58.92, abs=0.3)
    assert set(answer["timings"]) >= {"decode", "backbone", "serialize", "distort", "transfer", "heads", "total"}
    clean = infer(services.edge, picture())
    assert clean["fidelity"]["psnr_f"] is None  # infinite: nothing was changed
    assert clean["fidelity"]["ssim_f"] == 1


def test_form_upload_and_overlay(services: Deployment) -> None:
    url = f"{services.edge}/v1/infer"
    by_form = httpx.post(url, files={"image": ("a.png", picture())}, timeout=120).json()
    assert by_form["detections"] == infer(services.edge, picture())["detections"]
    overlay = httpx.post(url, content=picture(), params={"render": "png"}, timeout=120)
    assert overlay.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(overlay.content)).size == (160, 120)
    assert overlay.headers["featlink-condition"] == "feature: identity"
    assert json.loads(overlay.headers["featlink-link"])["rate_mbps"] is None
    document = httpx.get(f"{services.edge}/openapi.json").json()["paths"]["/v1/infer"]["post"]["responses"]["200"]
    assert set(document["headers"]) == {"featlink-condition", "featlink-link"}
    assert {"application/json", "image/png"} <= document["content"].keys()


def test_fields_of_a_form_say_what_the_query_can(services: Deployment) -> None:
    def post(path: str, fields: dict[str, str], **params: str) -> httpx.Response:
        files = {"image": ("a.png", picture())}
        return httpx.post(f"{services.edge}{path}", files=files, data=fields, params=params, timeout=120)

    by_form = post("/v1/infer", {"condition": "quantize:bits=2", "image_id": "7", "fidelity": "false"}).json()
    by_query = infer(services.edge, picture(), condition="quantize:bits=2", image_id=7, fidelity=False)
    for name in ("condition", "bits", "image_id", "detections", "fidelity"):
        assert by_form[name] == by_query[name]
    mixed = post("/v1/infer", {"condition": "quantize:bits=2"}, image_id="7").json()
    assert (mixed["condition"], mixed["image_id"]) == ("feature: quantize(bits=2)", 7)
    drawn = post("/v1/infer", {"render": "png", "condition": "image: identity"})
    assert drawn.headers["featlink-condition"] == "image: identity"
    frame = wire.read(post("/v1/features", {"domain": "image"}).content)
    assert frame.meta.domain == "image"
    for path, fields, params, reason in (
        ("/v1/infer", {"conditoin": "identity"}, {}, "body.conditoin: Extra inputs"),
        ("/v1/infer", {"image_id": "many"}, {}, "body.image_id: Input should be a valid integer"),
        ("/v1/infer", {"run": "a"}, {"run": "b"}, "body.run: given in the query and in the form"),
        ("/v1/features", {"condition": "identity"}, {}, "body.condition: Extra inputs"),
    ):
        refused = post(path, fields, **params)
        assert refused.status_code == 422
        assert reason in refused.json()["detail"]
    unread = post("/v1/infer", {"condition": "nonsense("})
    assert (unread.status_code, unread.json()["title"]) == (400, "Invalid condition")
    twice = httpx.post(
        f"{services.edge}/v1/infer",
        files=[("image", ("a.png", picture())), ("condition", (None, "identity")), ("condition", (None, "identity"))],
        timeout=120,
    )
    assert (twice.status_code, twice.json()["detail"]) == (422, "body.condition: given twice")


@pytest.mark.parametrize(("service", "path"), [("edge", "infer"), ("channel", "transmit"), ("cloud", "detect")])
def test_the_answers_schema_is_documented(services: Deployment, service: str, path: str) -> None:
    document = httpx.get(f"{getattr(services, service)}/openapi.json").json()
    answer = document["paths"][f"/v1/{path}"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = document["components"]["schemas"][answer["$ref"].rpartition("/")[2]]
    assert {"detections", "bits", "bpp", "fidelity", "timings", "condition", "link"} <= schema["properties"].keys()
    body = infer(services.edge, picture())
    assert body.keys() <= schema["properties"].keys()
    jsonschema.validate(body, {**answer, "components": document["components"]})


def test_features_distort_detect_by_hand_equals_infer(services: Deployment) -> None:
    condition = "quantize:bits=4"
    frame = httpx.post(f"{services.edge}/v1/features", content=picture(), timeout=120)
    kind = {"content-type": frame.headers["content-type"]}
    httpx.put(f"{services.channel}/v1/condition", json=condition).raise_for_status()
    try:
        distorted = httpx.post(f"{services.channel}/v1/distort", content=frame.content, headers=kind, timeout=120)
    finally:
        httpx.put(f"{services.channel}/v1/condition", json="identity").raise_for_status()
    assert json.loads(distorted.headers["featlink-report"])["bits"] == 8 * len(distorted.content)
    answer = httpx.post(f"{services.cloud}/v1/detect", content=distorted.content, headers=kind, timeout=120).json()
    assert answer["detections"] == infer(services.edge, picture(), condition=condition)["detections"]


def test_p6_can_be_rebuilt_in_the_cloud(services: Deployment) -> None:
    from featlink.edge.app import create_app as edge_app
    from featlink.edge.settings import EdgeSettings

    settings = EdgeSettings(channel_url=services.channel, model=TINY, send_p6=False, **SIZES)
    with serve(edge_app(settings)) as edge:
        wait_until_ready(edge)
        without = infer(edge, picture())
    whole = infer(services.edge, picture())
    assert without["detections"] == whole["detections"]
    assert without["bits"] < whole["bits"]


def test_an_images_pyramid_is_compared_with_the_clean_one(services: Deployment) -> None:
    data = picture(184, 136, seed=11)
    unseen = infer(services.edge, data, domain="image", condition="quantize:bits=3")["fidelity"]
    clean = infer(services.edge, data, domain="image", condition="identity")["fidelity"]
    assert (clean["psnr_f"], clean["ssim_f"], clean["spearman_f"]) == (None, 1, 1)
    coarse, fine = (
        infer(services.edge, data, domain="image", condition=f"quantize:bits={bits}")["fidelity"] for bits in (3, 6)
    )
    assert coarse == unseen  # whether the deployment has seen the clean picture before or not
    assert coarse["psnr_f"] < fine["psnr_f"]
    assert coarse["ssim_f"] < fine["ssim_f"] < 1
    assert "psnr_f" not in infer(services.edge, data, domain="image", condition="quantize:bits=3", fidelity=False).get(
        "fidelity", {}
    )


def test_named_conditions_travel_like_any(services: Deployment) -> None:
    named = infer(services.edge, picture(), condition="paper.table4.feature.bits2")
    assert named["detections"] == infer(services.edge, picture(), condition="quantize:bits=2")["detections"]
    catalogue = httpx.get(f"{services.channel}/v1/conditions").json()
    assert catalogue["named"]["paper.table4.feature.bits2"] == "feature: quantize(bits=2)"


@pytest.mark.slow
def test_bitstreams_can_be_kept(services: Deployment, tmp_path: Path) -> None:
    from featlink.channel.app import create_app as channel_app
    from featlink.channel.settings import ChannelSettings

    frame = httpx.post(f"{services.edge}/v1/features", content=picture(), params={"image_id": 7}, timeout=120)
    kind = {"content-type": frame.headers["content-type"]}
    settings = ChannelSettings(cloud_url=services.cloud, condition="vvenc(qp=40)", keep_bitstreams=tmp_path)
    with serve(channel_app(settings)) as channel:
        httpx.post(f"{channel}/v1/transmit", content=frame.content, headers=kind, timeout=120).raise_for_status()
    kept = sorted(path.name for path in tmp_path.glob("7/*/*"))
    assert kept == ["p2.vvc", "p3.vvc", "p4.vvc", "p5.vvc", "p6.vvc", "side.json"]


def test_readyz_says_that_edge_and_cloud_hold_different_weights(services: Deployment, tmp_path: Path) -> None:
    from featlink.edge.app import create_app as edge_app
    from featlink.edge.settings import EdgeSettings

    ready = httpx.get(f"{services.channel}/readyz").json()
    assert ready["status"] == "ready"
    assert ready["network"].startswith("tiny ")
    weights = other_weights(tmp_path / "other.safetensors")
    with serve(edge_app(EdgeSettings(channel_url=services.channel, model=TINY, weights=weights, **SIZES))) as edge:
        wait_until(lambda: '"loading"' not in httpx.get(f"{edge}/readyz").text, "the model to load")
        answer = httpx.get(f"{edge}/readyz")
    assert answer.status_code == 503
    assert "FEATLINK_WEIGHTS is to be alike" in answer.json()["detail"]


def test_a_refused_picture_is_logged_with_what_it_was_sent_for(services: Deployment) -> None:
    query = {"image_id": 7, "condition": "quantize:bits=4", "run": "f" * 32}
    with capture_logs(processors=[merge_contextvars]) as lines:
        httpx.post(f"{services.edge}/v1/infer", content=b"no picture", params=query)
        wait_until(lambda: any("reason" in line for line in lines), "the line")
    [line] = [line for line in lines if "reason" in line]
    assert (line["image"], line["condition"], line["run"]) == (7, "quantize:bits=4", "f" * 32)
    with capture_logs(processors=[merge_contextvars]) as lines:
        httpx.post(f"{services.edge}/v1/infer", content=picture(), params=query, timeout=60)
        wait_until(lambda: sum("reason" in line for line in lines) == 3, "a line of each service")
    assert {(line["image"], line["run"], line["status"]) for line in lines if "reason" in line} == {(7, "f" * 32, 404)}
