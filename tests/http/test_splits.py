"""Services at an earlier split point, and a cloud that was started at another."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from deployment import serve
from requests_by_hand import picture
from tiny_model import TINY
from waiting import wait_until

from featlink.cloud.app import create_app
from featlink.cloud.settings import CloudSettings

Deploy = Callable[..., AbstractContextManager[Any]]


@pytest.mark.slow
def test_services_run_at_an_earlier_split(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLINK_SPLIT", "c2")
    with deploy(model=TINY) as services:
        frame = httpx.post(f"{services.edge}/v1/features", content=picture()).content
        assert b"tiny@c2" in frame[:2000]
        params = {"condition": "quantize(bits=6)"}
        answer = httpx.post(f"{services.edge}/v1/infer", content=picture(), params=params)
        assert answer.json()["detections"]
    monkeypatch.delenv("FEATLINK_SPLIT")
    with serve(create_app(CloudSettings(model=TINY, database_url="sqlite://"))) as cloud:
        wait_until(lambda: httpx.get(f"{cloud}/readyz").status_code == 200, "the cloud")
        refused = httpx.post(f"{cloud}/v1/detect", content=frame)
    assert refused.status_code == 409
    assert "tiny@c2" in refused.json()["detail"]
