"""Clips under predicted reductions: sweep, services and API agree; nothing drifts; who joins is right in one period."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fitted_basis import fitted_to
from numbers_by_key import numbers
from tiny_model import TINY

import featlink as fl
from featlink.channel.codecs.base import Differences, PictureFormat, Tools
from featlink.channel.codecs.entropy import Entropy
from featlink.channel.reduction.base import PredictingReduction
from featlink.channel.reduction.bottleneck import Learned, as_stored, encode_learned
from featlink.channel.reduction.motion import HEAD, Prediction, Receiver, Sent
from featlink.channel.reduction.pca import read_basis
from featlink.channel.transmit import Stream, Transmission
from featlink.client import Client
from featlink.dataset import open_dataset
from featlink.edge.prepare import Request, prepare
from featlink.fitting.bottleneck import Networks
from featlink.shared import fitted
from featlink.shared.conditions.language import parse
from featlink.shared.conditions.registry import chain
from featlink.shared.evaluation.coco_results import to_coco
from featlink.shared.frames.wire import LATENT
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.sweeps.engine import Frame, WorkItem
from featlink.sweeps.http import HttpEngine
from featlink.sweeps.local import LocalEngine
from featlink.sweeps.stages import Stages

CONFIG = ModelConfig(model=TINY, threads=1)
FRAMES, PERIOD = 48, 3
HEIGHT, WIDTH = 64, 96
REDUCTIONS = ("pca(components=40, ", "bottleneck(")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A texture that moves a pixel a frame, with a camera's noise."""
    folder, rng = tmp_path_factory.mktemp("clip"), np.random.default_rng(0)
    texture = rng.integers(0, 256, (8, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    truth: dict[str, list[dict[str, Any]]] = {
        "videos": [{"id": 1, "name": "clip", "fps": 10}],
        "categories": [{"id": 1}],
        "annotations": [],
        "images": [
            {"id": n, "width": WIDTH, "height": HEIGHT, "file_name": f"{n}.png", "video_id": 1, "frame_id": n - 1}
            for n in range(1, FRAMES + 1)
        ],
    }
    for image in truth["images"]:
        noise = rng.normal(0, 2, (HEIGHT, WIDTH, 3))
        picture = texture[:, image["frame_id"] :][:, :WIDTH] + noise
        cv2.imwrite(str(folder / image["file_name"]), picture.clip(0, 255).astype(np.uint8))
    (folder / "clips.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def step(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[float]:
    """One that suits what both reductions were fitted to."""
    with fitted_to(CONFIG, clip, tmp_path_factory.mktemp("fitted")) as folder:
        (path,) = folder.iterdir()
        basis = as_stored(read_basis(path))
        learned = Learned(basis, Networks(basis.deviation).layers())
        (folder / path.name.replace("pca", "bottleneck")).write_bytes(encode_learned(learned))
        yield round(float(basis.deviation[0]) / 12, 4)


@pytest.fixture(scope="module")
def model() -> SplitModel:
    return build(CONFIG)


def text(reduction: str, step: float, period: int) -> str:
    return f"{reduction}step={step}, gop=low_delay, period={period}) | entropy @ bit_depth=10"


def transmitted(model: SplitModel, clip: Path, condition: str, frames: int) -> list[Transmission]:
    paths = list(open_dataset(clip).images.values())[:frames]
    found = []
    with Stream(parse(condition)) as stream:
        for number, path in enumerate(paths):
            given = prepare(model, Request(path.read_bytes(), "feature", image_id=number + 1), max_pixels=10**6)
            found += stream.push(given.frame, given.telemetry)
    return found


def test_sweep_services_and_api_agree_to_the_bit(
    model: SplitModel, clip: Path, step: float, deploy: Callable[..., Any]
) -> None:
    conditions = [parse(text(reduction, step, PERIOD)) for reduction in REDUCTIONS]
    images = list(open_dataset(clip).images.items())[:5]
    work = [WorkItem(tuple(Frame(id, picture) for id, picture in images), (0, 1), "clip")]
    swept = numbers(LocalEngine(Stages(model, conditions, True, Tools(threads=1)), threads=1).run(work))
    with deploy(**vars(CONFIG)) as services, Client(services.edge, services.edge) as client:
        assert numbers(HttpEngine(client, conditions, True).run(work)) == swept
    here = fl.load(model=TINY, threads=1)
    for run, condition in enumerate(conditions):
        with fl.open_stream(str(condition), model=here) as stream:
            for number, (id, path) in enumerate(images):
                (sent,) = stream.push(here.pyramid(fl.read_image(path)), image_id=id)
                assert (to_coco(here.detect(sent), id), sent.bits) == swept[id, run][:2]
                assert sent.key == (number % PERIOD == 0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_without_a_refresh_the_last_frames_are_as_near_as_the_first(
    model: SplitModel, clip: Path, step: float, reduction: str
) -> None:
    sent = transmitted(model, clip, text(reduction, step, 256), FRAMES)
    assert [one.key for one in sent] == [True] + [False] * (FRAMES - 1)
    psnr = np.array([one.fidelity.psnr for one in sent if one.fidelity is not None])
    assert len(psnr) == FRAMES
    assert psnr[40:].mean() > psnr[1:9].mean() - 1


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_who_joins_at_frame_20_is_right_after_one_period(
    model: SplitModel, clip: Path, step: float, reduction: str
) -> None:
    period, joined = 8, 20
    condition = text(reduction, step, period)
    sent = transmitted(model, clip, condition, joined + period)
    (reducing, codec), weights = (
        chain(parse(condition)),
        fitted.key(sent[0].frame.meta.weights, sent[0].frame.meta.features),
    )
    assert isinstance(reducing, PredictingReduction)
    assert isinstance(codec, Entropy)
    receiver = Receiver(Prediction(*reducing.predicted_in(weights)))
    first = next(number for number in range(joined, joined + period) if sent[number].key)
    shape = sent[first].crossing.tensor(LATENT).data.shape
    form = PictureFormat((shape[0], shape[1], shape[2]), 10, Differences(HEAD, period))
    decoder = codec.open_decoder(form, Tools())
    for one in sent[first:]:
        (decoded,) = decoder.push((one.bitstreams[LATENT],))
        samples = decoded.astype(np.int32) - 512
        components = {LATENT: receiver.push(Sent(samples[:HEAD], samples[HEAD:]), one.key)}
        for name, level in reducing.restore(components, weights).items():
            np.testing.assert_array_equal(level, one.frame.tensor(name).data)
