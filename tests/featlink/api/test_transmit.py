"""Sending from Python: what services and sweeps send, and what a notebook may ask for besides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import Field

import featlink as fl
from featlink.channel.codecs.base import Tools
from featlink.shared.conditions import registry
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.engine import WorkItem
from featlink.sweeps.local import LocalEngine
from featlink.sweeps.stages import Stages

Image = npt.NDArray[np.uint8]

CHAINS = ("identity", "gaussian_noise(sigma=9) @ seed=3", "vvenc(qp=40)")
CONDITIONS = [fl.parse(chain, domain) for chain in CHAINS for domain in ("feature", "image")]  # type: ignore[arg-type]
CONDITIONS += [fl.parse("image: gaussian_noise(sigma=9) @ at=original, seed=4"), fl.parse("jpeg @ packing=stacked")]


def figures(fidelity: fl.Fidelity, domain: str) -> dict[str, float | None]:
    psnr = fidelity.psnr if math.isfinite(fidelity.psnr) else None
    measured: dict[str, float | None] = {f"psnr_{domain}": psnr, f"ssim_{domain}": fidelity.ssim}
    return measured if domain == "i" else {**measured, "spearman_f": fidelity.spearman}


@pytest.mark.slow
@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_it_is_what_a_sweep_gets(
    condition: fl.Condition, model: fl.Model, picture: Path, image: Image, clean: fl.Pyramid
) -> None:
    engine = LocalEngine(Stages(model.split, [condition], True, Tools(threads=1)), threads=1)
    [outcome] = engine.run([WorkItem.still(139, picture, (0,))])
    signal = clean if condition.domain == "feature" else image
    sent = fl.transmit(signal, condition, model=model, image_id=139)
    assert sent.bits == outcome.result.bits
    assert sent.bpp == sent.bits / (48 * 64)
    assert to_coco(model.detect(sent), 139) == outcome.result.detections
    measured = figures(sent.fidelity, "f" if condition.domain == "feature" else "i")
    if condition.domain == "feature":
        assert to_coco(model.detect(sent.pyramid), 139) == outcome.result.detections
    else:
        measured |= figures(fl.compare(clean, model.pyramid(sent)), "f")
    if condition.steps:
        assert measured == outcome.result.fidelity
    assert {"distort", "serialize"} <= sent.timings.keys()


@pytest.mark.slow
def test_it_is_what_the_services_answer(
    model: fl.Model, picture: Path, clean: fl.Pyramid, config: ModelConfig, deploy: Callable[..., Any]
) -> None:
    text = "gaussian_noise(sigma=5) | jpeg(quality=60) @ seed=8"
    sent = fl.transmit(clean, text, image_id=139)
    with deploy(**vars(config)) as services:
        params = {"condition": text, "image_id": 139}
        url = f"{services.edge}/v1/infer"
        answer = httpx.post(url, content=picture.read_bytes(), params=params, timeout=120).json()
    assert answer["bits"] == sent.bits
    assert answer["bpp"] == sent.bpp
    assert answer["detections"] == to_coco(model.detect(sent.pyramid), 139)
    assert answer["fidelity"] == figures(sent.fidelity, "f")


def test_bitstreams_are_what_the_codec_made(clean: fl.Pyramid, image: Image, model: fl.Model) -> None:
    sent = fl.transmit(clean, "jpeg(quality=50)")
    assert sent.extension == "jpg"
    assert sent.bitstreams.keys() == clean.levels.keys()
    assert all(data.startswith(b"\xff\xd8") for data in sent.bitstreams.values())
    assert 8 * sum(map(len, sent.bitstreams.values())) < sent.bits < 8 * sum(map(len, sent.bitstreams.values())) + 8000
    assert fl.transmit(image, "jpeg", model=model).bitstreams.keys() == {"image"}
    assert not fl.transmit(clean, "quantize:bits=4").bitstreams


def test_levels_have_a_fidelity_of_their_own(clean: fl.Pyramid) -> None:
    sent = fl.transmit(clean, "quantize(bits=4)")
    assert sent.fidelity.levels.keys() == clean.levels.keys()
    assert sent.fidelity.levels["p2"].ssim < 1
    untouched = fl.transmit(clean, "identity").fidelity
    assert untouched.psnr == untouched.levels["p2"].psnr == math.inf
    assert untouched.levels["p2"].ssim == 1


def test_fidelity_can_be_left_out(clean: fl.Pyramid) -> None:
    sent = fl.transmit(clean, "quantize(bits=4)", fidelity=False)
    assert "fidelity" not in sent.timings
    with pytest.raises(fl.FeatlinkError, match="fidelity was not measured"):
        sent.fidelity  # noqa: B018


def test_what_came_can_be_sent_again(clean: fl.Pyramid, model: fl.Model) -> None:
    twice = fl.transmit(fl.transmit(clean, "quantize(bits=4)").pyramid, "quantize(bits=4)")
    assert len(model.detect(twice)) == 10
    assert twice.frame.meta.key == fl.transmit(clean, "identity").frame.meta.key


def test_the_image_is_as_the_network_or_the_sender_has_it(image: Image, model: fl.Model) -> None:
    at_input = fl.transmit(image, "quantize(bits=8)", model=model)
    assert at_input.image.shape[:2] == at_input.frame.meta.sizes.resized
    assert at_input.image.dtype == np.uint8
    original = fl.transmit(image, "quantize(bits=8) @ at=original")
    np.testing.assert_array_equal(original.image, image)
    np.testing.assert_array_equal(fl.transmit(image, "identity").image, image)


def test_each_signal_has_its_own_view(image: Image, clean: fl.Pyramid) -> None:
    with pytest.raises(fl.FeatlinkError, match=r"features were sent: see \.pyramid"):
        fl.transmit(clean, "identity").image  # noqa: B018
    with pytest.raises(fl.FeatlinkError, match=r"an image was sent: see \.image"):
        fl.transmit(image, "identity").pyramid  # noqa: B018


def test_an_image_at_the_networks_size_needs_the_network(image: Image) -> None:
    with pytest.raises(fl.FeatlinkError, match=r"^'image: jpeg' acts on .* give model=, or say @ at=original$"):
        fl.transmit(image, "jpeg")


def test_sent_without_a_model_it_is_detected_by_any(image: Image, clean: fl.Pyramid, model: fl.Model) -> None:
    condition = "image: gaussian_noise(sigma=9) @ at=original"
    alone, named = (fl.transmit(image, condition, model=one, image_id=7) for one in (None, model))
    assert to_coco(model.detect(alone), 7) == to_coco(model.detect(named), 7)
    assert 0 <= named.bits - alone.bits <= 8 * 128, "the header names the model and its levels"
    own = fl.Pyramid(clean.levels, clean.sizes)
    assert fl.transmit(own, "quantize(bits=4)", model=model).bits == fl.transmit(clean, "quantize(bits=4)").bits
    assert to_coco(model.detect(fl.transmit(own, "quantize(bits=4)", model=model)), 7) == to_coco(
        model.detect(fl.transmit(clean, "quantize(bits=4)")), 7
    )
    wide = fl.Pyramid({name: np.tile(level, (32, 1, 1)) for name, level in clean.levels.items()}, clean.sizes)
    alone = fl.transmit(wide, "quantize(bits=4)")  # taken for torchvision's 256 channels
    np.testing.assert_array_equal(
        alone.pyramid.levels["p2"], np.tile(fl.transmit(clean, "quantize(bits=4)").pyramid.levels["p2"], (32, 1, 1))
    )


def test_a_condition_that_names_no_domain_takes_the_signals(image: Image, clean: fl.Pyramid, model: fl.Model) -> None:
    condition = fl.parse("quantize(bits=4) @ seed=5")
    assert str(fl.transmit(clean, condition).condition) == "feature: quantize(bits=4) @ seed=5"
    assert str(fl.transmit(image, condition, model=model).condition) == "image: quantize(bits=4) @ seed=5"
    with pytest.raises(fl.FeatlinkError, match="condition is for the feature domain, the frame for image"):
        fl.transmit(image, "feature: quantize(bits=4)", model=model)


def test_seed_and_picture_name_the_noise(clean: fl.Pyramid) -> None:
    def noise(**how: Any) -> bytes:
        return fl.transmit(clean, "gaussian_noise(sigma=9)", fidelity=False, **how).pyramid.levels["p6"].tobytes()

    assert noise(seed=1) == noise(seed=1) != noise(seed=2)
    assert noise(image_id=1) == noise(image_id=1) != noise(image_id=2)
    assert noise() == noise(seed=0)


def test_bad_input_is_one_line(clean: fl.Pyramid) -> None:
    wrong: list[tuple[Any, str, dict[str, Any]]] = [
        (clean, "sharpen", {}),
        (clean, "quantize(bits=99)", {}),
        (clean, "quantize(bits=4)", {"seed": -1}),
        (replace(clean, levels={"p2": np.zeros((256, 4, 4))}), "quantize(bits=4)", {}),
    ]
    for signal, condition, how in wrong:
        with pytest.raises(fl.FeatlinkError) as caught:
            fl.transmit(signal, condition, **how)
        assert len(str(caught.value).splitlines()) == 1


class Darken(fl.Distortion):
    """Take a share of the brightness away."""

    strength: ClassVar[str | None] = "share"

    type: Literal["darken"] = "darken"
    share: float = Field(ge=0, le=1, description="what is taken")

    def apply(self, planes: fl.Planes, rng: np.random.Generator) -> fl.Planes:
        del rng
        return replace(planes, samples=(planes.samples * (1 - self.share)).astype(planes.samples.dtype))


@pytest.fixture
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", dict(fl.steps()))


@pytest.mark.usefixtures("_own_registry")
def test_ones_own_step_is_sent_by_value_and_by_name(image: Image, clean: fl.Pyramid) -> None:
    with pytest.raises(fl.FeatlinkError, match=r"^Darken is not registered as 'darken': put @fl.register above"):
        fl.transmit(clean, Darken(share=0.5))
    fl.register(Darken)
    sent = fl.transmit(clean, Darken(share=0.5))
    assert str(sent.condition) == "feature: darken(share=0.5)"
    named = fl.transmit(clean, "darken(share=0.5)")
    np.testing.assert_array_equal(sent.pyramid.levels["p2"], named.pyramid.levels["p2"])
    assert sent.bits == named.bits
    half = fl.transmit(image, fl.parse("image: darken(share=0.5) @ at=original")).image
    np.testing.assert_array_equal(half, image // 2)
