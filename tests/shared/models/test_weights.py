"""Weights from files: read where they hold tensors and nothing else, refused in one line otherwise."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model_weights

from featlink.shared.errors import ModelError
from featlink.shared.models.checkpoints import load_checkpoint, path_hash
from featlink.shared.models.config import MODELS, ModelConfig
from featlink.shared.models.torchvision_rcnn import build

MODEL = "fasterrcnn_resnet50_fpn"
CLASSIFIER = "roi_heads.box_predictor.cls_score.weight"
STATE = {
    "layer.weight": torch.arange(12.0).reshape(3, 4),
    "layer.bias": torch.tensor([0.5, -1], dtype=torch.float16),
    "layer.num_batches_tracked": torch.tensor(7),
}


def saved(path: Path, content: object, **options: Any) -> str:
    torch.save(content, path, **options)
    return str(path)


def refusal(weights: str) -> str:
    """The one line with which weights are refused."""
    with pytest.raises(ModelError) as caught:
        load_checkpoint(weights, MODEL)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert "weights_only" not in message, "torch's own text advises to run the code"
    return message


def matches(state: dict[str, torch.Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name].to(state[name])) for name in STATE)


# --- what is read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [STATE, {"model": STATE, "epoch": 3}], ids=["state dict", "checkpoint"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pth_file_is_read(tmp_path: Path, content: dict[str, Any], zipped: bool) -> None:
    path = saved(tmp_path / "w.pth", content, _use_new_zipfile_serialization=zipped)
    checkpoint = load_checkpoint(path, MODEL)
    assert matches(checkpoint.state)
    assert checkpoint.state["layer.bias"].dtype == torch.float32
    assert checkpoint.state["layer.num_batches_tracked"].dtype == torch.int64
    assert checkpoint.metadata == {}
    assert not checkpoint.official


def test_a_safetensors_file_is_read_with_what_it_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(STATE, path, metadata={"min_size": "320"})
    checkpoint = load_checkpoint(str(path), MODEL)
    assert matches(checkpoint.state)
    assert checkpoint.metadata == {"min_size": "320"}


def test_the_identity_is_the_files_hash(tmp_path: Path) -> None:
    first, second = (saved(tmp_path / name, STATE) for name in ("a.pth", "b.pth"))
    other = saved(tmp_path / "c.pth", {**STATE, "layer.bias": torch.zeros(2)})
    identities = [load_checkpoint(path, MODEL).identity for path in (first, second, other)]
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (first, second, other)]
    assert identities == [digest[:16] for digest in digests]
    assert identities[0] != identities[2]


def test_a_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "w.pth", STATE)
    assert matches(load_checkpoint("~/w.pth", MODEL).state)
    assert refusal("~nobody-of-this-name/w.pth") == "no weights at ~nobody-of-this-name/w.pth"


# --- what is refused --------------------------------------------------------------------------------------------


class Code:
    """Unpickled, it would leave a file behind."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.victim),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "ran"
    hostile = {**STATE, "code": Code(victim)}
    zipped = saved(tmp_path / "zip.pth", hostile, pickle_protocol=protocol)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(hostile, protocol))
    disguised = tmp_path / "disguised.safetensors"
    disguised.write_bytes(plain.read_bytes())
    for path in (str(plain), str(disguised)):
        assert refusal(path) == f"cannot read weights {path}: damaged, or more than tensors in it"
    assert "more than tensors" in refusal(zipped)
    assert not victim.exists()
    pickle.loads(plain.read_bytes())
    assert victim.exists(), "the pickle is a live one"


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"a": 1}, {"model": [1]}, {1: torch.zeros(2)}], ids=repr)
def test_other_content_is_refused(tmp_path: Path, content: object) -> None:
    path = saved(tmp_path / "w.pth", content)
    assert refusal(path) == f"{path} does not hold a state dict of tensors"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, suffix: str) -> None:
    assert refusal(str(tmp_path)) == f"no weights at {tmp_path}"
    missing = tmp_path / f"missing{suffix}"
    assert refusal(str(missing)) == f"no weights at {missing}"
    for content in (b"", b"a text\nof two lines", b"\0" * 1000):
        path = tmp_path / f"w{suffix}"
        path.write_bytes(content)
        assert refusal(str(path)) == f"cannot read weights {path}: damaged, or more than tensors in it"


def test_a_file_that_cannot_be_read_is_refused() -> None:
    """A process's memory is a file whose first byte cannot be read, whoever asks."""
    if not Path("/proc/self/mem").is_file():
        pytest.skip("no /proc")
    assert refusal("/proc/self/mem") == "cannot read weights /proc/self/mem: Input/output error"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_refused_or_read(tmp_path: Path, kind: str) -> None:
    """Whatever a damaged file makes the readers raise, one line comes out."""
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        saved(path, STATE, _use_new_zipfile_serialization=kind == "zip")
    original = path.read_bytes()
    rng = random.Random(2)
    refused = 0
    for trial in range(120):
        damaged = bytearray(original)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randrange(len(damaged))] if trial % 3 == 0 else damaged)
        try:
            load_checkpoint(str(path), MODEL)
        except ModelError as error:
            refused += len(str(error).splitlines()) == 1
    assert refused > 40


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelError, match="unknown model 'resnet50'; known are maskrcnn_resnet50_fpn, "):
        load_checkpoint("coco", "resnet50")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"layer.weight": torch.zeros(2)}, "not those of a torchvision R-CNN: no roi_heads.box_predictor"),
        ({CLASSIFIER: torch.zeros(())}, "not those of a torchvision R-CNN"),
        ({CLASSIFIER: torch.zeros(91, 1024)}, f"do not fit {MODEL}: no backbone.body.conv1.weight"),
        ({CLASSIFIER: torch.zeros(91, 7)}, f"do not fit {MODEL}: {CLASSIFIER} has shape [91, 7]"),
    ],
    ids=["another network", "no classifier", "keys", "shapes"],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, state: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        build(ModelConfig(model=MODEL, weights=saved(tmp_path / "w.pth", state), profile="exact"))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# --- official weights -------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder of checkpoints, empty, and a network that leads nowhere."""
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "_opener", None)  # it would remember the proxies of before
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("model", MODELS)
def test_offline_the_official_file_is_named_with_its_place(checkpoints: Path, model: str) -> None:
    url = get_model_weights(model)["COCO_V1"].url
    with pytest.raises(ModelError) as caught:
        load_checkpoint("coco", model)
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"cannot download {url} (")
    assert line.endswith(f"; fetch it elsewhere and put it at {checkpoints / url.rpartition('/')[2]}")


def test_the_official_file_is_taken_from_its_place(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = get_model_weights(MODEL)["COCO_V1"].url.rpartition("/")[2]
    checkpoints.mkdir(parents=True)
    file = Path(saved(checkpoints / name, STATE))
    with pytest.raises(ModelError, match="not the official file"):
        load_checkpoint("coco", MODEL)
    monkeypatch.setattr(
        "featlink.shared.models.checkpoints.path_hash", lambda _: hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    )
    checkpoint = load_checkpoint("coco", MODEL)
    assert matches(checkpoint.state)
    assert checkpoint.official


def test_the_official_hash_is_the_one_in_the_files_name() -> None:
    assert path_hash(get_model_weights(MODEL)["COCO_V1"]) == "258fb6c6"
