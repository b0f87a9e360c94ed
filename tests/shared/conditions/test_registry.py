"""What a condition can name."""

from __future__ import annotations

import jsonschema
import pytest

from featlink.channel.codecs.vvenc import Vvenc
from featlink.channel.distortions.quantize import Quantize
from featlink.shared.conditions.language import from_fields, parse
from featlink.shared.conditions.names import NAMED
from featlink.shared.conditions.registry import chain, schema, steps
from featlink.shared.errors import ConditionError


def test_a_chain_keeps_its_order() -> None:
    steps = chain(parse("quantize:bits=8 | identity | vvenc:qp=37 | quantize:bits=2"))
    assert steps == (Quantize(bits=8), Vvenc(qp=37), Quantize(bits=2))
    assert chain(parse("identity")) == ()


def test_every_step_has_a_schema_under_its_own_name() -> None:
    mapping = schema()["$defs"]["Step"]["discriminator"]["mapping"]
    assert mapping.keys() == steps().keys()
    for name, reference in mapping.items():
        step = schema()["$defs"][reference.removeprefix("#/$defs/")]
        assert step["properties"]["type"]["const"] == name
        assert steps()[name].model_fields["type"].default == name


def test_the_schema_takes_every_named_condition() -> None:
    validator = jsonschema.validators.validator_for(schema())(schema())
    for text in NAMED.values():
        validator.validate(parse(text).model_dump(mode="json"))


@pytest.mark.parametrize(
    "step",
    [
        {"type": "sharpen"},
        {"type": "quantize", "bits": 17},
        {"type": "quantize"},
        {"type": "quantize", "bits": 4, "qp": 1},
        {"bits": 4},
    ],
)
def test_the_schema_refuses_what_the_channel_refuses(step: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"steps": [step]}, schema())
    with pytest.raises(ConditionError):
        chain(from_fields({"steps": [step]}))


@pytest.mark.parametrize("name", list(steps()))
def test_every_step_refuses_parameters_it_does_not_have(name: str) -> None:
    with pytest.raises(ConditionError, match=f"^{name}: .*nonsense: Extra inputs are not permitted") as caught:
        chain(parse(f"{name}:nonsense=1"))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("sharpen:by=2", "unknown step 'sharpen'; known are identity, .*quantize.*vvenc"),
        ("quantize:bits=17", "quantize: bits: Input should be less than or equal to 16"),
        ("quantize", "quantize: bits: Field required"),
        ("quantize:type=blur, bits=8", "a parameter cannot be called type"),
        ("vvenc:qp=64", "vvenc: qp: Input should be less than or equal to 63"),
        ("vvenc | jpeg", "a chain can code once"),
    ],
)
def test_what_has_no_meaning_is_refused(condition: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        chain(parse(condition))
