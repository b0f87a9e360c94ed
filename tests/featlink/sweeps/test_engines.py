"""Three engines, one result: every distortion and codec, in both domains."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from numbers_by_key import Numbers, numbers
from PIL import Image

from featlink.channel.codecs.base import Tools
from featlink.channel.transmit import Transmission
from featlink.client import Client
from featlink.dataset import open_dataset
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition, Domain, parse
from featlink.shared.conditions.registry import steps
from featlink.shared.errors import ModelError
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.shared.result import InferenceResult
from featlink.sweeps.engine import Engine, ItemError, ItemResult, WorkItem
from featlink.sweeps.http import HttpEngine
from featlink.sweeps.local import LocalEngine, build_local
from featlink.sweeps.stages import Prepared, Stages

CHAINS = (
    "identity",
    "gaussian_blur(sigma=1.5)",
    "gaussian_noise(sigma=9) @ seed=3",
    "resize(factor=2)",
    "quantize(bits=3)",
    "packet_loss(rate=0.3, mtu=100)",
    "bit_error(ber=0.01)",
    "rank_shuffle(span=500)",
    "monotone(gamma=2)",
    "vvenc(qp=40)",
    "hevc(qp=35)",
    "av1(qp=40)",
    "jpeg(quality=30)",
    "gaussian_noise(sigma=3) | quantize(bits=4)",
    "clip(sigmas=3) | quantize(bits=4) | entropy",
    "quantize(bits=4) | entropy(stripes=3) | packet_loss(rate=0.3, burst=3, parity=0.2, retries=1, conceal=neighbour)",
)
DOMAINS: tuple[Domain, ...] = ("feature", "image")
REDUCED = ("pca(components=8)", "pca(components=8, step=0.5)", "pca(components=8) | vvenc(qp=30, bit_depth=10)")
CONDITIONS = [
    *(parse(chain, domain) for chain in CHAINS for domain in DOMAINS),
    *(parse(chain, "feature") for chain in REDUCED),
]
pytestmark = pytest.mark.usefixtures("fitted")


def tasks(tiny: Path, images: int, wanted: tuple[int, ...] = tuple(range(len(CONDITIONS)))) -> list[WorkItem]:
    return [WorkItem.still(i, path, wanted) for i, path in list(open_dataset(tiny).images.items())[:images]]


class Failing(Stages):
    """Stages whose network always fails."""

    def detect(self, prepared: Prepared, run: int, sent: Transmission) -> Callable[[], ItemResult]:
        raise ModelError("no")


@pytest.fixture(scope="module")
def model(config: ModelConfig) -> SplitModel:
    return build(config)


@pytest.fixture(scope="module")
def stages(model: SplitModel) -> Stages:
    return Stages(model, CONDITIONS, True, Tools(threads=1))


@pytest.fixture(scope="module")
def local(stages: Stages) -> LocalEngine:
    return LocalEngine(stages, threads=1)


@pytest.fixture(scope="module")
def expected(local: LocalEngine, tiny: Path) -> Numbers:
    return numbers(local.run(tasks(tiny, 1)))


@pytest.fixture(scope="module")
def expected_of_two(local: LocalEngine, expected: Numbers, tiny: Path) -> Numbers:
    return expected | numbers(local.run(tasks(tiny, 2)[1:]))


@pytest.mark.slow
def test_every_chain_shows(expected: Numbers) -> None:
    assert {step.type for condition in CONDITIONS for step in condition.steps} <= steps().keys()
    assert len(expected) == len(CONDITIONS)
    for (_, index), (detections, bits, fidelity) in expected.items():
        assert detections
        assert bits > 0
        metrics = {"psnr_f", "ssim_f", "spearman_f"}
        metrics |= {"psnr_i", "ssim_i"} if CONDITIONS[index].domain == "image" else set()
        assert fidelity.keys() == metrics
        assert (fidelity["psnr_f"] is None) == (not CONDITIONS[index].steps)


@pytest.mark.slow
def test_the_same_when_it_works_ahead(stages: Stages, expected: Numbers, tiny: Path) -> None:
    assert numbers(LocalEngine(stages, threads=2).run(tasks(tiny, 1))) == expected


@pytest.mark.slow
def test_the_same_with_a_thread_for_each_condition(stages: Stages, expected: Numbers, tiny: Path) -> None:
    engine = LocalEngine(stages, threads=3, on_gpu=True)
    assert numbers(engine.run(tasks(tiny, 1))) == expected


def test_a_thread_for_each_condition_ends_with_the_first_error(model: SplitModel, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes(b"no picture")
    [good] = tasks(tiny, 1, (4, 18))
    engine = LocalEngine(Stages(model, CONDITIONS, False, Tools(ffmpeg="/bin/false")), threads=2, on_gpu=True)
    odd, *others = engine.run([WorkItem.still(7, tmp_path / "7.png", (0, 2)), good])
    assert odd == ItemError(7, (0, 2), "not a JPEG, PNG, WEBP, BMP image")
    assert {type(one) for one in others} == {ItemResult, ItemError}

    engine = LocalEngine(Failing(model, CONDITIONS, False, Tools()), threads=2, on_gpu=True)
    with pytest.raises(CommandError, match=f"{good.name}: no"):
        list(engine.run([replace(good, runs=(4,))]))
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.slow
def test_the_same_of_some_conditions_alone(local: LocalEngine, expected: Numbers, tiny: Path) -> None:
    some = (1, 9, 12)  # image rows need the clean pyramid, whatever else is wanted
    found = numbers(local.run(tasks(tiny, 1, some)))
    assert found == {key: value for key, value in expected.items() if key in found}
    assert {index for _, index in found} == set(some)


def test_what_fails_is_named_and_the_rest_goes_on(local: LocalEngine, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "7.png").write_bytes(b"no picture")
    good = replace(tasks(tiny, 1)[0], runs=(0,))
    work = [WorkItem.still(7, tmp_path / "7.png", (0, 2)), WorkItem.still(8, tmp_path / "none.png", (0,)), good]
    odd, none, done = list(local.run(work))
    assert odd == ItemError(7, (0, 2), "not a JPEG, PNG, WEBP, BMP image")
    assert none == ItemError(8, (0,), "cannot be read: No such file or directory")
    assert isinstance(done, ItemResult)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_codec_that_fails_ends_nothing_but_its_own_row(model: SplitModel, tiny: Path, threads: int) -> None:
    conditions = [parse(text) for text in ("vvenc(qp=40)", "quantize(bits=4)", "image: jpeg(quality=50)")]
    engine = LocalEngine(Stages(model, conditions, False, Tools(ffmpeg="/bin/false")), threads)
    found = list(engine.run(tasks(tiny, 1, (0, 1, 2))))
    [failure] = [one for one in found if isinstance(one, ItemError)]
    assert (failure.runs, failure.why.partition(":")[0]) == ((0,), "false failed")
    assert {one.run for one in found if isinstance(one, ItemResult)} == {1, 2}


def test_it_obeys_the_program_that_is_named(config: ModelConfig, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLINK_FFMPEG", "/nowhere/ffmpeg")
    engine = build_local(config, [parse("vvenc(qp=40)")], fidelity=False)
    [failure] = engine.run(tasks(tiny, 1, (0,)))
    assert isinstance(failure, ItemError)
    assert failure.why.startswith("cannot start ffmpeg")


@pytest.mark.slow
def test_the_same_over_http(
    expected_of_two: Numbers, config: ModelConfig, tiny: Path, deploy: Callable[..., Any]
) -> None:
    with deploy(**vars(config)) as services, Client(services.edge, services.edge) as client:
        first, second = tasks(tiny, 2)
        engine: Engine = HttpEngine(client, CONDITIONS, True)
        resumed = replace(second, runs=(5, 8))  # the clean image is stored already, and the cloud has not seen it
        found = numbers(engine.run([first, resumed]))
        assert found == {key: value for key, value in expected_of_two.items() if key in found}
        assert len(found) == len(CONDITIONS) + 2


@pytest.mark.slow
def test_over_http_no_answer_depends_on_who_else_uses_the_deployment(
    expected: Numbers, config: ModelConfig, tiny: Path, deploy: Callable[..., Any]
) -> None:
    class Shared(Client):
        """A client of a deployment to which another one sends pictures before each of ours."""

        def infer(self, image: bytes, **params: Any) -> InferenceResult:
            foreign = io.BytesIO()
            Image.new("RGB", (64, 48)).save(foreign, "PNG")
            super().infer(foreign.getvalue(), domain="image", condition="identity")
            super().infer(foreign.getvalue(), domain="image", condition="quantize:bits=2")
            return super().infer(image, **params)

    [task] = tasks(tiny, 1, (3, 5, len(CONDITIONS) - 1))  # the last one reduces
    with deploy(**vars(config), cache_mb=1) as services, Shared(services.edge, services.edge) as client:
        found = numbers(HttpEngine(client, CONDITIONS, True).run([task]))
    assert found == {key: value for key, value in expected.items() if key in found}
    assert len(found) == 3


@pytest.mark.slow
def test_over_http_a_deployment_that_computes_something_else_is_refused(
    config: ModelConfig, tiny: Path, deploy: Callable[..., Any]
) -> None:
    [task] = tasks(tiny, 1, (1,))
    with deploy(**vars(config)) as services, Client(services.edge, services.edge) as client:
        engine = HttpEngine(client, CONDITIONS, True)
        httpx.put(f"{services.channel}/v1/link", json={"loss": 0.3, "on_loss": "erase"}).raise_for_status()
        with pytest.raises(CommandError, match="link erases packets"):
            list(engine.run([task]))
    with (
        deploy(**vars(config), send_p6=False) as services,
        Client(services.edge, services.edge) as plain,
        pytest.raises(CommandError, match="does not send p6"),
    ):
        HttpEngine(plain, CONDITIONS, True)


@pytest.fixture(scope="module")
def few() -> list[Condition]:
    """What ray's workers are given while one of them is killed."""
    return CONDITIONS[:10]


@pytest.mark.extended
def test_the_same_on_two_ray_workers_of_which_one_dies(
    expected_of_two: Numbers, few: list[Condition], config: ModelConfig, tiny: Path
) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from featlink.sweeps.cluster import Cluster, RayEngine

    with RayEngine(config, CONDITIONS, True, Cluster(workers=2)) as engine:
        found = numbers(engine.run(tasks(tiny, 2)))
        assert found == expected_of_two
        again: Numbers = {}
        for count, outcome in enumerate(engine.run(tasks(tiny, 2, tuple(range(len(few)))))):
            assert isinstance(outcome, ItemResult)
            result = outcome.result
            assert (result.image_id, outcome.run) not in again
            again[result.image_id, outcome.run] = (result.detections, result.bits, result.fidelity)
            if count == 3:
                ray.kill(engine.workers[0])
        assert again == {key: value for key, value in expected_of_two.items() if key[1] < len(few)}


@pytest.mark.extended
def test_ray_hands_on_why_a_worker_cannot_start(config: ModelConfig, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from featlink.sweeps.cluster import Cluster, RayEngine

    without_weights = config.but(model="maskrcnn_resnet50_fpn", weights=str(tmp_path / "none.pth"))
    with pytest.raises(ModelError, match="no weights at"):
        RayEngine(without_weights, CONDITIONS, True, Cluster(workers=1))


def test_an_error_of_the_network_leaves_no_thread_waiting(model: SplitModel, tiny: Path) -> None:
    engine = LocalEngine(Failing(model, CONDITIONS, False, Tools()), threads=2)
    with pytest.raises(CommandError, match="no") as error:  # whose traceback holds on to what ran
        list(engine.run(tasks(tiny, 1)))
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate()), error
