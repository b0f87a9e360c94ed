"""The common layout of all pages, and the page's address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nicegui import ui
from starlette.requests import Request

PAGES = (("/", "Playground"), ("/live", "Live"), ("/device", "Device"), ("/explore", "Explorer"), ("/runs", "Runs"))
THEME_COOKIE = "featlink-theme"
_THEMES = {"auto": None, "light": False, "dark": True}
_ICONS = {"auto": "brightness_auto", "light": "light_mode", "dark": "dark_mode"}
_LOGO = (
    '<svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">'
    '<rect x="2" y="9" width="9" height="14" rx="2" fill="var(--feature)"/>'
    '<rect x="21" y="9" width="9" height="14" rx="2" fill="var(--image)"/>'
    '<path d="M11 16h10" stroke="currentColor" stroke-width="2.4" stroke-dasharray="2.6 2"/></svg>'
)


def root_path(request: Request) -> str:
    """The path below which a browser finds the page, without a slash at its end; empty where that is ``/``.

    A trusted reverse proxy says it (:class:`featlink.shared.service.access.Forwarded`), or the page's settings do.
    """
    return str(request.scope.get("root_path", ""))


@contextlib.contextmanager
def frame(path: str, request: Request) -> Iterator[None]:
    """Everything inside becomes the main part of a page.

    Args:
        path: of this page.
        request: for it; its cookies remember the theme.
    """
    root = root_path(request)
    ui.add_head_html(
        f'<link rel="stylesheet" href="{root}/assets/page.css">'
        f'<script defer src="{root}/assets/page.js"></script>'
        '<meta name="description" content="Featlink: pixels or features over the link, live">'
    )
    ui.add_body_html(f'<div id="first" class="top" aria-hidden="true"><span class="brand">{_LOGO}Featlink</span></div>')
    theme = request.cookies.get(THEME_COOKIE, "auto")
    theme = theme if theme in _THEMES else "auto"
    dark = ui.dark_mode(_THEMES[theme])
    with ui.header().classes("top"):
        ui.html('<a class="skip" href="#main">Skip to content</a>', sanitize=False)
        with ui.element("a").props(f'href="{root}/" class="brand"'):
            ui.html(_LOGO, sanitize=False)
            ui.html("<span>Featlink</span>", sanitize=False)
        links = "".join(
            f'<a href="{root}{to}"{" aria-current=page" if to == path else ""}>{name}</a>' for to, name in PAGES
        )
        ui.html(links, tag="nav", sanitize=False).props('aria-label="Pages"')
        button = ui.button(icon=_ICONS[theme]).props(f'flat round dense aria-label="Theme: {theme}"').classes("theme")

    def turn() -> None:
        nonlocal theme
        theme = list(_THEMES)[(list(_THEMES).index(theme) + 1) % len(_THEMES)]
        dark.value = _THEMES[theme]
        button.props(f'icon={_ICONS[theme]} aria-label="Theme: {theme}"')
        ui.run_javascript(f"document.cookie = '{THEME_COOKIE}={theme};path=/;max-age=31536000;samesite=lax'")

    button.on_click(turn)
    with ui.element("div").props('id="main" tabindex="-1"').classes("content"):
        yield
