"""``python -m featlink.page``: the page with settings from ``FEATLINK_*``."""

from __future__ import annotations

from pydantic import ValidationError

from featlink.page.app import serve
from featlink.page.context import PageSettings
from featlink.shared.service.settings import wrong_settings


def main() -> None:
    """Serve the page; wrong settings stop it with one line that names the variable."""
    try:
        settings = PageSettings()
    except ValidationError as error:
        raise SystemExit(f"page: wrong settings: {wrong_settings(error)}") from None
    serve(settings)


if __name__ == "__main__":
    main()
