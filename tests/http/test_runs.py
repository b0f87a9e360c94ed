"""Runs: their metrics, and what they refuse."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import httpx
import pytest
from deployment import Deployment
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from requests_by_hand import infer, picture

from featlink.shared.frames import wire


@pytest.mark.slow
def test_run_metrics_equal_pycocotools(services: Deployment) -> None:
    pictures = {i: picture(160 + 8 * i, 120, i) for i in range(1, 5)}
    clean = {i: infer(services.edge, data)["detections"] for i, data in pictures.items()}
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": c} for c in range(1, 91)]}
    for i, data in pictures.items():
        width, height = Image.open(io.BytesIO(data)).size
        truth["images"].append({"id": i, "width": width, "height": height, "file_name": f"{i}.png"})
        for found in clean[i][::2]:
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": i,
                    "category_id": found["category_id"],
                    "bbox": found["bbox"],
                    "area": float(rle.area(found["segmentation"])),
                    "iscrowd": len(truth["annotations"]) % 7 == 3,
                    "segmentation": found["segmentation"],
                }
            )
    assert truth["annotations"]
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = int(annotation["iscrowd"])
    cloud = httpx.Client(base_url=services.cloud, timeout=120)
    cloud.put("/v1/datasets/tiny", json=truth).raise_for_status()
    opened = cloud.post("/v1/runs", json={"dataset": "tiny", "condition": "quantize:bits=5"}).json()
    run, headers = opened["id"], {"featlink-run-token": opened["token"]}
    params = {"condition": "quantize:bits=5", "run": run}
    for i, data in pictures.items():
        first = infer(services.edge, data, headers=headers, image_id=i, **params)
        again = infer(services.edge, data, headers=headers, image_id=i, **params)  # a retry changes nothing
        for answer in (first, again):
            for name in ("total", "hops"):  # of the request, not of the stored result
                answer["timings"].pop(name)
        assert first == again
        metrics = cloud.get(f"/v1/runs/{run}/metrics").json()
        assert metrics["run"]["done"] == i
    found = cloud.get(f"/v1/runs/{run}/detections").json()
    assert found
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        detections = reference.loadRes(found)
        for kind in ("bbox", "segm"):
            evaluator = COCOeval(reference, detections, kind)
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
            numbers = [None if value == -1 else value for value in evaluator.stats.tolist()]
            assert list(metrics[kind].values()) == numbers
    assert metrics["bits_per_image"] > 0
    assert cloud.delete(f"/v1/runs/{run}").status_code == 204
    assert cloud.get(f"/v1/runs/{run}").status_code == 404


def test_a_run_refuses_what_is_not_its_own(services: Deployment) -> None:
    """Pictures of another size than annotated, whose masks would all be missed, and detections of another network."""
    truth = {"images": [{"id": 1, "width": 160, "height": 120}], "annotations": [], "categories": []}
    cloud = httpx.Client(base_url=services.cloud, timeout=120)
    cloud.put("/v1/datasets/sized", json=truth).raise_for_status()
    opened = cloud.post("/v1/runs", json={"dataset": "sized"}).json()
    run, headers = opened["id"], {"featlink-run-token": opened["token"]}
    wanted = {"params": {"run": run, "image_id": 1}, "headers": headers, "timeout": 60}
    response = httpx.post(f"{services.edge}/v1/infer", content=picture(168, 120), **wanted)
    assert response.status_code == 409
    assert response.json()["detail"] == "image 1 of data set 'sized' has 160×120 pixels, the picture sent 168×120"
    frame = httpx.post(f"{services.edge}/v1/features", content=picture(), params={"image_id": 1}, timeout=60).content
    read = wire.read(frame)
    foreign = b"".join(wire.write(replace(read, meta=replace(read.meta, weights="0" * 16))))
    response = cloud.post("/v1/detect", content=foreign, params={"run": run}, headers=headers)
    assert response.status_code == 409
    assert response.json()["detail"].startswith(f"run {run} is of tiny with weights ")
    assert cloud.get(f"/v1/runs/{run}").json()["done"] == 0


def test_results_enter_a_run_with_its_token_alone(services: Deployment) -> None:
    truth = {"images": [{"id": 1, "width": 160, "height": 120}], "annotations": [], "categories": []}
    cloud = httpx.Client(base_url=services.cloud, timeout=120)
    cloud.put("/v1/datasets/guarded", json=truth).raise_for_status()
    opened, other = (cloud.post("/v1/runs", json={"dataset": "guarded"}).json() for _ in range(2))
    run, token = opened["id"], opened["token"]
    assert len(token) >= 32
    assert token not in cloud.get(f"/v1/runs/{run}").text + cloud.get("/v1/runs").text
    params = {"run": run, "image_id": 1}
    forged = httpx.post(f"{services.edge}/v1/features", content=picture(), params={"image_id": 1}, timeout=60).content
    for headers in ({}, {"featlink-run-token": ""}, {"featlink-run-token": other["token"]}):
        by_edge = httpx.post(f"{services.edge}/v1/infer", content=picture(), params=params, headers=headers, timeout=60)
        by_cloud = cloud.post("/v1/detect", content=forged, params={"run": run}, headers=headers)
        for refused in (by_edge, by_cloud):
            assert refused.status_code == 403
            assert "its token" in refused.json()["detail"]
    assert cloud.get(f"/v1/runs/{run}").json()["done"] == 0
    infer(services.edge, picture(), headers={"featlink-run-token": token}, **params)
    assert cloud.get(f"/v1/runs/{run}").json()["done"] == 1


def test_a_data_set_can_be_deleted_once_no_run_uses_it(services: Deployment) -> None:
    truth = {"images": [{"id": 1, "width": 8, "height": 8}], "annotations": [], "categories": []}
    cloud = httpx.Client(base_url=services.cloud, timeout=120)
    path = "/v1/datasets/short-lived"
    assert cloud.delete(path).status_code == 404
    cloud.put(path, json=truth).raise_for_status()
    run = cloud.post("/v1/runs", json={"dataset": "short-lived"}).json()["id"]
    refused = cloud.delete(path)
    assert refused.status_code == 409
    assert "delete them first" in refused.json()["detail"]
    assert cloud.delete(f"/v1/runs/{run}").status_code == 204
    assert cloud.delete(path).status_code == 204
    assert cloud.get(path).status_code == 404
    assert "short-lived" not in cloud.get("/v1/datasets").text
    refused = cloud.patch(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, PUT")
