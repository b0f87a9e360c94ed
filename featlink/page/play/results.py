"""What arrived: overlays side by side, figures, waterfall, planes, detections."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from html import escape

from nicegui import ui

from featlink.page.play import waterfall
from featlink.page.play.work import Clean, Received
from featlink.shared.conditions.language import Domain
from featlink.shared.models.fpn import FPN
from featlink.views import Detection

TITLES: dict[Domain, str] = {"feature": "Features", "image": "Pixels"}
_KINDS = ("kept", "lost", "new")


class Overlay:
    """A captioned picture.

    Args:
        title: its heading.
        name: of its class, and its ``data-view``.
    """

    def __init__(self, title: str, name: str) -> None:
        self.title = title
        with ui.element("figure").classes(f"overlay {name}").props(f'data-view="{name}"') as self.figure:
            with ui.element("figcaption"):
                ui.html(f"<b>{title}</b>", tag="span", sanitize=False)
                self._told = ui.html("", tag="span", sanitize=False).classes("told")
            with ui.element("div").classes("picture"):
                self._image = ui.element("img").props(f'alt="{title}"')
                self._image.classes("empty")

    def first(self, key: str, alt: str, mark: str) -> None:
        """Show a picture at once: an update of elements, as :meth:`settle` makes one, renders the whole page.

        Args:
            key: of the picture.
            alt: what is to be seen, in words.
            mark: what the picture is of, for the element's ``data-of``.
        """
        shown = {"src": f"/pictures/{key}", "alt": alt, "data-of": mark}
        self.figure.client.run_javascript(f"featlinkShow({self._image.id}, {json.dumps(shown)})")

    def settle(self, told: str) -> None:
        """Say what is to be seen in it.

        Args:
            told: HTML below the title.
        """
        self._told.content = told

    def busy(self, busy: bool) -> None:
        """Show that a newer answer is on its way."""
        self.figure.client.run_javascript(
            f"getHtmlElement({self.figure.id}).classList.toggle('busy', {str(busy).lower()})"
        )

    def visible(self, visible: bool) -> None:
        """Show or hide it."""
        self.figure.set_visibility(visible)


def chips(received: Received) -> str:
    """How many detections were kept, lost and are new, as HTML."""
    found = received.matching
    counts = {"kept": len(found.kept), "lost": len(found.lost), "new": len(found.new)}
    return "".join(f'<span class="chip {kind}">{count} {kind}</span>' for kind, count in counts.items())


def words(received: Received) -> str:
    """The overlay in words."""
    found = received.matching
    names = received.answer["categories"]
    kept = ", ".join(str(names.get(str(after["category_id"]))) for _, after in found.kept) or "none"
    return f"{len(found.kept)} detections kept ({kept}), {len(found.lost)} lost, {len(found.new)} new"


def figures(shown: Iterable[Received]) -> str:
    """Bits, fidelity and detections, a column for each domain, as HTML."""
    columns = list(shown)
    head = "".join(f'<th scope="col" class="domain {one.domain}">{TITLES[one.domain]}</th>' for one in columns)
    parts = [f'<table class="figures"><thead><tr><th scope="col"></th>{head}</tr></thead><tbody>']
    for title, low_is_good, values in _rows(columns):
        best = _best([value for value, _ in values], low_is_good)
        cells = "".join(
            f'<td class="number{" best" if i == best else ""}">{escape(text)}</td>'
            for i, (_, text) in enumerate(values)
        )
        parts.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    return "".join([*parts, "</tbody></table>"])


_Cells = list[tuple[float | None, str]]


def _rows(columns: list[Received]) -> list[tuple[str, bool, _Cells]]:
    answers = [one.answer for one in columns]
    bits: _Cells = [(one["bits"], f"{one['bits']:,}") for one in answers]
    sizes: _Cells = [(one["bits"], _size(one["bits"])) for one in answers]
    rows: list[tuple[str, bool, _Cells]] = [
        ("On the link", True, sizes),
        ("Bits", True, bits),
        ("Bits per pixel", True, [(one["bpp"], f"{one['bpp']:,.3g}") for one in answers]),
    ]
    if any(one["link_bits"] != one["bits"] for one in answers):
        rows.append(
            ("with what was sent again", True, [(one["link_bits"], _size(one["link_bits"])) for one in answers])
        )
    for title, psnr, ssim in (
        ("what is sent", {"feature": "psnr_f", "image": "psnr_i"}, {"feature": "ssim_f", "image": "ssim_i"}),
        ("what the heads get", {"feature": "psnr_f", "image": "psnr_f"}, {"feature": "ssim_f", "image": "ssim_f"}),
    ):
        if title == "what the heads get" and all(one.domain == "feature" for one in columns):
            continue
        rows.append((f"PSNR of {title}", False, [_decibel(one, psnr[one.domain]) for one in columns]))
        rows.append((f"SSIM of {title}", False, [_share(one, ssim[one.domain]) for one in columns]))
    kept: _Cells = [
        (len(m.kept), f"{len(m.kept)} of {len(m.kept) + len(m.lost)}") for m in (one.matching for one in columns)
    ]
    rows.append(("Detections kept", False, kept))
    rows.append(("Detections new", True, [(len(one.matching.new), f"{len(one.matching.new)}") for one in columns]))
    return rows


def _decibel(one: Received, name: str) -> tuple[float | None, str]:
    value = one.answer["fidelity"].get(name)
    if value is None:
        return (float("inf"), "∞ dB") if name in one.answer["fidelity"] else (None, "–")
    return value, f"{value:.2f} dB"


def _share(one: Received, name: str) -> tuple[float | None, str]:
    value = one.answer["fidelity"].get(name)
    return value, "–" if value is None else f"{value:.4f}"


def _size(bits: int) -> str:
    kilobytes = bits / 8000
    return f"{kilobytes / 1000:,.2f} MB" if kilobytes >= 1000 else f"{kilobytes:,.1f} kB"


def _best(values: list[float | None], low_is_good: bool) -> int | None:
    """Which of two is better; None for one alone or a draw."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or len(set(known)) == 1:
        return None
    return values.index(min(known) if low_is_good else max(known))


def detections(clean: Clean, shown: Iterable[Received]) -> str:
    """Every detection with what became of it, as an HTML table."""
    parts = []
    for one in shown:
        names = {**clean.answer["categories"], **one.answer["categories"]}
        rows: list[tuple[str, Detection | None, Detection | None]]
        rows = [("kept", before, after) for before, after in one.matching.kept]
        rows += [("lost", before, None) for before in one.matching.lost]
        rows += [("new", None, after) for after in one.matching.new]
        body = "".join(
            f'<tr><td><span class="chip {kind}">{kind}</span></td><td>{_name(before or after, names)}</td>'
            f'<td class="number">{_score(before)}</td><td class="number">{_score(after)}</td></tr>'
            for kind, before, after in rows
        )
        parts.append(
            f'<table class="detections"><caption>{TITLES[one.domain]}</caption><thead><tr><th scope="col"></th>'
            '<th scope="col">Object</th><th scope="col">Score, clean</th><th scope="col">Score, received</th></tr>'
            f"</thead><tbody>{body}</tbody></table>"
        )
    return "".join(parts)


def _name(detection: Detection | None, names: dict[str, str]) -> str:
    identity = "" if detection is None else str(detection["category_id"])
    return escape(str(names.get(identity, identity)))


def _score(detection: Detection | None) -> str:
    return "–" if detection is None else f"{detection['score']:.2f}"


def timing(shown: Iterable[Received]) -> str:
    """The waterfalls, as HTML."""
    return waterfall.html({TITLES[one.domain]: one.answer["timings"] for one in shown})


class Planes:
    """A level's planes before and after, which zoom and scroll together.

    Args:
        level: shown now; nothing for none.
        choose: called with another.
    """

    def __init__(self, level: str, choose: Callable[[str], None]) -> None:
        with ui.element("div").classes("row-tight wrap"):
            options = {"": "off", **{name: name for name in FPN.names}}
            ui.toggle(options, value=level, on_change=lambda e: choose(e.value)).props(
                'dense no-caps unelevated aria-label="Level"'
            )
            self._zoom = ui.toggle({"fit": "fit", "1": "1:1", "4": "4:1"}, value="fit", on_change=self._zoomed)
            self._zoom.props('dense no-caps unelevated aria-label="Zoom"')
        with ui.element("div").classes("planes zoom-fit") as self._views:
            self._images = [self._view(title, name) for title, name in (("Sent", "sent"), ("Received", "received"))]
        self.show(None, level)

    def show(self, keys: tuple[str, str] | None, level: str) -> None:
        """Show planes, or nothing."""
        self._views.set_visibility(keys is not None)
        self._zoom.set_visibility(keys is not None)
        if keys is not None:
            for image, key in zip(self._images, keys, strict=True):
                image.props["src"] = f"/pictures/{key}"
                image.props["data-level"] = level
                image.update()

    def _view(self, title: str, name: str) -> ui.element:
        with ui.element("figure"):
            ui.html(f"<b>{title}</b>", tag="figcaption", sanitize=False)
            with ui.element("div").classes("plane").props('data-together="planes" tabindex="0"'):
                return ui.element("img").props(f'alt="The level\'s 256 channels as 16 by 16 tiles, {name}"')

    def _zoomed(self) -> None:
        self._views.classes(remove="zoom-fit zoom-1 zoom-4", add=f"zoom-{self._zoom.value}")
