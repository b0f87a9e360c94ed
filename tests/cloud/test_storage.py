"""A database that fails while the service runs is a problem of storage, not an unexpected error."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fastapi.testclient import TestClient

from featlink.cloud.app import create_app
from featlink.cloud.settings import CloudSettings


def test_a_failing_database_is_named(tmp_path: Path) -> None:
    client = TestClient(create_app(CloudSettings(database_url=f"sqlite:///{tmp_path}/runs.db")))
    assert client.get("/v1/runs").json() == []
    with sqlite3.connect(tmp_path / "runs.db") as other:
        other.execute("DROP TABLE runs")
    response = client.get("/v1/runs")
    assert response.status_code == 507
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "the database: no such table: runs"
