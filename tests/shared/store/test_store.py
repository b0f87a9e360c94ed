"""featlink.shared.store: exactly once, from many threads and processes, and through kill -9."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featlink import cloud
from featlink.shared.errors import ConflictError, DatasetError, NotFoundError, StorageError
from featlink.shared.evaluation import coco
from featlink.shared.evaluation.coco import GroundTruth
from featlink.shared.store import Dataset, Result, Run, Store, open_finished, sqlite_url

ROOT = Path(cloud.__file__).parents[1]
IMAGES = 100

WRITER = """
import random, sys
from featlink.shared.store import Result, Store

url, run_id, seed, order = sys.argv[1:]
store = Store(url)
image_ids = list(range(100))
if order == "shuffled":
    random.Random(int(seed)).shuffle(image_ids)
print("ready", flush=True)
sys.stdin.readline()
for image_id in image_ids:
    box = {"image_id": image_id, "category_id": 1, "bbox": [0.1, 0.2, 3.0, 4.0], "score": 0.5}
    result = Result(image_id, [box] * 500, bits=image_id, fidelity={}, timings={"writer": float(seed)})
    stored, added = store.add_result(run_id, result)
    print(image_id, int(added), int(stored.timings["writer"]), flush=True)
"""


def ground_truth(images: int = IMAGES) -> GroundTruth:
    sizes = [{"id": number, "width": 8, "height": 8} for number in range(images)]
    return coco.parse({"images": sizes, "categories": [{"id": 1}], "annotations": []})


def result(image_id: int, **changes: Any) -> Result:
    box: coco.Detection = {"image_id": image_id, "category_id": 1, "bbox": [0.1, 1.5, 2, 3], "score": 0.25}
    fields: dict[str, Any] = {"detections": [box], "bits": 1000, "fidelity": {"psnr": 40.0}, "timings": {"edge": 5.0}}
    return Result(image_id, **(fields | changes))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def run(store: Store) -> Run:
    store.put_dataset("val", ground_truth())
    return new_run(store)


def new_run(store: Store, name: str = "") -> Run:
    return store.create_run("val", condition="feature: identity", domain="feature", model="m", weights="w", name=name)


def writer(url: str, run_id: str, seed: int, order: str) -> subprocess.Popen[str]:
    """A process that waits for a line, then adds a result an image and prints each when it is committed."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, url, run_id, str(seed), order],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_data_set_comes_back(store: Store) -> None:
    truth = ground_truth(3)
    dataset = store.put_dataset("val-1.0_x", truth)
    assert (dataset.name, dataset.images, dataset.digest) == ("val-1.0_x", 3, coco.digest(coco.dump(truth)))
    assert store.dataset("val-1.0_x") == dataset
    assert store.datasets() == [dataset]
    assert store.ground_truth("val-1.0_x") == truth


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 65, "a\n"])
def test_a_data_set_has_a_plain_name(store: Store, name: str) -> None:
    with pytest.raises(DatasetError, match="is not 1 to 64 of"):
        store.put_dataset(name, ground_truth())


def test_a_data_set_is_replaced_only_while_no_run_uses_it(store: Store) -> None:
    store.put_dataset("val", ground_truth(5))
    first = store.put_dataset("val", ground_truth(2))
    assert store.ground_truth("val") == ground_truth(2)
    run = new_run(store)
    assert run.total == 2
    with pytest.raises(NotFoundError, match="no image 4"):
        store.add_result(run.id, result(4))
    assert store.put_dataset("val", ground_truth(2)) == first
    with pytest.raises(ConflictError, match="'val'"):
        store.put_dataset("val", ground_truth(5))
    store.delete_run(run.id)
    assert store.put_dataset("val", ground_truth(5)).images == 5


def test_a_data_set_is_deleted_only_while_no_run_uses_it(store: Store, run: Run) -> None:
    with pytest.raises(ConflictError, match="delete them first"):
        store.delete_dataset(run.dataset)
    truth = store.ground_truth(run.dataset)
    store.delete_run(run.id)
    store.delete_dataset(run.dataset)
    with pytest.raises(NotFoundError):
        store.dataset(run.dataset)
    with pytest.raises(NotFoundError):
        store.delete_dataset(run.dataset)
    assert store.put_dataset(run.dataset, truth).images == len(truth.images)


def test_the_ground_truth_comes_in_pieces_that_its_digest_is_of(store: Store) -> None:
    image = {"id": 1, "width": 8, "height": 8}
    categories = [{"id": number} for number in range(40_000)]
    stored = store.put_dataset("long", coco.parse({"images": [image], "categories": categories, "annotations": []}))
    pieces = list(store.ground_truth_json("long"))
    assert len(pieces) > 1
    assert coco.digest(b"".join(pieces)) == stored.digest
    assert coco.load(b"".join(pieces)) == store.ground_truth("long")


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_file_that_is_gone_is_noticed(store: Store, run: Run, tmp_path: Path, replaced: bool) -> None:
    store.check()
    store.add_result(run.id, result(3))
    [path] = tmp_path.glob("*.db")
    path.rename(tmp_path / "moved")
    if replaced:
        path.touch()
    for use in (store.check, store.datasets, lambda: store.add_result(run.id, result(77))):
        with pytest.raises(StorageError, match="was deleted or replaced"):
            use()
    path.unlink(missing_ok=True)
    (tmp_path / "moved").rename(path)
    assert store.add_result(run.id, result(77))[1]


def test_readers_that_stall_keep_no_connection(store: Store, run: Run) -> None:
    store.add_result(run.id, result(3))
    stalled = [reader for _ in range(40) for reader in (store.results(run.id), store.detections(run.id))]
    for reader in stalled:
        next(reader)
    assert store.run(run.id).done == 1


def test_what_is_unknown(store: Store, run: Run) -> None:
    for call in (
        lambda: store.dataset("other"),
        lambda: store.ground_truth("other"),
        lambda: store.create_run("other", condition="", domain="image", model="m", weights="w"),
        lambda: store.run("0" * 32),
        lambda: store.delete_run("0" * 32),
        lambda: store.results("0" * 32),
        lambda: store.result(run.id, 3),
        lambda: store.find_result("0" * 32, 3),
        lambda: store.find_result(run.id, IMAGES),
        lambda: store.image_size("other", 3),
        lambda: store.image_size("val", IMAGES),
        lambda: store.add_result("0" * 32, result(3)),
        lambda: store.add_result(run.id, result(IMAGES)),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_runs_are_listed_newest_first_with_their_progress(store: Store, run: Run) -> None:
    runs = [run, *(new_run(store, name) for name in "abc")]
    store.add_result(runs[1].id, result(0))
    store.add_result(runs[1].id, result(7))
    assert (run.dataset, run.condition, run.domain, run.model, run.weights) == (
        "val", "feature: identity", "feature", "m", "w",
    )  # fmt: skip
    assert [listed.id for listed in store.runs()] == [made.id for made in reversed(runs)]
    assert [listed.name for listed in store.runs(limit=2, offset=1)] == ["b", "a"]
    assert [(listed.done, listed.total) for listed in store.runs()] == [
        (0, IMAGES),
        (0, IMAGES),
        (2, IMAGES),
        (0, IMAGES),
    ]
    assert store.run(runs[1].id) == store.runs()[2]


def test_deleting_a_run_deletes_its_results_alone(store: Store, run: Run) -> None:
    other = new_run(store)
    for one in (run, other):
        store.add_result(one.id, result(1))
    store.delete_run(run.id)
    assert [listed.id for listed in store.runs()] == [other.id]
    assert store.result(other.id, 1).bits == 1000
    with pytest.raises(NotFoundError):
        store.result(run.id, 1)


def test_a_retry_changes_nothing_and_gets_what_is_stored(store: Store, run: Run) -> None:
    first, added = store.add_result(run.id, result(9))
    assert added
    assert store.add_result(run.id, result(9, bits=5, detections=[])) == (first, False)
    assert store.result(run.id, 9) == first
    assert store.find_result(run.id, 9) == first
    assert store.find_result(run.id, 8) is None
    assert list(store.results(run.id)) == [first]


def test_several_results_are_stored_all_or_none(store: Store, run: Run) -> None:
    store.add_results(run.id, [result(3, bits=7), result(1)])
    assert [(one.image_id, one.bits) for one in store.results(run.id)] == [(1, 1000), (3, 7)]
    with pytest.raises(ConflictError):
        store.add_results(run.id, [result(2), result(3)])
    with pytest.raises(NotFoundError, match=f"no image {IMAGES}"):
        store.add_results(run.id, [result(2), result(IMAGES)])
    assert store.done(run.id) == {1, 3}


def test_results_come_by_image_id(store: Store, run: Run) -> None:
    for image_id in (90, 3, 77):
        store.add_result(run.id, result(image_id))
    assert [one.image_id for one in store.results(run.id)] == [3, 77, 90]


number = st.floats(allow_nan=False, allow_infinity=False)


@given(score=st.floats(width=32, min_value=0, max_value=1), box=st.lists(number, min_size=4, max_size=4), psnr=number)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_come_back_exactly(store: Store, score: float, box: list[float], psnr: float) -> None:
    store.put_dataset("val", ground_truth())
    run = new_run(store)
    detection: coco.Detection = {"image_id": 2, "category_id": 1, "bbox": box, "score": score}
    given = result(2, detections=[detection], fidelity={"psnr": psnr, "ssim": None}, bits=2**40)
    stored, _ = store.add_result(run.id, given)
    read = store.result(run.id, 2)
    assert read == stored
    assert repr(read.detections) == repr(given.detections)  # repr tells -0.0 from 0.0
    assert np.float32(read.detections[0]["score"]) == np.float32(score)
    assert (repr(read.fidelity), read.bits) == (repr(given.fidelity), 2**40)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(store: Store, run: Run, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add_result(run.id, result(1, fidelity={"psnr": value}))
    assert store.run(run.id).done == 0


@pytest.mark.slow
def test_threads_store_each_image_once(store: Store, run: Run) -> None:
    def add(seed: int) -> int:
        order = random.Random(seed).sample(range(60), 60)
        answers = [store.add_result(run.id, result(image_id, bits=seed)) for image_id in order]
        assert all(store.result(run.id, stored.image_id) == stored for stored, _ in answers)
        return sum(added for _, added in answers)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 60
    assert store.run(run.id).done == 60


def test_a_writer_waits_for_another(store: Store, run: Run, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE runs SET name = 'changed'")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.put_dataset, "other", ground_truth(1))  # reads, then writes
        time.sleep(0.2)
        other.execute("COMMIT")
        assert waiting.result().images == 1
    other.close()
    assert store.run(run.id).name == "changed"


@pytest.mark.slow
def test_processes_store_each_image_once(store: Store, run: Run, url: str) -> None:
    processes = [writer(url, run.id, seed, "shuffled") for seed in (1, 2)]
    for process in processes:
        assert process.stdin is not None
        print(file=process.stdin, flush=True)
    answers = []
    for process in processes:
        lines, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        answers += [tuple(map(int, line.split())) for line in lines.splitlines()]
    winners = {one.image_id: int(one.timings["writer"]) for one in store.results(run.id)}
    assert sorted(winners) == list(range(IMAGES))
    assert len(answers) == 2 * IMAGES
    assert sum(added for _, added, _ in answers) == IMAGES
    assert all(winners[image_id] == winner for image_id, _, winner in answers)


@pytest.mark.slow
def test_processes_may_open_a_new_database_at_once(url: str) -> None:
    code = """
import sys
import tempfile
from featlink.shared.store import Store
print("ready", flush=True)
sys.stdin.readline()
print(len(Store(sys.argv[1]).datasets()))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        print(file=process.stdin, flush=True)
    assert [process.communicate(timeout=60)[0] for process in processes] == ["0\n"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_kill_9_loses_nothing_acknowledged(store: Store, run: Run, url: str, attempt: int) -> None:
    process = writer(url, run.id, attempt, "ascending")
    assert process.stdin is not None
    print(file=process.stdin, flush=True)
    time.sleep(random.uniform(0.02, 0.4))
    process.kill()
    lines, _ = process.communicate()
    acknowledged = [int(line.split()[0]) for line in lines.splitlines(keepends=True) if line.endswith("\n")]
    store.close()

    reopened = Store(url)
    found = {one.image_id: one for one in reopened.results(run.id)}
    assert acknowledged == list(range(len(acknowledged)))
    assert found.keys() >= set(acknowledged)
    assert len(found) <= len(acknowledged) + 1
    for image_id, one in found.items():
        assert (one.bits, one.timings) == (image_id, {"writer": attempt})
        assert len(one.detections) == 500
        assert all(box["image_id"] == image_id for box in one.detections)
    _, added = reopened.add_result(run.id, result(IMAGES - 1))
    assert added or len(found) == IMAGES
    reopened.close()


def test_every_commit_is_synced_to_a_write_ahead_log(tmp_path: Path) -> None:
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def watched(*args: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **options | {"check_same_thread": False}))
        return opened[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sqlite3.dbapi2.connect", watched)
        patch.setattr("sqlite3.connect", watched)
        store = Store(sqlite_url(tmp_path / "runs.sqlite"))
    with contextlib.closing(store):
        store.datasets()
        assert opened
        pragmas = {
            name: opened[0].execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30000}


def test_a_data_set_put_by_many_at_once_is_stored_once(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        stored: list[Dataset] = list(pool.map(lambda _: store.put_dataset("val", ground_truth()), range(8)))
    assert len({dataset.digest for dataset in stored}) == 1
    assert len({dataset.created for dataset in stored}) == 1


def test_a_database_of_an_earlier_version_gets_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "runs.sqlite"
    with contextlib.closing(Store(sqlite_url(file))):
        pass
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.execute("ALTER TABLE runs DROP COLUMN token")
        for column in ("is_key", "held"):
            old.execute(f"ALTER TABLE results DROP COLUMN {column}")
        old.execute("INSERT INTO datasets VALUES ('d', 'x', x'00', 1, '')")
        old.execute("INSERT INTO runs VALUES ('r', 'd', 'identity', 'feature', 'm', 'w', '', '')")
        old.execute("INSERT INTO results VALUES ('r', 1, ?, 8, NULL, '{}', '{}', '')", [zlib.compress(b"[]")])
        old.commit()
    for _ in range(2):
        with contextlib.closing(Store(sqlite_url(file))) as store:
            assert store.run("r").model == "m"
            assert store.token_digest("r") is None
            [result] = store.results("r")
            assert (result.bits, result.key, result.held) == (8, None, None)


def test_a_finished_sweep_is_read_where_nothing_can_be_written(store: Store, run: Run, tmp_path: Path) -> None:
    store.add_result(run.id, result(7))
    store.close()
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to the other user
        place = Path(name, "50% #1")
        shutil.copytree(tmp_path, place)
        Path(name).chmod(0o755)
        place.chmod(0o555)
        root = os.geteuid() == 0  # who may write anywhere
        try:
            if root:
                os.seteuid(65534)
            with contextlib.closing(open_finished(place / "runs.db")) as reader:
                assert reader.result(run.id, 7).bits == 1000
        finally:
            if root:
                os.seteuid(0)
        assert [path.name for path in place.iterdir()] == ["runs.db"]
        place.chmod(0o755)
    with pytest.raises(StorageError, match="there is no"):
        open_finished(tmp_path / "none.db")
