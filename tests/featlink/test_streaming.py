"""Live streams: what a camera keeps, how frames are sent, what becomes of a stream whose services or source go away."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from deployment import Deployment
from msgspec.structs import replace
from requests_by_hand import picture
from tiny_model import TINY
from typer.testing import CliRunner

from featlink.channel.link import Link
from featlink.cli import app
from featlink.client import Client
from featlink.errors import CommandError, RefusalError
from featlink.launcher import Stack, free_ports, service_settings
from featlink.report.live import accuracy_table
from featlink.shared.models.config import ModelConfig
from featlink.stream_records import FrameRecord, load_stream
from featlink.streaming import Answer, Camera, Pipeline, Shot

PICTURES = [picture(64, 48, seed=seed) for seed in range(4)]


@pytest.fixture
def client(services: Deployment) -> Iterator[Client]:
    with Client(services.edge, services.cloud, patient=False) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, data in enumerate(PICTURES):
        (pictures / f"{number}.png").write_bytes(data)
    return pictures


def taken(camera: Camera) -> list[int]:
    return [shot.index for shot in iter(camera.next, None)]


def source(count: int, fail: bool = False) -> Iterator[tuple[bytes, int | None]]:
    yield from ((b"picture", number) for number in range(count))
    if fail:
        raise CommandError("the camera is gone")


def test_a_camera_keeps_the_newest_or_every_picture() -> None:
    for policy, most, kept, dropped in (
        ("newest", 256, [9], 9),
        ("every", 256, [*range(10)], 0),
        ("every", 4, [*range(4)], 6),
    ):
        with Camera(source(10), policy, most) as camera:  # type: ignore[arg-type]
            camera.join()
            assert taken(camera) == kept
            assert (camera.taken, camera.dropped) == (10, dropped)


def test_what_waits_is_bounded_in_bytes() -> None:
    with Camera(((bytes(1000), None) for _ in range(10)), "every", most_bytes=3500) as camera:
        camera.join()
        assert (len(camera), camera.taken, camera.dropped) == (4, 10, 6)


def test_a_camera_that_goes_says_why_after_its_last_picture() -> None:
    with Camera(source(3, fail=True), "every") as camera:
        assert taken(camera) == [0, 1, 2]
        assert str(camera.error) == "the camera is gone"


def test_a_camera_that_is_stopped_wakes_who_waits() -> None:
    ticks = (time.sleep(0.01) or (b"", None) for _ in itertools.count())
    with Camera(ticks, "newest") as camera:
        assert camera.next() is not None
        threading.Timer(0.1, camera.stop).start()
        while camera.next() is not None:
            assert camera.taken < 10_000


def through(client: Client, count: int, under_way: int, **params: str | bool | None) -> list[Answer]:
    with Pipeline(client, {"fidelity": False, **params}, under_way) as pipeline:

        def send() -> None:
            for number in range(count):
                pipeline.send(Shot(PICTURES[number % 4], number, time.monotonic(), number))
            pipeline.finish()

        sender = threading.Thread(target=send)
        sender.start()
        answers = list(pipeline.answers())
        sender.join()
    return answers


@pytest.mark.slow
def test_answers_are_those_of_one_frame_after_the_other(client: Client) -> None:
    condition = "quantize(bits=4)"
    answers = through(client, 12, 4, condition=condition)
    assert [answer.number for answer in answers] == list(range(12))
    with client.stream(condition=condition, fidelity=False) as stream:
        for answer in answers:
            alone = stream.push(answer.shot.picture, image_id=answer.number)
            assert answer.result is not None
            assert (answer.result.bits, answer.result.detections) == (alone.bits, alone.detections)
            assert answer.result.stream is not None
            assert answer.result.stream.restarted is None


def test_frames_are_under_way_together(client: Client) -> None:
    """A link whose round trip is longer than all else: three frames at a time take a third of the time."""
    link = Link(rtt_ms=600, wait=True).model_dump_json()
    begun = time.monotonic()
    answers = through(client, 9, 3, condition="quantize(bits=4)", link=link)
    assert time.monotonic() - begun < 9 * 0.3
    assert all(answer.result is not None and answer.result.timings["transfer"] > 299 for answer in answers)


def test_a_stream_whose_first_frame_is_refused_ends(client: Client) -> None:
    with pytest.raises(RefusalError, match="nonsense"):
        through(client, 3, 2, condition="nonsense")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["stream", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_command_writes_what_the_report_reads(services: Deployment, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = run(folder, "--edge", services.edge, "--fps", 20, "--repeat", "--frames", 10, "--camera", "every",
                     "--condition", "quantize(bits=4)", "--out", out)  # fmt: skip
    assert code == 0, said
    assert "ended: the source ended" in said
    about, frames = load_stream(out)
    assert (about.taken, about.dropped, about.ended) == (10, 0, "the source ended")
    assert [one.frame for one in frames] == list(range(10))
    assert all(one.bits and 0 < one.latency_ms < 60_000 for one in frames)
    done = CliRunner().invoke(app, ["report", str(out)])
    assert done.exit_code == 0, done.output
    page = (out / "report.html").read_text()
    assert "Latency by frame" in page
    assert "Bits by frame" in page


def test_a_film_is_a_source(services: Deployment, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        track = container.add_stream("libx264", 20)
        track.width, track.height = 64, 48
        for value in range(3):
            black = np.full((48, 64, 3), 80 * value, np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
        container.mux(track.encode(None))
    film = str(tmp_path / "film.mp4")
    for options in ([], ["--fps", "30", "--repeat", "--frames", "5"]):
        result = CliRunner().invoke(app, ["stream", film, "--camera", "every", "--edge", services.edge, *options])
        assert result.exit_code == 0, result.output
        assert f"answered {5 if options else 3}" in " ".join(result.output.split())


def test_a_clip_is_judged_by_its_annotations(services: Deployment, tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val").mkdir()
    box = {"category_id": 1, "bbox": [5, 5, 30, 25], "area": 750, "iscrowd": 0}
    corners = {"segmentation": [[5, 5, 35, 5, 35, 30, 5, 30]]}
    for number, data in enumerate(PICTURES):
        (folder / "val" / f"{number}.png").write_bytes(data)
    truth = {
        "videos": [{"id": 3, "name": "street", "fps": 20}],
        "images": [
            {"id": n + 1, "width": 64, "height": 48, "file_name": f"{n}.png", "video_id": 3, "frame_id": n}
            for n in range(4)
        ],
        "annotations": [{"id": n + 1, "image_id": n + 1, **box, **corners} for n in range(4)],
        "categories": [{"id": 1, "name": "person"}],
    }
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(truth))
    code, said = run(folder, "--clip", "street", "--camera", "every", "--edge", services.edge, "--out", out)
    assert code == 0, said
    assert "4 of the first 4 pictures of clip street were answered" in said
    about, frames = load_stream(out)
    assert (about.clip, [one.image_id for one in frames]) == ("street", [1, 2, 3, 4])
    late = [replace(one, answered_s=one.taken_s + 60) for one in frames]
    never, always = (accuracy_table(about, given) for given in (late, frames))
    assert never is not None
    assert always is not None
    assert never.rows[0] == always.rows[0]  # of what was answered, however late
    assert {row[1] for row in never.rows if "after" in row[0]} == {"0.0"}
    refused, told = run(folder, "--clip", "road", "--edge", services.edge)
    assert refused == 1
    assert "ended" not in told


@pytest.mark.slow
def test_ctrl_c_ends_with_the_summary(services: Deployment, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    threading.Timer(2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    code, said = run(folder, "--edge", services.edge, "--fps", 20, "--repeat", "--out", out)
    assert code == 0, said
    assert "ended: interrupted" in said
    about, frames = load_stream(out)
    assert about.ended == "interrupted"
    assert about.taken >= len(frames) > 0


@pytest.mark.parametrize("source", ["nowhere", "nowhere.mp4", "starter"])
def test_a_source_that_is_not_there_is_one_line(services: Deployment, source: str) -> None:
    code, said = run(source, "--edge", services.edge, "--clip", "7")
    assert code == 1
    assert "ended" not in said


@pytest.mark.extended
def test_a_channel_that_is_killed_twice_loses_and_doubles_no_frame(tmp_path: Path) -> None:
    ports = free_ports()
    settings = service_settings(ModelConfig(model=TINY), tmp_path / "runs.sqlite")
    answers: list[Answer] = []
    with Stack(ports, settings, lambda *_: None) as stack:
        stack.wait_ready()
        ticks = ((time.sleep(0.1) or PICTURES[n % 4], n) for n in range(120))
        with (
            Client(ports.edge_url, ports.cloud_url, patient=False) as client,
            Camera(ticks, "every") as camera,
            Pipeline(client, {"condition": "quantize(bits=4)"}, 4) as pipeline,
        ):
            pipeline.feed(camera)
            for answer in pipeline.answers():
                answers.append(answer)
                if answer.number in (30, 70):
                    os.kill(stack.pids()["channel"], signal.SIGKILL)
    assert [answer.shot.index for answer in answers] == list(range(120))
    places = [
        answer.result.stream for answer in answers if answer.result is not None and answer.result.stream is not None
    ]
    assert [place.frame for place in places] == list(range(120))
    anew = [place for place in places if place.restarted is not None]
    assert [place.restarted for place in anew] == ["unknown", "unknown"]
    assert all(place.key for place in anew)


def test_a_line_that_was_being_written_is_left_out(services: Deployment, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, "--edge", services.edge, "--fps", 50, "--camera", "every", "--out", out)
    frames = out / "frames.jsonl"
    frames.write_bytes(frames.read_bytes()[:-5])
    assert [one.frame for one in load_stream(out)[1]] == [0, 1, 2]
    frames.write_bytes(b"{}\n")
    with pytest.raises(CommandError, match="not a stream"):
        load_stream(out)


def test_latency_is_from_the_camera() -> None:
    assert FrameRecord(0, 0, taken_s=1.0, sent_s=1.5, answered_s=2.0).latency_ms == 1000
