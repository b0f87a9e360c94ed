"""Named conditions: the paper's rows, each once, under stable names."""

from __future__ import annotations

import pytest

from featlink.channel.transmit import Stream
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.names import NAMED, select
from featlink.shared.conditions.registry import chain

ROWS_PER_TABLE = {1: 9, 2: 6, 3: 6, 4: 6, 5: 6}


def test_each_table_has_its_rows() -> None:
    assert {table: len(select(f"paper.table{table}")) for table in ROWS_PER_TABLE} == ROWS_PER_TABLE
    assert len(select("paper")) == 33
    assert len(select("paper+equal")) == 39
    assert len(select("entropy")) == 6
    assert len(NAMED) == 67 + 15 + 28 + 130 + 14


def test_every_name_reads_as_its_text_and_can_be_run() -> None:
    conditions = {name: parse(name) for name in NAMED}
    assert conditions == {name: parse(text) for name, text in NAMED.items()}
    others = {name: condition for name, condition in conditions.items() if not name.startswith("privacy.")}
    assert len(set(map(str, others.values()))) == len(others)
    for name, condition in conditions.items():
        coded = (
            "entropy.",
            "privacy.features.pca.",
            "privacy.features.bottleneck.",
            "fcm.pca.",
            "fcm.learned.",
            "seq.features.pca",
            "seq.features.bottleneck.",
            "loss.",
        )
        further = ["codec"] * (name.startswith(coded) and ".pixels." not in name) + ["loss"] * name.startswith("loss.")
        assert [step.kind for step in chain(condition)][1:] == further
        assert f".{condition.domain}." in name or name.startswith(("fcm.", "seq.", "loss.", "privacy."))


def test_losses_are_of_features_and_pixels_with_the_same_protections() -> None:
    assert {name: len(select(f"loss.{name}")) for name in ("low", "high")} == {"low": 4 * 13, "high": 6 * 13}
    for name in select("loss.high.features"):
        assert name.replace("features", "pixels") in NAMED


def test_features_and_pixels_are_coded_at_several_rates() -> None:
    assert {name: len(select(f"fcm.{name}")) for name in ("pixels", "tiled", "pca", "learned", "hull")} == {
        "pixels": 6,
        "tiled": 4,
        "pca": 6,
        "learned": 6,
        "hull": 15,
    }
    assert len(select("fcm")) == 37


def test_sequences_have_three_anchors_and_four_ways_of_coding_features() -> None:
    sets = (
        "pixels.live",
        "pixels.vvc_ld",
        "pixels.vvc_ra",
        "features.tiled",
        "features.pca",
        "features.pca_vvc",
        "features.bottleneck",
    )
    assert [len(select(f"seq.{name}")) for name in sets] == [4] * 7
    assert len(select("seq")) == 28
    for name, text in select("seq").items():
        assert Stream(parse(text)).delay == (31 if "vvenc" in text else 0), name


def test_names_do_not_change() -> None:
    assert parse("paper.table1.feature.sigma1.5-window21") == parse("gaussian_blur(sigma=1.5, window=21)")
    assert parse("paper.table2.image.sigma3") == parse("image: gaussian_noise(sigma=3)")
    assert parse("paper.table3.feature.factor8") == parse("resize(factor=8)")
    assert parse("paper.table4.image.bits2") == parse("image: quantize(bits=2)")
    assert parse("paper.table5.feature.qp47") == parse("vvenc(qp=47)")
    assert parse("entropy.table4.feature.bits4") == parse("quantize(bits=4) | entropy")
    assert parse("equal.table2.image.sigma34.6") == parse("image: gaussian_noise(sigma=34.6)")


def test_a_name_takes_options() -> None:
    assert parse(" paper.table5.feature.qp32 @ packing=stacked, seed=3").seed == 3


@pytest.mark.parametrize("names", ["", "pap", "paper.", "paper+", "paper.table6", "paper+nothing", "table1"])
def test_an_unknown_name_selects_nothing(names: str) -> None:
    assert select(names) == {}
