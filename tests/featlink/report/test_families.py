"""Which rows make one curve."""

from __future__ import annotations

from featlink.report.sweep import families, pair_name, pairs
from featlink.results import Row
from featlink.shared.conditions.language import parse


def row(text: str) -> Row:
    return Row(text, text, parse(text).domain, 1, {}, None, 8, 1, {}, {}, [])


def test_by_domain_distortion_other_parameters_and_options() -> None:
    texts = [
        "feature: vvenc(qp=47)",
        "feature: vvenc(qp=32, preset=faster)",  # the default preset, spelt out
        "feature: vvenc(qp=40, preset=slow)",
        "feature: vvenc(qp=40) @ packing=stacked",
        "image: vvenc(qp=40)",
        "feature: gaussian_noise(sigma=1) @ seed=3",
        "feature: gaussian_noise(sigma=5)",
        "feature: identity",
        "feature: quantize(bits=4) | vvenc(qp=40)",
    ]
    found = [(f.domain, f.type, f.options, [one.condition for one in f.rows]) for f in families(map(row, texts))]
    assert found == [
        ("feature", "vvenc", "", [texts[1], texts[0]]),
        ("feature", "vvenc", "", [texts[2]]),
        ("feature", "vvenc", "packing=stacked", [texts[3]]),
        ("image", "vvenc", "", [texts[4]]),
        ("feature", "gaussian_noise", "", [texts[5], texts[6]]),
    ]


def test_names_say_what_is_unusual() -> None:
    texts = ["feature: vvenc(qp=40, preset=slow) @ packing=stacked", "image: vvenc(qp=40, preset=faster)"]
    assert [f.name for f in families(map(row, texts))] == ["vvenc, preset slow, packing=stacked", "vvenc"]


def test_pairs_share_parameters_but_not_options() -> None:
    texts = ["feature: vvenc(qp=40) @ packing=stacked", "feature: vvenc(qp=40, preset=slow)", "image: vvenc(qp=32)"]
    assert [(f.options, i.rows[0].condition) for f, i in pairs(families(map(row, texts)))] == [
        ("packing=stacked", "image: vvenc(qp=32)")
    ]


def test_pairs_of_one_feature_family_are_told_apart_by_the_images_options() -> None:
    texts = ["feature: vvenc(qp=40)", "image: vvenc(qp=40)", "image: vvenc(qp=40) @ at=original"]
    assert [pair_name(*pair) for pair in pairs(families(map(row, texts)))] == ["vvenc", "vvenc; image: at=original"]


def test_a_step_without_strength_keeps_the_family_of_the_other() -> None:
    texts = ["quantize(bits=4) | entropy", "quantize(bits=2) | entropy", "quantize(bits=4)", "image: quantize(bits=4)"]
    texts.append("image: quantize(bits=2) | entropy")
    found = families(map(row, texts))
    assert [(family.name, len(family.rows)) for family in found] == [
        ("quantize, entropy", 2),
        ("quantize", 1),
        ("quantize", 1),
        ("quantize, entropy", 1),
    ]
    assert [(f.company, i.company) for f, i in pairs(found)] == [("entropy", "entropy"), ("", "")]
