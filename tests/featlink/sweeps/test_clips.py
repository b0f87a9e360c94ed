"""Sweeps of clips: each condition stays open over a clip, engines agree, and what stops goes on with whole clips."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import tracemalloc
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from fake_engine import FakeEngine
from numbers_by_key import numbers
from rich.console import Console
from tiny_model import TINY

from featlink.channel.codecs.base import Tools
from featlink.channel.transmit import Stream
from featlink.client import Client
from featlink.cloud.finish import finish
from featlink.dataset import ground_truth, open_dataset
from featlink.edge.prepare import Request, prepare
from featlink.errors import CommandError
from featlink.shared.conditions.language import Condition, parse
from featlink.shared.evaluation import coco
from featlink.shared.models.config import ModelConfig
from featlink.shared.models.protocol import SplitModel
from featlink.shared.models.registry import build
from featlink.sweeps.engine import Frame, ItemError, ItemResult, WorkItem
from featlink.sweeps.http import HttpEngine
from featlink.sweeps.local import LocalEngine
from featlink.sweeps.plan import SweepOptions
from featlink.sweeps.run import run_sweep
from featlink.sweeps.stages import Stages

CONFIG = ModelConfig(model=TINY, threads=1)
TEXTS = (
    "identity",
    "image: identity",
    "gaussian_noise(sigma=9)",
    "quantize(bits=3) | entropy",
    "image: jpeg(quality=30)",
)
CONDITIONS = [parse(text) for text in TEXTS]
EVERY = tuple(range(len(CONDITIONS)))
FRAMES = 3
NAMES = ("hall", "yard", "road")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of three frames."""
    return write(tmp_path_factory.mktemp("clips"))


def write(folder: Path) -> Path:
    """Pictures of 64×48 that move to the left, with a box each."""
    truth: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": [{"id": 1}], "videos": []}
    box = {"bbox": [5, 5, 30, 25], "area": 750, "iscrowd": 0, "segmentation": [[5, 5, 35, 5, 35, 30, 5, 30]]}
    for video, name in enumerate(NAMES, 1):
        blocks = np.random.default_rng(video).integers(0, 256, (6, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        truth["videos"].append({"id": video, "name": name, "fps": 10})
        for number in range(FRAMES):
            image = {"id": len(truth["images"]) + 1, "width": 64, "height": 48, "file_name": f"{name}/{number}.png"}
            truth["images"].append({**image, "video_id": video, "frame_id": number})
            truth["annotations"].append({"id": image["id"], "image_id": image["id"], "category_id": 1, **box})
            (folder / name).mkdir(exist_ok=True)
            cv2.imwrite(str(folder / name / f"{number}.png"), blocks[:, 3 * number :][:, :64])
    (folder / "clips.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def work(folder: Path) -> list[WorkItem]:
    data = open_dataset(folder)
    clips = coco.clips(ground_truth(data)[0])
    return [WorkItem(tuple(Frame(id, data.images[id]) for id in clip.ids), EVERY, clip.name) for clip in clips]


@pytest.fixture(scope="module")
def model() -> SplitModel:
    return build(CONFIG)


@pytest.fixture(scope="module")
def stages(model: SplitModel) -> Stages:
    return Stages(model, CONDITIONS, True, Tools(threads=1))


def test_engines_give_what_streams_give(model: SplitModel, stages: Stages, work: list[WorkItem]) -> None:
    found = numbers(LocalEngine(stages, threads=1).run(work[:2]))
    assert len(found) == 2 * FRAMES * len(CONDITIONS)
    for threads, on_gpu in ((2, False), (3, True)):
        assert numbers(LocalEngine(stages, threads, on_gpu).run(work[:2])) == found
    for index, condition in enumerate(CONDITIONS):
        with Stream(condition) as stream:
            for number, frame in enumerate(work[1].frames):
                data = frame.read()
                assert isinstance(data, bytes)
                sent = prepare(model, Request(data, condition.domain, image_id=frame.image_id), max_pixels=10**7)
                [out] = stream.push(sent.frame, sent.telemetry)
                detections, telemetry = finish(
                    model, out.frame, out.telemetry, sent.frame if condition.domain == "image" else None
                )
                assert (detections, telemetry.bits, telemetry.fidelity) == found[frame.image_id, index]
                assert out.number == number
    still = numbers(LocalEngine(stages, 1).run([WorkItem.still(f.image_id, f.picture, EVERY) for f in work[1].frames]))  # type: ignore[arg-type]
    first, *others = [frame.image_id for frame in work[1].frames]
    assert all(found[first, run] == still[first, run] for run in EVERY)
    assert all(found[id, run][1] < still[id, run][1] for id in others for run in EVERY), "only what changes is sent"


@pytest.mark.slow
def test_the_same_over_http(stages: Stages, work: list[WorkItem], deploy: Callable[..., Any]) -> None:
    some = [dataclasses.replace(work[0], runs=(2, 4))]
    with deploy(**vars(CONFIG)) as services, Client(services.edge, services.edge) as client:
        over_http = numbers(HttpEngine(client, CONDITIONS, True).run(some))
        assert httpx.get(f"{services.channel}/v1/streams").json() == []
        held_back = [*CONDITIONS[:2], parse("image: vvenc(qp=32, gop=random_access)")]
        with pytest.raises(CommandError, match="--engine local or ray"):
            list(HttpEngine(client, held_back, True).run(some))
    assert over_http == numbers(LocalEngine(stages, 1).run(some))


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "on_gpu"), [(1, False), (2, False), (2, True)])
def test_a_clip_ends_with_a_frame_that_fails_and_others_go_on(
    stages: Stages, work: list[WorkItem], tmp_path: Path, threads: int, on_gpu: bool
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    first, second, third = work[0].frames
    broken = dataclasses.replace(work[0], frames=(first, Frame(second.image_id, tmp_path / "broken.png"), third))
    found = list(LocalEngine(stages, threads, on_gpu).run([broken, work[1]]))
    errors = {(one.image_id, run): one.why for one in found if isinstance(one, ItemError) for run in one.runs}
    assert errors.keys() == {(id, run) for id in (second.image_id, third.image_id) for run in EVERY}
    assert {why for (id, _), why in errors.items() if id == second.image_id} == {"not a JPEG, PNG, WEBP, BMP image"}
    assert all(f"image {second.image_id}" in why for (id, _), why in errors.items() if id == third.image_id)
    done = {one.result.image_id for one in found if isinstance(one, ItemResult)}
    assert done == {first.image_id, *(frame.image_id for frame in work[1].frames)}


def test_a_codec_that_fails_ends_its_own_row_of_the_clip(model: SplitModel, work: list[WorkItem]) -> None:
    conditions = [parse("image: hevc(qp=30)"), parse("quantize(bits=4)")]
    engine = LocalEngine(Stages(model, conditions, False, Tools(ffmpeg="/bin/false")), threads=2)
    found = list(engine.run([dataclasses.replace(work[0], runs=(0, 1))]))
    assert {one.run for one in found if isinstance(one, ItemResult)} == {1}
    errors = [one for one in found if isinstance(one, ItemError)]
    assert [(one.image_id, one.runs) for one in errors] == [(frame.image_id, (0,)) for frame in work[0].frames]


@pytest.mark.parametrize(("threads", "on_gpu"), [(1, False), (2, True)])
def test_pictures_that_come_late_are_detected_when_they_come(
    model: SplitModel, work: list[WorkItem], threads: int, on_gpu: bool
) -> None:
    conditions = [parse("image: vvenc(qp=32, gop=random_access) @ at=original"), parse("image: identity")]
    engine = LocalEngine(Stages(model, conditions, True, Tools(threads=1)), threads, on_gpu)
    item = dataclasses.replace(work[1], runs=(0, 1))
    found = list(engine.run([item]))
    assert {(one.run, one.result.image_id) for one in found if isinstance(one, ItemResult)} == {
        (run, frame.image_id) for run in (0, 1) for frame in item.frames
    }
    if threads == 1:
        late = [index for index, one in enumerate(found) if isinstance(one, ItemResult) and one.run == 0]
        assert late[0] > 0, "the coder holds the first one back"
    with Stream(conditions[0], fidelity=False) as stream:
        sent = []
        for frame in item.frames:
            data = frame.read()
            assert isinstance(data, bytes)
            prepared = prepare(model, Request(data, "image", image_id=frame.image_id), max_pixels=10**7)
            sent += stream.push(prepared.frame, prepared.telemetry)
        sent += stream.close()
    bits = {one.result.image_id: one.result.bits for one in found if isinstance(one, ItemResult) and one.run == 0}
    assert bits == {one.frame.meta.image_id: one.telemetry.bits for one in sent}
    said = {one.result.image_id: (one.result.key, one.result.held) for one in found if one.run == 0}  # type: ignore[union-attr]
    assert said == {one.frame.meta.image_id: (one.key, one.held) for one in sent}
    assert [key for key, _ in said.values()].count(True) == 1


class Watched(FakeEngine):
    """Notes what it is asked for, and may be interrupted."""

    def __init__(self, conditions: Sequence[Condition], stop_after: int | None, asked: list[WorkItem]) -> None:
        super().__init__(conditions)
        self._stop_after, self._asked = stop_after, asked

    def run(self, items: Iterable[WorkItem]) -> Generator[ItemResult | ItemError, None, None]:
        def noted() -> Iterator[WorkItem]:
            for item in items:
                self._asked.append(item)
                yield item

        for count, one in enumerate(super().run(noted())):
            if count == self._stop_after:
                raise KeyboardInterrupt
            yield one


def sweep(options: SweepOptions, stop_after: int | None = None) -> tuple[Any, list[WorkItem]]:
    asked: list[WorkItem] = []

    @contextlib.contextmanager
    def opened(_: SweepOptions, conditions: Sequence[Condition]) -> Iterator[Watched]:
        yield Watched(conditions, stop_after, asked)

    return run_sweep(options, Console(quiet=True), opened), asked


def rows(folder: Path) -> Any:
    made = json.loads((folder / "results.json").read_text())
    for row in made:
        for seed in row["seeds"]:
            del seed["run"]
    return made


def test_a_sweep_that_was_stopped_goes_on_with_whole_clips(folder: Path, tmp_path: Path) -> None:
    options = SweepOptions(folder, CONFIG, ("quantize:bits=4",), tmp_path / "stopped")
    runs = 3
    ended, asked = sweep(options, stop_after=runs * FRAMES + 4)
    assert (ended.why, ended.left) == ("interrupted", 2 * FRAMES - 1)
    assert [len(item.frames) for item in asked] == [FRAMES, FRAMES]
    ended, asked = sweep(options)
    assert (ended.why, ended.left) == ("complete", 0)
    assert [(item.clip, len(item.frames), item.runs) for item in asked] == [
        ("yard", FRAMES, (0, 1, 2)),
        ("road", FRAMES, (0, 1, 2)),
    ]
    sweep(dataclasses.replace(options, out=tmp_path / "whole"))
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")


def test_limit_and_shards_are_of_clips(folder: Path, tmp_path: Path) -> None:
    options = SweepOptions(folder, CONFIG, (), tmp_path / "out", limit=2)
    assert [item.clip for item in sweep(options)[1]] == ["hall", "yard"]
    options = dataclasses.replace(options, limit=None, shard=(1, 2), out=tmp_path / "shard")
    assert [item.clip for item in sweep(options)[1]] == ["yard"]


def test_a_clip_that_lacks_a_picture_is_left_out(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (write(copy) / "hall" / "1.png").unlink()
    ended, asked = sweep(SweepOptions(copy, CONFIG, (), tmp_path / "out", limit=2))
    assert [item.clip for item in asked] == ["yard"]
    assert [entry["image"] for entry in ended.failed] == [1, 2, 3]
    assert ended.failed[1]["why"] == "cannot be read: No such file or directory"
    assert "image 2" in ended.failed[0]["why"]
    assert ended.rows[0].images == FRAMES


def endless(folder: Path, count: int) -> WorkItem:
    """A clip of so many frames, of only five pictures."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(5)]
    for path in paths:
        cv2.imwrite(str(path), rng.integers(0, 256, (48, 64, 3), np.uint8))
    return WorkItem(tuple(Frame(id, paths[id % 5]) for id in range(count)), (2, 4), "long")


def held(engine: LocalEngine, clip: WorkItem, memory: Callable[[], int]) -> list[int]:
    """Memory after each frame."""
    found = []
    for number, one in enumerate(engine.run([clip])):
        assert isinstance(one, ItemResult)
        if number % len(clip.runs) == 0:
            found.append(memory())
    assert len(found) == len(clip.frames)
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_a_clip(stages: Stages, tmp_path: Path) -> None:
    engine = LocalEngine(stages, threads=1)
    list(engine.run([endless(tmp_path, 2)]))
    tracemalloc.start()
    try:
        traced = held(engine, endless(tmp_path, 24), lambda: tracemalloc.get_traced_memory()[gc.collect() * 0])
    finally:
        tracemalloc.stop()
    assert max(traced[12:]) < max(traced[:12]) + 64 * 96 * 3 * 4, "not even one picture more"


@pytest.mark.extended
def test_memory_does_not_grow_over_a_thousand_frames(stages: Stages, tmp_path: Path) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    clip = endless(tmp_path, 1000)
    resident = held(LocalEngine(stages, 1), clip, lambda: int(Path("/proc/self/statm").read_text().split()[1]) * page)
    assert max(resident[500:]) < max(resident[100:500]) + (8 << 20), "of pictures and features, 400 would be 60 MB"


@pytest.mark.extended
def test_the_same_on_ray_whose_worker_dies(work: list[WorkItem], stages: Stages) -> None:
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    from featlink.sweeps.cluster import Cluster, RayEngine

    with RayEngine(CONFIG, CONDITIONS, True, Cluster(workers=1)) as engine:
        found: dict[tuple[int, int], Any] = {}
        for count, one in enumerate(engine.run(work[:2])):
            assert isinstance(one, ItemResult), one
            assert (one.result.image_id, one.run) not in found
            found[one.result.image_id, one.run] = (one.result.detections, one.result.bits, one.result.fidelity)
            if count == len(EVERY) + 1:  # in the midst of the first clip
                ray.kill(engine.workers[0])
    assert found == numbers(LocalEngine(stages, 1).run(work[:2]))
