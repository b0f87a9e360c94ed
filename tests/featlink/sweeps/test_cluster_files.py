"""Files reach a worker by their digests: used where they lie, else fetched once and kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featlink.shared.errors import ModelError
from featlink.shared.models.checkpoints import identity
from featlink.shared.models.config import ModelConfig
from featlink.sweeps.cluster import Cluster, Need, Node, Parcel, RayEngine, pack, room, share, unpack, unpack_model

WEIGHTS = b"weights " * 1000


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parcel:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FEATLINK_FITTED", str(tmp_path / "fitted"))
    (tmp_path / "w.pth").write_bytes(WEIGHTS)
    identity = hashlib.sha256(WEIGHTS).hexdigest()[:16]
    (tmp_path / "fitted").mkdir()
    (tmp_path / "fitted" / f"pca-{identity}.safetensors").write_bytes(b"basis")
    (tmp_path / "fitted" / f"pca-{'0' * 16}.safetensors").write_bytes(b"of other weights")
    return pack(tmp_path / "w.pth", lambda content: content)


def never(_: Any) -> Any:
    raise AssertionError("fetched again")


def test_weights_that_lie_there_are_used_and_what_is_fitted_to_them_is_kept(sent: Parcel, tmp_path: Path) -> None:
    assert unpack(sent, lambda content: content) == str(tmp_path / "w.pth")
    [fitted] = Path(os.environ["FEATLINK_FITTED"]).glob("*.safetensors")
    assert fitted.read_bytes() == b"basis"
    assert fitted.is_relative_to(tmp_path / "cache")
    unpack(sent, never)


def test_other_weights_under_the_same_path_are_not_used(sent: Parcel, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"others")
    path = unpack(sent, lambda content: content)
    assert path is not None
    assert Path(path).read_bytes() == WEIGHTS
    assert unpack(sent, never) == path
    Path(path).write_bytes(b"damaged meanwhile")
    assert unpack(sent, lambda content: content) == path
    assert Path(path).read_bytes() == WEIGHTS


def test_what_arrives_damaged_is_refused(sent: Parcel, tmp_path: Path) -> None:
    (tmp_path / "w.pth").unlink()
    with pytest.raises(ModelError, match="arrived damaged"):
        unpack(sent, lambda content: content[:-1] if len(content) == len(WEIGHTS) else content)
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_a_sender_without_fitted_files_means_none(sent: Parcel) -> None:
    unpack(sent._replace(weights=None, fitted=()), never)
    assert not Path(os.environ["FEATLINK_FITTED"]).exists()


def test_the_bundled_weights_are_not_sent(sent: Parcel) -> None:
    assert pack(None, never) == Parcel(None, ())
    assert sent.weights is not None
    assert np.array_equal(sent.weights.content, np.frombuffer(WEIGHTS, np.uint8))


def test_what_lies_beside_weights_goes_with_them(sent: Parcel, tmp_path: Path) -> None:
    beside = tmp_path / "w.pth.json"
    beside.write_text('{"min_size": 64}')
    name = identity(hashlib.sha256(WEIGHTS).hexdigest(), beside.read_bytes())
    (tmp_path / "fitted" / f"pca-{name}.safetensors").write_bytes(b"its basis")
    more = pack(tmp_path / "w.pth", lambda content: content)
    assert unpack(sent, lambda content: content) != str(tmp_path / "w.pth"), "that sender has nothing beside them"
    assert unpack(more, lambda content: content) == str(tmp_path / "w.pth")
    [fitted] = Path(os.environ["FEATLINK_FITTED"]).glob("*.safetensors")
    assert fitted.read_bytes() == b"its basis"
    beside.write_text('{"min_size": 96}')
    path = unpack(more, lambda content: content)
    assert path is not None
    assert Path(path).read_bytes() == WEIGHTS
    assert Path(f"{path}.json").read_text() == '{"min_size": 64}'
    assert unpack(more, never) == path


def test_a_model_of_ones_own_goes_along_as_one_file(sent: Parcel, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def build(config, heads=True): ...")
    own = pack(None, lambda content: content, f"{mine}:build")
    known = unpack_model(own, f"{mine}:build", lambda content: content)
    assert known != f"{mine}:build"
    assert Path(known.removesuffix(":build")).read_bytes() == mine.read_bytes()
    assert unpack_model(own, f"{mine}:build", never) == known
    mine.write_text("def build(config, heads=True): return 1")
    assert unpack_model(pack(None, lambda content: content, f"{mine}:build"), f"{mine}:build", np.asarray) != known
    assert unpack_model(sent, "fasterrcnn_resnet50_fpn", never) == "fasterrcnn_resnet50_fpn"
    with pytest.raises(ModelError, match=r"no model at nowhere\.py"):
        RayEngine(ModelConfig(model="nowhere.py:build"), [], False, Cluster(1, "127.0.0.1:1"))


@pytest.mark.parametrize(
    ("need", "expected"),
    [
        (Need(1), 10),
        (Need(4), 2),
        (Need(9), 0),
        (Need(1, gpus=1), 2),
        (Need(1, gpus=0.1), 8),
        (Need(2, gpus=0.5), 4),
        (Need(1, gpus=1 / 3), 6),
        (Need(1, memory=3 << 30), 6),
    ],
)
def test_room_is_what_every_node_has_of_everything(need: Need, expected: int) -> None:
    nodes = [Node(8, gpus=2, memory=16 << 30), Node(2, memory=4 << 30), Node(0, memory=64 << 30)]
    assert room(nodes, need) == expected


def test_threads_are_shared_out_so_that_all_workers_have_room() -> None:
    nodes = [Node(16), Node(4)]
    for workers in range(1, 25):
        threads = share(nodes, Cluster(workers), 0, on_gpus=False).threads
        assert room(nodes, Need(threads)) >= min(workers, 20)
        assert threads == 16 or room(nodes, Need(threads + 1)) < workers or workers > 20
