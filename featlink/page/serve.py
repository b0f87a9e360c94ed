"""The page as a process."""

from __future__ import annotations

import logging

import uvicorn
from pydantic import ValidationError

from featlink.page.settings import PageSettings
from featlink.shared.conditions.language import validation_line


def main() -> None:
    """Serve the page with settings from the environment; wrong ones stop it with one line."""
    try:
        settings = PageSettings()
    except ValidationError as error:
        raise SystemExit(f"page: wrong settings: {validation_line(error)}") from None
    serve(settings)


def serve(settings: PageSettings) -> None:
    """Serve the page until the process is told to stop."""
    from featlink.page.app import create_app
    from featlink.shared.service.observability import configure_logging

    configure_logging("page", settings.log_level)
    logging.getLogger("uvicorn.error").addFilter(_worth_telling)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
    )


def _worth_telling(record: logging.LogRecord) -> bool:
    """Not that a browser has left before its answer came, which Starlette's middleware takes for an error."""
    error = record.exc_info[1] if record.exc_info else None
    return str(error) != "No response returned."
