"""Checkpoints as training scripts save them hold a state dict somewhere; what does not fit says why."""

from __future__ import annotations

import argparse
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from featlink.shared.errors import ModelError
from featlink.shared.models.checkpoints import load_checkpoint, misfit, state_dict

STATE = {"rpn.weight": torch.arange(4.0), "backbone.bias": torch.ones(2)}
ARGS = argparse.Namespace(data_path="/data", output=Path("/out"), lr=0.02, opt="sgd")
REST: dict[str, Any] = {
    "optimizer": {"state": {}, "param_groups": [{"lr": 0.02, "params": [0]}]},
    "lr_scheduler": {"milestones": Counter([16, 22]), "last_epoch": 25},
    "epoch": 25,
}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in STATE.items()}


SAVED: dict[str, Any] = {
    "torchvision's script": {"model": STATE, **REST, "args": ARGS},
    "DataParallel": prefixed("module."),
    "DataParallel within": {"model": prefixed("module.")},
    "torch.compile": prefixed("_orig_mod."),
    "compiled DataParallel": prefixed("module._orig_mod."),
    "a trainer's": {"state_dict": prefixed("model."), "epoch": 3, "hyper_parameters": {"lr": 1e-3}},
    "by hand": {"model_state_dict": STATE, "loss": 0.2},
    "nested twice": {"model": {"state_dict": STATE}},
    "ordered": OrderedDict(STATE),
}


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED)
def test_the_state_dict_is_found(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    found = load_checkpoint(str(tmp_path / "w.pth"), "fasterrcnn_resnet50_fpn").state
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_whole_module_is_refused_and_what_to_do_is_said(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"more than tensors \(torch.nn.modules.linear.Linear\).*save model.state_dict"
    ):
        load_checkpoint(str(tmp_path / "w.pth"), "fasterrcnn_resnet50_fpn")


def test_a_cut_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    start = content.index(b"ctorch")
    content[start : start + 30] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot read weights .*: damaged"):
        load_checkpoint(str(path), "fasterrcnn_resnet50_fpn")


@pytest.mark.parametrize("content", [3, {}, [], {"model": {}}, {"model": 3, "epoch": 1}, {1: torch.ones(1)}], ids=repr)
def test_what_holds_no_state_dict_gives_none(content: object) -> None:
    assert state_dict(content) is None


def test_what_does_not_fit_is_named_with_both_shapes_and_the_likely_cause() -> None:
    wanted = {"rpn.head.cls_logits.weight": torch.zeros(3, 2), "rpn.head.cls_logits.bias": torch.zeros(3)}
    assert misfit(wanted, wanted) is None
    other = {name: torch.zeros(4, *value.shape[1:]) for name, value in wanted.items()}
    told = misfit(other, wanted)
    assert told is not None
    assert "rpn.head.cls_logits.weight has shape [4, 2], the network's has [3, 2], and 1 more shapes differ" in told
    assert "other anchors" in told
    second = {"roi_heads.mask_head.0.0.weight": torch.zeros(1)}
    told = misfit(second, wanted)
    assert told is not None
    assert told.endswith("they look like those of maskrcnn_resnet50_fpn_v2")
    assert misfit({**wanted, "x": torch.zeros(1)}, wanted) == "unexpected x"
