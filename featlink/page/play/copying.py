"""Lines that ask for the same outside the page, to be copied by one click."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from featlink.page.pictures import scene_path
from featlink.page.play import lines
from featlink.page.play.state import State
from featlink.page.settings import PageSettings


class Copying:
    """A card with the lines.

    Args:
        settings: say where the services are.
        address: of the page.
    """

    def __init__(self, settings: PageSettings, address: str) -> None:
        self._settings = settings
        self._address = address
        self._texts: dict[str, str] = {}
        title = "The same as curl, command line, Python"
        self._card = ui.expansion(title, icon="terminal", on_value_change=self._fill).props("dense")
        with self._card.classes("card copy"):
            self._shown = {
                name: self._block(name) for name in ("Link to this view", "curl", "featlink infer", "Python")
            }

    def show(self, state: State) -> None:
        """The lines of a setting."""
        where = "scenes" if scene_path(state.picture) is not None else "pictures"
        picture = f"{self._address}/{where}/{state.picture}"
        edge, cloud = self._settings.shown_edge, self._settings.shown_cloud
        self._texts = {
            "Link to this view": f"{self._address}/?{state.query()}",
            "curl": lines.curl(state, edge, picture),
            "featlink infer": lines.command(state, edge, picture),
            "Python": lines.python(state, edge, cloud, picture),
        }
        self._fill()

    def _fill(self) -> None:
        """Only where they can be seen: each update costs the browser time."""
        if self._card.value:
            for name, label in self._shown.items():
                label.text = self._texts[name]

    def _block(self, name: str) -> ui.label:
        with ui.element("div").classes("lines"):
            with ui.element("div").classes("lines-head"):
                ui.html(f"<b>{name}</b>", tag="span", sanitize=False)
                ui.button("Copy", icon="content_copy", on_click=self._copy(name)).props(
                    f'flat dense no-caps size=sm aria-label="Copy {name}"'
                )
            return ui.label("").classes("mono")

    def _copy(self, name: str) -> Callable[[], None]:
        def copy() -> None:
            ui.clipboard.write(self._texts.get(name, ""))
            ui.notify("Copied", position="bottom", timeout=1000)

        return copy
