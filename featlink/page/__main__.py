"""``python -m featlink.page``: the page with settings from ``FEATLINK_*``."""

from __future__ import annotations

import structlog
from pydantic import ValidationError

from featlink.page.app import serve
from featlink.page.context import PageSettings
from featlink.shared.service.observability import configure_logging
from featlink.shared.service.settings import refused_exit, wrong_settings


def main() -> None:
    """Serve the page; wrong settings stop it with one line that names the variable."""
    configure_logging("page", "info")
    try:
        settings = PageSettings()
    except ValidationError as error:
        structlog.get_logger().error("cannot start", reason=f"wrong settings: {wrong_settings(error)}")
        raise SystemExit(refused_exit()) from None
    serve(settings)


if __name__ == "__main__":
    main()
