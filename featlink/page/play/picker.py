"""Where the picture comes from: a bundled scene, a file, the camera."""

from __future__ import annotations

import json
from collections.abc import Callable

from nicegui import ui

from featlink.page.pictures import scenes

_FIRST = 11


class Picker:
    """Thumbnails, a file button, a camera button.

    Args:
        chosen: the picture now.
        choose: called with another: a scene's name or an uploaded picture's key.
        refuse: called with why a picture was refused.
    """

    def __init__(self, chosen: str, choose: Callable[[str], None], refuse: Callable[[str], None]) -> None:
        names = scenes()
        self._chosen = chosen
        # One element for all of them: each of NiceGUI's own takes its part of every update.
        self._strip = ui.html("", sanitize=False, tag="fieldset").classes("scenes").props('aria-label="Bundled scenes"')
        self._fill(names if chosen in names[_FIRST:] else names[:_FIRST])
        with ui.element("div").classes("row-tight"):
            ui.html(
                "<label class='pick'><input type='file' class='picture' "
                "accept='image/jpeg,image/png,image/webp,image/bmp'>"
                "<span>Choose a picture…</span></label>",
                sanitize=False,
            ).classes("grow")
            ui.button("Camera", icon="photo_camera", on_click=self._camera).props("no-caps outline dense")
        ui.html("<p class='quiet'>or drop one anywhere on the page</p>", sanitize=False)
        ui.on("picture", lambda e: choose(str(e.args)))
        ui.on("picture_refused", lambda e: refuse(str(e.args)))
        ui.on("more_scenes", lambda: self._fill(names))

    def mark(self, chosen: str) -> None:
        """Show which scene is chosen, if one is."""
        if chosen != self._chosen:
            self._chosen = chosen
            ui.run_javascript(
                "for (const one of document.querySelectorAll('.scenes input')) "
                f"one.checked = one.value === {json.dumps(chosen)}"
            )

    def _fill(self, names: list[str]) -> None:
        parts = [
            f"<label class='scene'><input type='radio' name='scene' value='{name}' "
            f"aria-label='Scene {int(name.split('.')[0])}'{' checked' if name == self._chosen else ''}>"
            f"<img src='/scenes/{name}?small=true' alt='' loading='lazy' width='64' height='64'></label>"
            for name in names
        ]
        if len(names) < len(scenes()):
            parts.append(
                "<button type='button' class='more' aria-label='Show all scenes'>"
                f"+{len(scenes()) - len(names)}</button>"
            )
        self._strip.content = "".join(parts)

    def _camera(self) -> None:
        with ui.dialog() as dialog, ui.card().classes("camera"):
            ui.element("video").props('id="camera" playsinline muted aria-label="Camera"')
            with ui.element("div").classes("row-tight"):
                shoot = ui.button("Take the picture", icon="photo_camera").props("no-caps unelevated")
                ui.button("Close", on_click=dialog.close).props("no-caps flat")
        shoot.on("click", js_handler="() => featlinkShoot('camera')")
        shoot.on_click(dialog.close)
        dialog.on("show", js_handler="() => featlinkCamera('camera')")
        dialog.on("hide", js_handler="() => featlinkCameraOff()")
        dialog.on("hide", dialog.delete)
        dialog.open()
