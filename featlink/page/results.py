"""Render results as HTML: the comparison, figures, time bars and detections of both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from featlink.page.pictures import Clean, Received
from featlink.shared.conditions.language import Condition
from featlink.shared.result import Packets
from featlink.shared.timing import in_order
from featlink.views import Detection, Matching

SENT_AS: dict[str, str] = {"feature": "features", "image": "pixels"}

_ALIKE = 0.1
"""Sides whose bits differ by less than this share are compared at equal bits."""

_Cells = list[tuple[float | None, str]]


def title(received: Received) -> str:
    """A side's name and what it sends: ``A · features``."""
    return f"{received.side.upper()} · {SENT_AS[received.condition.domain]}"


def badge(side: str, condition: Condition) -> str:
    """A side's letter in the colour of what it sends, and that in words, as HTML."""
    domain = condition.domain
    return f'<span class="badge {domain}">{side.upper()}</span> {SENT_AS[domain]}'


def chips(matching: Matching) -> str:
    """How many detections were kept, lost and are new, as HTML."""
    counts = {"kept": len(matching.kept), "lost": len(matching.lost), "new": len(matching.new)}
    return "".join(f'<span class="chip {kind}">{count} {kind}</span>' for kind, count in counts.items())


def units(packets: Packets | None) -> str:
    """Which units of what was sent came over a link that erases packets, as HTML; nothing where none were sent.

    Example:
        >>> units(Packets(sent=5, lost=1, resent=0, units=3, missing=(("latent", 1),)))
        '<span class="units" title="lost: latent 2">2 of 3 units came (hatched: lost), 4 of 5 packets</span>'
    """
    if packets is None:
        return ""
    lost = ", ".join(f"{name} {number + 1}" for name, number in packets.missing)
    title = f' title="lost: {lost}"' if lost else ""
    came = f"{packets.units - len(packets.missing)} of {packets.units} units came{' (hatched: lost)' if lost else ''}"
    return f'<span class="units"{title}>{came}, {packets.sent - packets.lost} of {packets.sent} packets</span>'


def in_words(received: Received) -> str:
    """The overlay in words, for those who do not see it."""
    matching, names = received.matching, received.result.categories
    kept = ", ".join(str(names.get(str(after["category_id"]))) for _, after in matching.kept) or "none"
    return f"{len(matching.kept)} detections kept ({kept}), {len(matching.lost)} lost, {len(matching.new)} new"


def size(bits: int | None) -> str:
    """Bits as bytes for people.

    Example:
        >>> size(15_440), size(32_000_000)
        ('1.93 kB', '4.00 MB')
    """
    kilobytes = (bits or 0) / 8000
    if kilobytes >= 1000:
        return f"{kilobytes / 1000:,.2f} MB"
    return f"{kilobytes:,.{2 if kilobytes < 10 else 1}f} kB"


def verdict(sides: Sequence[Received]) -> str:
    """What the comparison says, in one sentence, as HTML."""
    outcomes = [
        f"<b class='domain {one.condition.domain}'>{title(one)}</b> ({size(one.result.bits)}) "
        f"{'keeps ' if i == 0 else ''}<b>{len(one.matching.kept)}</b>"
        + (f" of {len(one.matching.kept) + len(one.matching.lost)} detections" if i == 0 else "")
        for i, one in enumerate(sides)
    ]
    text = ", ".join(outcomes)
    if len(sides) < 2:
        return f"{text}."
    first, second = (max(one.result.bits or 0, 1) for one in sides)
    if abs(first - second) <= _ALIKE * max(first, second):
        return f"At about equal bits, {text}."
    ratio = max(first / second, second / first)
    return f"{text}: {'A' if first > second else 'B'} sends {ratio:,.{0 if ratio >= 10 else 1}f} times as much."


def figures(sides: Sequence[Received]) -> str:
    """Bits, fidelity and detections, a column for each side, as HTML."""
    head = "".join(
        f'<th scope="col" class="domain {one.condition.domain}">{badge(one.side, one.condition)}</th>' for one in sides
    )
    parts = [f'<table class="figures"><thead><tr><th scope="col"></th>{head}</tr></thead><tbody>']
    for name, low_is_good, values in _rows(sides):
        best = _best([value for value, _ in values], low_is_good)
        cells = "".join(
            f'<td class="number{" best" if i == best else ""}">{escape(text)}</td>'
            for i, (_, text) in enumerate(values)
        )
        parts.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return "".join([*parts, "</tbody></table>"])


def _rows(sides: Sequence[Received]) -> list[tuple[str, bool, _Cells]]:
    """Rows of (name, whether less is better, a value and its text for each side)."""
    results = [one.result for one in sides]
    rows: list[tuple[str, bool, _Cells]] = [
        ("On the link", True, [(one.bits, size(one.bits)) for one in results]),
        ("Bits", True, [(one.bits, f"{one.bits:,}") for one in results]),
        ("Bits per pixel", True, [(one.bpp, f"{one.bpp:,.3g}") for one in results]),
    ]
    if any(one.link_bits != one.bits for one in results):
        rows.append(("with what was sent again", True, [(one.link_bits, size(one.link_bits)) for one in results]))
    images = any(one.condition.domain == "image" for one in sides)
    for measure, text in (("psnr", _decibel), ("ssim", _share)):
        sent = [text(one, f"{measure}_{one.condition.domain[0]}") for one in sides]
        rows.append((f"{measure.upper()} of what is sent", False, sent))
        if images:
            rows.append(
                (f"{measure.upper()} of what the heads get", False, [text(one, f"{measure}_f") for one in sides])
            )
    matchings = [one.matching for one in sides]
    kept: _Cells = [(len(one.kept), f"{len(one.kept)} of {len(one.kept) + len(one.lost)}") for one in matchings]
    rows.append(("Detections kept", False, kept))
    rows.append(("Detections new", True, [(len(one.new), f"{len(one.new)}") for one in matchings]))
    return rows


def _decibel(one: Received, name: str) -> tuple[float | None, str]:
    value = one.result.fidelity.get(name)
    if value is None:
        return (float("inf"), "∞ dB") if name in one.result.fidelity else (None, "–")
    return value, f"{value:.2f} dB"


def _share(one: Received, name: str) -> tuple[float | None, str]:
    value = one.result.fidelity.get(name)
    return value, "–" if value is None else f"{value:.4f}"


def _best(values: list[float | None], low_is_good: bool) -> int | None:
    """Which of two is better; None for one alone or a draw."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or len(set(known)) == 1:
        return None
    return values.index(min(known) if low_is_good else max(known))


def detections(clean: Clean, sides: Sequence[Received]) -> str:
    """Every detection with what became of it, as an HTML table."""
    parts = []
    for one in sides:
        names = {**clean.result.categories, **one.result.categories}
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
            f'<table class="detections"><caption>{title(one)}</caption><thead><tr><th scope="col"></th>'
            '<th scope="col">Object</th><th scope="col">Score, clean</th><th scope="col">Score, received</th></tr>'
            f"</thead><tbody>{body}</tbody></table>"
        )
    return "".join(parts)


def _name(detection: Detection | None, names: Mapping[str, str]) -> str:
    identity = "" if detection is None else str(detection["category_id"])
    return escape(str(names.get(identity, identity)))


def _score(detection: Detection | None) -> str:
    return "–" if detection is None else f"{detection['score']:.2f}"


def stage_bars(timings: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """An answer's stages as (place, label, ms), without measuring and what took no time.

    Args:
        timings: milliseconds by stage, as services report them.

    Example:
        >>> stage_bars({"heads": 5, "backbone": 10, "total": 20, "distort": 0})
        [('edge', 'backbone', 10), ('cloud', 'heads', 5)]
    """
    return [
        (stage.place, stage.label, timings[stage.name])
        for stage in in_order(timings)
        if timings[stage.name] and stage.place != "measuring"
    ]


def waterfall(titled: Mapping[str, Sequence[tuple[str, str, float]]]) -> str:
    """Where the time goes, each bar beginning where the one before it ended, all on one scale, as HTML.

    Args:
        titled: (place, label, ms) of each bar, by the waterfall's title.
    """
    most = max((sum(ms for _, _, ms in bars) for bars in titled.values()), default=0) or 1
    parts = []
    for caption, bars in titled.items():
        whole, at = sum(ms for _, _, ms in bars), 0.0
        parts.append(f'<table class="waterfall"><caption>{escape(caption)}: {whole:,.0f} ms</caption><tbody>')
        for place, label, ms in bars:
            left, width = 100 * at / most, max(0.4, 100 * ms / most)
            parts.append(
                f'<tr><th scope="row"><span class="place {place}">{place}</span> {escape(label)}</th>'
                f'<td class="track"><span class="bar {place}" style="margin-left:{left:.2f}%;width:{width:.2f}%">'
                f'</span></td><td class="number">{ms:,.1f} ms</td></tr>'
            )
            at += ms
        parts.append("</tbody></table>")
    return "".join(parts)
