"""Conditions: text, model and JSON say the same; what cannot be read is refused in one line."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featlink.shared.conditions.language import Condition, StepSpec, from_fields, parse, with_ranges
from featlink.shared.errors import ConditionError
from featlink.shared.features import FeatureSpec, TensorSpec
from featlink.shared.fpn import FPN

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:+-]{0,9}", fullmatch=True).filter(
    lambda word: word not in ("true", "false", "NaN", "Infinity")
)
LARGEST = 2**63 - 1
NUMBERS = st.integers(-LARGEST, LARGEST) | st.floats(-1e18, 1e18)
STEPS = st.builds(
    StepSpec,
    type=NAMES.filter(lambda name: name != "identity"),
    params=st.dictionaries(NAMES, st.booleans() | NUMBERS | WORDS, max_size=4),
)
PAIRS = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6)).map(lambda pair: (pair[0] - pair[1], pair[0] + pair[1]))
FIXED = st.builds(
    Condition,
    steps=st.lists(STEPS, max_size=2).map(tuple),
    range=st.just("fixed"),
    ranges=st.fixed_dictionaries(dict.fromkeys(FPN.required, PAIRS), optional={"p6": PAIRS}),
)
CONDITIONS = FIXED | st.builds(
    Condition,
    domain=st.sampled_from(["feature", "image"]),
    steps=st.lists(STEPS, max_size=3).map(tuple),
    bit_depth=st.integers(1, 16),
    range=st.sampled_from(["level", "channel"]),
    layout=st.sampled_from(["tiled", "channel"]),
    packing=st.sampled_from(["level", "stacked"]),
    at=st.sampled_from(["input", "original"]),
    seed=st.integers(0, 2**32 - 1),
)


def refusal(text: str) -> str:
    """The one line with which a condition is refused."""
    with pytest.raises(ConditionError) as caught:
        parse(text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def typed(condition: Condition) -> str:
    """With the types of the parameters, which ``==`` does not tell apart: 1, 1.0 and True."""
    return repr(condition)


@settings(max_examples=50)
@given(CONDITIONS)
def test_text_round_trips(condition: Condition) -> None:
    assert typed(parse(str(condition))) == typed(condition)


@settings(max_examples=50)
@given(CONDITIONS)
def test_json_round_trips(condition: Condition) -> None:
    text = condition.model_dump_json()
    assert typed(parse(text)) == typed(condition)
    assert typed(from_fields(json.loads(text))) == typed(condition)
    assert typed(from_fields(condition.model_dump(mode="json", exclude_defaults=True))) == typed(condition)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("identity", "feature: identity"),
        (" identity | identity ", "feature: identity"),
        ("quantize:bits=4", "feature: quantize(bits=4)"),
        ("quantize(bits=4)", "feature: quantize(bits=4)"),
        ("quantize ( bits = 4 , )", "feature: quantize(bits=4)"),
        ("quantize()", "feature: quantize"),
        ("feature:quantize:bits=4", "feature: quantize(bits=4)"),
        ("image : quantize:bits=4", "image: quantize(bits=4)"),
        ("image:\n quantize:bits=4", "image: quantize(bits=4)"),
        ("blur:sigma=1.5,window=21|noise(sigma=3)", "feature: blur(sigma=1.5, window=21) | noise(sigma=3)"),
        ("vvenc(qp=37,preset=faster,on=true)", "feature: vvenc(qp=37, preset=faster, on=true)"),
        ("a:b=-1,c=1e3,d=1e-05,e=null", "feature: a(b=-1, c=1000.0, d=1e-05, e=null)"),
        ("identity @", "feature: identity"),
        ("image: quantize(bits=2) @ seed=7, at=original", "image: quantize(bits=2) @ at=original, seed=7"),
        ("identity@bit_depth=10,range=channel", "feature: identity @ bit_depth=10, range=channel"),
        ("identity @ seed=0", "feature: identity"),
        ("identity @ domain=image", "image: identity"),
        ('{"steps": [{"type": "quantize", "bits": 4}], "seed": 1}', "feature: quantize(bits=4) @ seed=1"),
        (" {} ", "feature: identity"),
    ],
)
def test_every_way_to_write_it(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


def test_the_domain_asked_for_counts_where_the_text_names_none() -> None:
    assert parse("identity", "image").domain == "image"
    assert parse("{}", "image").domain == "image"
    assert parse("feature: identity", "image").domain == "feature"
    assert parse('{"domain": "feature"}', "image").domain == "feature"


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("", "empty condition"),
        (" \n", "empty condition"),
        ("a||b", "cannot read step ''"),
        ("|", "cannot read step ''"),
        ("a |", "cannot read step ''"),
        ("image:", "cannot read step ''"),
        ("@seed=1", "cannot read step ''"),
        ("a(b=1", "cannot read step 'a(b=1'"),
        ("a b=1)", "cannot read step 'a b=1)'"),
        ("a(b=(1))", "cannot read step 'a(b=(1))'"),
        ("a(b=1)c", "cannot read step 'a(b=1)c'"),
        ("Quantize:bits=4", "cannot read step 'Quantize:bits=4'"),
        ("größe", "cannot read step 'größe'"),
        ("a\x00", r"cannot read step 'a\x00'"),
        ("a\nb", r"cannot read step 'a\nb'"),
        ("a:b", "cannot read 'b'"),
        ("a:=1", "cannot read '=1'"),
        ("a:b=", "cannot read 'b='"),
        ("a:b=1 c=2", "cannot read 'b=1 c=2'"),
        ("a:b==1", "cannot read 'b==1'"),
        ("a:b=ä", "cannot read 'b=ä'"),
        ("a:b=[1]", "cannot read 'b=[1]'"),
        ('a:b="x"', "cannot read 'b=\"x\"'"),
        ("a:b=\ud800", r"cannot read 'b=\ud800'"),
        ("a(b=1,b=2)", "b is given twice"),
        ("a @ seed=1, seed=2", "seed is given twice"),
        ("a @ steps=3", "steps is given twice"),
        ("image: a @ domain=feature", "domain is given twice"),
        ("a @ nonsense=1", "nonsense: Extra inputs are not permitted"),
        ("a @ seed=-1", "seed: Input should be greater than or equal to 0"),
        ("a @ seed=4294967296", "seed: Input should be less than 4294967296"),
        ("a @ seed=" + "9" * 5000, "seed: Unable to parse input string as an integer"),
        ("a @ bit_depth=17", "bit_depth: Input should be less than or equal to 16"),
        ("a @ range=global", "range: Input should be 'level', 'channel' or 'fixed'"),
        ("a @ seed=1 @ at=original", "cannot read 'seed=1 @ at=original'"),
        (" | ".join(["a"] * 17), "steps: Tuple should have at most 16 items"),
        ("identity(x=1)", "steps: identity takes no parameters"),
        ("a:b=NaN", "steps.0.params: 'b' is not a finite 64-bit number"),
        ("a:b=-Infinity", "steps.0.params: 'b' is not a finite 64-bit number"),
        ("a:b=1e999", "steps.0.params: 'b' is not a finite 64-bit number"),
        ("a | a:c=1,b=9223372036854775808", "steps.1.params: 'b' is not a finite 64-bit number"),
        ("{", "condition is not JSON"),
        ("{'domain': 'image'}", "condition is not JSON"),
        ('{"a":' * 1600, "condition is not JSON"),
        ('{"nonsense": 1}', "nonsense: Extra inputs are not permitted"),
        ('{"line\\nbreak": 1}', "line break: Extra inputs are not permitted"),
        ('{"domain": "audio"}', "domain: Input should be 'feature' or 'image'"),
        ('{"steps": 3}', "steps: Input should be a valid tuple"),
        ('{"steps": ["identity"]}', "steps.0: Input should be a valid dictionary"),
        ('{"steps": [{}]}', "steps.0.type: Field required"),
        ('{"steps": [{"type": "q\\n"}]}', "steps.0.type: String should match pattern"),
        ('{"steps": [{"type": "q", "params": {"bits": 4}, "b": 1}]}', "steps.0.b: Extra inputs are not permitted"),
        ("a(params=1)", "steps.0.params: a parameter cannot be called params"),
        ("a(type=b)", "steps.0.params: a parameter cannot be called type"),
        ("a @ p2=0:1", "ranges are given, but range is not fixed"),
        ("a @ range=fixed", "range=fixed needs the range of each level"),
        ("a @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=1:1", "the range of p5 is not m:M with finite m < M"),
        ("a @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=0:1e31", "the range of p5 is not m:M with finite m < M"),
        ("a @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=0:x", "ranges.p5.1: Input should be a valid number"),
        ("a @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=0:1:2", "ranges.p5: Tuple should have at most 2 items"),
        ("a @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=3", "ranges.p5: Input should be a valid tuple"),
        ("image: a @ range=fixed, p2=0:1, p3=0:1, p4=0:1, p5=0:1", "range=fixed is for features"),
        ("paper.table9", "cannot read step 'paper.table9'"),
        ('{"steps": [{"type": "q", "a": null}]}', "steps.0.params.a"),
        ('{"steps": [{"type": "q", "a": [1]}]}', "steps.0.params.a"),
        ('{"steps": [{"type": "q", "a": NaN}]}', "steps.0.params: 'a' is not a finite"),
        # JSON could say these, text could not
        ('{"steps": [{"type": "q", "a": "x, y"}]}', "cannot be written as parameter=value: 'a', 'x, y'"),
        ('{"steps": [{"type": "q", "a": "x y"}]}', "parameter=value: 'a', 'x y'"),
        ('{"steps": [{"type": "q", "a": "x)"}]}', "parameter=value: 'a', 'x)'"),
        ('{"steps": [{"type": "q", "a": "4"}]}', "parameter=value: 'a', '4'"),
        ('{"steps": [{"type": "q", "a": ""}]}', "parameter=value: 'a', ''"),
        ('{"steps": [{"type": "q", "a ": 1}]}', "parameter=value: 'a ', 1"),
        ('{"steps": [{"type": "q", "A": 1}]}', "parameter=value: 'A', 1"),
        ('{"steps": [{"type": "q", "a=1, b": 2}]}', "parameter=value: 'a=1, b', 2"),
        ('{"steps": [{"type": "q", "a": "\\ud800"}]}', r"parameter=value: 'a', '\ud800'"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(text: str, culprit: str) -> None:
    assert culprit in refusal(text)


@pytest.mark.parametrize("text", ["[]", "1", '"identity"'])
def test_only_an_object_is_a_json_form(text: str) -> None:
    refusal(text)
    with pytest.raises(ConditionError):
        from_fields(json.loads(text))


@given(st.text(alphabet=st.characters() | st.sampled_from("ab1=:,()|@{}\"' \n"), max_size=60))
def test_any_text_parses_or_is_refused_in_one_line(text: str) -> None:
    try:
        condition = parse(text)
    except ConditionError:
        refusal(text)
    else:
        assert typed(parse(str(condition))) == typed(condition)


PATTERNS = ["a", " ", "a ", "a=", "a=1,", "a:", "(", ")", "()", "a(", "a(b=1)|", "@", "|", ",", "[", "{", '{"a":[', "9"]


@pytest.mark.parametrize("start", ["", "a", "a:b=", "a(b=", "image", "a @ b=", "{"])
def test_long_hostile_texts_cost_no_time(start: str) -> None:
    texts = [(start + pattern * 8192)[:8191] + end for pattern in PATTERNS for end in ("", "!", "x", ")")]
    for text in texts:
        started = time.process_time()
        try:
            parse(text)
        except ConditionError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        assert time.process_time() - started < 0.1


def test_conditions_are_values() -> None:
    assert parse("quantize:bits=4") == parse("feature: quantize(bits=4)") != parse("image: quantize(bits=4)")
    with pytest.raises(ValueError, match="frozen"):
        parse("identity").seed = 3


@pytest.mark.parametrize(
    "text",
    [
        "|".join("a" * 10_000_000),
        "a" * 10_000_000,
        "x(" + ",".join(f"p{i}=1" for i in range(10_000)) + ")",
        "{" * 1_000_000,
        '{"steps": ' + "[" * 4000 + "]" * 4000 + "}",
        f"x(a={'v' * 300})",
        f"{'t' * 65}(a=1)",
        "x(" + ", ".join(f"p{i}=1" for i in range(33)) + ")",
    ],
)
def test_a_condition_is_short(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConditionError) as refused:
        parse(text)
    assert len(str(refused.value)) < 9000
    assert time.monotonic() - started < 2


def test_a_condition_of_fields_is_as_short_as_one_of_text() -> None:
    many = {f"p{i}": "v" * 100 for i in range(32)}
    with pytest.raises(ConditionError, match="more than 8192 characters"):
        from_fields({"steps": [{"type": "x", **many}] * 16})
    with pytest.raises(ConditionError, match="steps"):
        from_fields({"steps": [{"type": "x"}] * 1_000_000})


ALIKE = "p2=0:1, p3=0:2, p4=0:3, p5=0:4"


def test_ranges_are_those_of_the_features_levels() -> None:
    assert with_ranges(parse(f"a @ range=fixed, {ALIKE}"), FPN).ranges["p6"] == (0, 4)
    assert with_ranges(parse(f"a @ range=fixed, {ALIKE}, p6=0:5"), FPN).ranges["p6"] == (0, 5)
    other = FeatureSpec((TensorSpec("fine", 3, 8),))
    assert with_ranges(parse("a @ range=fixed, fine=-1:1"), other).ranges == {"fine": (-1, 1)}
    halves = FeatureSpec((*other.tensors, TensorSpec("half", 3, 16, "fine"), TensorSpec("quarter", 3, 32, "half")))
    assert with_ranges(parse("a @ range=fixed, fine=-1:1"), halves).ranges["quarter"] == (-1, 1)
    assert with_ranges(parse("a"), other) == parse("a")


@pytest.mark.parametrize("ranges", ["p2=0:1", f"{ALIKE}, p7=0:1", "fine=0:1"])
def test_ranges_of_other_levels_are_refused(ranges: str) -> None:
    with pytest.raises(ConditionError, match="range=fixed needs the range of each of p2, p3, p4, p5, p6"):
        with_ranges(parse(f"a @ range=fixed, {ranges}"), FPN)
