"""The token with which this machine's commands ask a deployment that wants one."""

from __future__ import annotations

import os


def authorization() -> dict[str, str]:
    """The header that carries ``FEATLINK_TOKEN``, or the services' own ``FEATLINK_SERVICE_TOKEN``; none without."""
    token = os.environ.get("FEATLINK_TOKEN") or os.environ.get("FEATLINK_SERVICE_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}
