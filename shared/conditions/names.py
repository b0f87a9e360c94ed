"""Named conditions: the paper's rows, further rows for a fair comparison, and coding of features.

A name stands wherever a condition's text does. Names are stable: results refer to them. This module
has plain text only; :func:`featlink.shared.conditions.language.parse` reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

_BLURS = (
    ("feature", "1", 21),
    ("image", "1", 21),
    ("feature", "1", 5),
    ("feature", "1.5", 21),
    ("image", "1.5", 21),
    ("feature", "1.5", 5),
    ("feature", "3", 21),
    ("image", "3", 21),
    ("feature", "3", 5),
)
_DOMAINS = ("feature", "image")
_EQUAL_SIGMAS = ("16", "34.6", "43.7")
"""What the PSNR[I] of the paper's image rows (24.06, 17.35, 15.33 dB) says its "σ = 1, 3, 5" were: 255/10^(PSNR/20)."""


def _paper() -> Iterator[tuple[str, str]]:
    for domain, sigma, window in _BLURS:
        name = f"paper.table1.{domain}.sigma{sigma}-window{window}"
        yield name, f"{domain}: gaussian_blur(sigma={sigma}, window={window})"
    rows = (
        ("table2", "gaussian_noise", "sigma", (1, 3, 5)),
        ("table3", "resize", "factor", (2, 4, 8)),
        ("table4", "quantize", "bits", (8, 4, 2)),
        ("table5", "vvenc", "qp", (32, 40, 47)),
    )
    for table, step, parameter, values in rows:
        for value in values:
            for domain in _DOMAINS:
                yield f"paper.{table}.{domain}.{parameter}{value}", f"{domain}: {step}({parameter}={value})"


def _equal() -> Iterator[tuple[str, str]]:
    for sigma in _EQUAL_SIGMAS:
        for domain in _DOMAINS:
            yield f"equal.table2.{domain}.sigma{sigma}", f"{domain}: gaussian_noise(sigma={sigma})"


def _entropy() -> Iterator[tuple[str, str]]:
    """Table 4, whose samples the paper sends densely, entropy-coded."""
    for bits in (8, 4, 2):
        for domain in _DOMAINS:
            yield f"entropy.table4.{domain}.bits{bits}", f"{domain}: quantize(bits={bits}) | entropy"


def _fcm() -> Iterator[tuple[str, str]]:
    for qp in (22, 27, 32, 37, 42, 47):
        yield f"fcm.pixels.qp{qp}", f"image: vvenc(qp={qp}) @ at=original"
    for qp in (35, 38, 41, 45):
        yield f"fcm.tiled.qp{qp}", f"feature: vvenc(qp={qp}, bit_depth=10)"
    for step in (0.4, 0.8, 1.6, 3, 6, 10):
        yield f"fcm.pca.step{step:g}", f"feature: pca(components=1024, step={step:g}) | entropy @ bit_depth=10"
    for step in (0.7, 1.4, 2.8, 4.8, 7, 9.5):
        yield f"fcm.learned.step{step:g}", f"feature: bottleneck(step={step:g}) | entropy @ bit_depth=10"


def _hull() -> Iterator[tuple[str, str]]:
    """Pixels as strong as still coding makes them: more effort, and the better of three sizes at each rate."""
    for scale in (1, 0.75, 0.5):
        for qp in (22, 27, 32, 37, 42):
            text = f"image: vvenc(qp={qp}, preset=slow, scale={scale:g}) @ at=original"
            yield f"fcm.hull.scale{100 * scale:g}-qp{qp}", text


def _seq() -> Iterator[tuple[str, str]]:
    """Streams: pixels as a camera codes them, as the best codec does, and with its pictures out of order; features."""
    for qp in (27, 32, 37, 42):
        yield f"seq.pixels.live.qp{qp}", f"image: hevc(qp={qp}, gop=low_delay) @ at=original"
    for name, gop in (("vvc_ld", "low_delay"), ("vvc_ra", "random_access")):
        for qp in (22, 27, 32, 37):
            yield f"seq.pixels.{name}.qp{qp}", f"image: vvenc(qp={qp}, preset=fast, gop={gop}) @ at=original"
    for qp in (35, 38, 41, 45):
        yield f"seq.features.tiled.qp{qp}", f"feature: vvenc(qp={qp}, bit_depth=10, gop=low_delay)"
    for qp in (15, 18, 21, 24):
        yield (
            f"seq.features.pca_vvc.qp{qp}",
            f"feature: pca(components=128) | vvenc(qp={qp}, bit_depth=10, gop=low_delay)",
        )
    for step in (3, 4.5, 6, 10):
        text = f"feature: pca(components=1024, step={step:g}, gop=low_delay) | entropy @ bit_depth=10"
        yield f"seq.features.pca.step{step:g}", text
    for step in (2.8, 4.8, 7, 9.5):
        text = f"feature: bottleneck(step={step:g}, gop=low_delay) | entropy @ bit_depth=10"
        yield f"seq.features.bottleneck.step{step:g}", text


_LOSSES = (0, 1, 3, 5, 10, 20, 30)
"""Percent of packets."""
_RATES: dict[str, dict[float, tuple[float, int]]] = {
    "low": {0: (4.8, 31), 0.5: (8.2, 36)},
    "high": {0: (3, 28), 0.5: (5, 31), 1: (7, 34)},
}
"""By parity: the step of learned features and the QP of VVC pixels that take about 4 and 6 kB a bundled scene, with
headers and parity."""


def _loss() -> Iterator[tuple[str, str]]:
    """Coded features and pixels on a link that loses packets, at about the same total bits."""
    for rate, protections in _RATES.items():
        for parity, (step, qp) in protections.items():
            chains = {
                "features": (f"feature: bottleneck(step={step:g}) | entropy(stripes=4)", "bit_depth=10"),
                "pixels": (f"image: vvenc(qp={qp})", "at=original"),
            }
            for domain, (chain, options) in chains.items():
                for burst in (1, 5):
                    for percent in _LOSSES if burst == 1 else _LOSSES[1:]:
                        lost = f"rate={percent / 100:g}, burst={burst}, parity={parity:g}, mtu=700"
                        name = f"loss.{rate}.{domain}.parity{100 * parity:g}.lost{percent}"
                        text = f"{chain} | packet_loss({lost}) @ {options}"
                        yield name if burst == 1 else f"{name}-burst{burst}", text


def _privacy() -> Iterator[tuple[str, str]]:
    """What is asked how much it leaks: features as they are, quantised and coded; pixels of more and of fewer bits."""
    yield "privacy.features.raw", "feature: identity"
    yield "privacy.features.bits4", "feature: quantize(bits=4)"
    yield "privacy.features.pca.step3", "feature: pca(components=1024, step=3) | entropy @ bit_depth=10"
    for step in (1.4, 3, 7):
        yield (
            f"privacy.features.bottleneck.step{step:g}",
            f"feature: bottleneck(step={step:g}) | entropy @ bit_depth=10",
        )
    yield "privacy.pixels.raw", "image: identity"
    for quality in (5, 20, 60):
        yield f"privacy.pixels.jpeg.quality{quality}", f"image: jpeg(quality={quality}) @ at=original"
    for qp in (22, 28, 34, 40):
        yield f"privacy.pixels.vvenc.qp{qp}", f"image: vvenc(qp={qp}) @ at=original"


NAMED: dict[str, str] = dict([*_paper(), *_equal(), *_entropy(), *_fcm(), *_hull(), *_seq(), *_loss(), *_privacy()])
"""Text form by name: 33 rows ``paper.tableN.…``, the equal-noise rows ``equal.table2.…``, Table 4 entropy-coded,
``entropy.table4.…``, and what features cost with and without reduction against pixels: ``fcm.pixels`` and ``fcm.tiled``
(MPEG's feature anchor), coded by VVC, ``fcm.pca`` and ``fcm.learned``; ``fcm.hull``, pixels at three sizes, as strong
as still coding makes them. Of sequences: ``seq.pixels.live``, ``.vvc_ld`` and ``.vvc_ra``, and
``seq.features.tiled``, ``.pca``, ``.pca_vvc`` and ``.bottleneck``. On a link that loses packets, ``loss.low`` and
``loss.high``: features and pixels of as many bits, with protection. ``privacy.features`` and ``.pixels``, of which
attackers are asked what they recover; some are other rows' conditions."""


def select(names: str) -> dict[str, str]:
    """The named conditions under one or more names joined by ``+``.

    Args:
        names: whole names or their beginnings up to a dot: ``paper``, ``paper.table3``, ``paper+equal``.

    Returns:
        Text form by name, in the tables' order; empty if a part names none.

    Example:
        >>> len(select("paper")), list(select("paper.table4.image"))[-1]
        (33, 'paper.table4.image.bits2')
    """
    parts = [part.strip() for part in names.split("+")]
    chosen = {name: text for name, text in NAMED.items() if any(_under(part, name) for part in parts)}
    complete = all(any(_under(part, name) for name in chosen) for part in parts)
    return chosen if complete else {}


def _under(part: str, name: str) -> bool:
    return bool(part) and (name == part or name.startswith(part + "."))
