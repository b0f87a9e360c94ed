"""The report travels in a header and comes back the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featlink.shared.result import HEADER, Telemetry, TelemetryError, read_header

FINITE = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=10)


@given(
    st.dictionaries(NAMES, FINITE, max_size=4),
    st.none() | st.integers(0, 2**63 - 1),
    st.dictionaries(NAMES, st.none() | FINITE, max_size=4),
)
def test_a_header_round_trips(timings: dict[str, float], bits: int | None, fidelity: dict[str, float | None]) -> None:
    report = Telemetry(timings, bits, fidelity)
    [(name, value)] = report.header().items()
    assert name == HEADER
    assert len(value.splitlines()) == 1 or any(name.splitlines() != [name] for name in (*timings, *fidelity))
    assert read_header(value) == report


@pytest.mark.parametrize("value", [None, "", "{}"])
def test_without_a_header_nothing_is_reported(value: str | None) -> None:
    assert read_header(value) == Telemetry({}, None, {})


def test_timings_are_added_to_a_new_report() -> None:
    first = Telemetry({"decode": 1.0}, 8, {"psnr_f": None})
    second = first.with_timings(backbone=2.5)
    assert second == Telemetry({"decode": 1.0, "backbone": 2.5}, 8, {"psnr_f": None})
    assert first.timings == {"decode": 1.0}


def test_fields_of_a_later_service_are_ignored() -> None:
    assert read_header('{"bits": 8, "energy": 3}') == Telemetry(bits=8)


@pytest.mark.parametrize(
    "value",
    [
        "nonsense",
        "é",
        "[]",
        "null",
        "{",
        '{"bits": -1}',
        '{"bits": 1.5}',
        '{"bits": true}',
        '{"bits": 9223372036854775808}',
        '{"timings": {"heads": "fast"}}',
        '{"timings": {"heads": null}}',
        '{"timings": {"heads": NaN}}',
        '{"timings": {"heads": 1e999}}',
        '{"fidelity": [1]}',
        '{"later": ' + "[" * 20_000,
        '{"later": ' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_is_no_report_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(TelemetryError) as caught:
        read_header(value)
    assert str(caught.value).startswith("featlink-report: ")
    assert len(str(caught.value).splitlines()) == 1
