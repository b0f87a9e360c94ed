"""Train the starter checkpoint: ``torchrun --nproc-per-node 2 -m training.train --out FOLDER``.

Sprite crops teach the backbone the categories; then the detector learns on small scenes, on larger ones, and at last on
the full input size. Stop it at any time: ``--resume`` continues from the last checkpoint, also with another
``--steps``. ``--bundled`` starts from the package's weights. Data and sampling are a function of the step, so a resumed
run continues as the uninterrupted one would have. One process per core (or GPU) shares every batch with the others; a
single one runs as ``python -m training.train``.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, distributed, nn
from torchvision.models.detection import MaskRCNN

from featlink.starter.bundle import Weights, load_weights
from featlink.starter.scenes import SceneConfig
from training.batches import LABELS, Crops, Scenes, Share, Stage, Target, loader
from training.extract import extract
from training.narrow import Widths, narrow, scale_logits

_logger = logging.getLogger(__name__)

MIN_SIZE, MAX_SIZE = 640, 854
"""Network input of the exported weights; the last stage trains on it and on a smaller one in turn."""
TEMPERATURE = 1.5
"""Class logits of the exported weights are divided by it: on unseen art, the network is surer than it is right."""


def _stage(
    share: float,
    sizes: tuple[tuple[int, int], ...],
    objects: tuple[int, int],
    largest: float,
    batch: int,
    min_sizes: tuple[int, ...],
) -> Stage:
    scenes = SceneConfig("train", sizes, objects, (16.0, largest), crowds=0.0, recolour=0.15)
    return Stage(share, scenes, batch, min_sizes)


STAGES = (
    _stage(0.5, ((256, 256),), (3, 9), 230.0, 8, (256,)),
    _stage(0.3, ((384, 320), (320, 384)), (3, 9), 340.0, 8, (320,)),
    _stage(0.2, ((640, 480), (480, 640)), (4, 12), 560.0, 4, (480, MIN_SIZE)),
)
_CROP_RATE = 2e-3
"""Peak learning rate of the classification."""
_LOSS_WEIGHTS = {"loss_box_reg": 2.0}
"""Categories are learned before boxes are exact."""
_AVERAGE_EVERY = 4
"""Steps between updates of the averaged weights, which cost as much as the optimizer's."""


class Trainer:
    """Holds what a checkpoint holds.

    Args:
        out: folder of the checkpoints.
        steps: of detection training.
        device: where to train.
        rate: peak learning rate.
        share: of several processes that train together.
    """

    def __init__(self, out: Path, steps: int, device: torch.device, rate: float, share: Share) -> None:
        self.share = share
        self.out = out
        self.steps = steps
        self.device = device
        self.rate = rate
        self.step = 0
        self.began = 0
        torch.manual_seed(0)
        self.network = network().to(device=device, memory_format=torch.channels_last).train()
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = self._optimizer(self.network, rate)
        self.crop_step = 0
        self.classifier = nn.ModuleDict(
            {
                "body": self.network.backbone.body,
                "head": nn.Linear(4 * Widths().planes[-1], len(LABELS) + 1).to(device),
            }
        )
        self.crop_optimizer = self._optimizer(self.classifier, _CROP_RATE)

    @staticmethod
    def _optimizer(module: nn.Module, rate: float) -> torch.optim.AdamW:
        matrices = [value for value in module.parameters() if value.ndim > 1]
        vectors = [value for value in module.parameters() if value.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, rate, betas=(0.9, 0.99), foreach=True)

    def save(self) -> None:
        """Write the checkpoint; a crash meanwhile leaves the old one."""
        if self.share.rank:
            return
        state = {
            "step": self.step,
            "began": self.began,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "crop_step": self.crop_step,
            "crop_head": self.classifier["head"].state_dict(),
            "crop_optimizer": self.crop_optimizer.state_dict(),
            "min_size": MIN_SIZE,
            "max_size": MAX_SIZE,
        }
        torch.save(state, self.out / "last.tmp")
        (self.out / "last.tmp").replace(self.out / "last.pt")

    def load(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self.out / "last.pt", map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.began = state["began"]
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.crop_step = state["crop_step"]
        self.classifier["head"].load_state_dict(state["crop_head"])
        self.crop_optimizer.load_state_dict(state["crop_optimizer"])

    def begin(self, weights: Weights) -> None:
        """Start from weights of :mod:`training.export`, at their step, with a fresh optimizer."""
        wide = {name: torch.from_numpy(value) for name, value in weights.state.items()}
        narrow = extract(wide, self.network.state_dict(), list(LABELS))
        self.network.load_state_dict(narrow)
        scale_logits(self.network, TEMPERATURE)
        self.averaged.load_state_dict(self.network.state_dict())
        self.step = self.began = int(weights.metadata["training_steps"])

    def pretrain(self, steps: int, batch: int, save_every: float, progress: Progress) -> None:
        """Teach the body to tell sprites apart, to the last step."""
        if self.step or self.crop_step >= steps:
            return
        task = progress.add_task("crops", total=steps, completed=self.crop_step)
        hits = 0.0
        saved = time.monotonic()
        for images, labels in loader(Crops(range(self.crop_step, steps), batch, self.share)):
            _set_rate(self.crop_optimizer, _CROP_RATE, self.crop_step, steps, 50)
            with self._autocast():
                logits = self.classify(images)
                loss = nn.functional.cross_entropy(logits, labels.to(self.device), label_smoothing=0.05)
            _descend(loss, self.classifier, self.crop_optimizer)
            self.crop_step += 1
            hits += 0.02 * (float((logits.argmax(1).cpu() == labels).float().mean()) - hits)
            progress.update(task, completed=self.crop_step, description=f"crops {hits:.2f} right")
            if self.crop_step % 50 == 0:
                _logger.info("crops %d: loss %.3f, %.2f right", self.crop_step, float(loss.detach()), hits)
            saved = self._saved(saved, save_every)
        self.averaged.load_state_dict(self.network.state_dict())
        self.save()

    def classify(self, images: Tensor) -> Tensor:
        """Logits of crops, uint8 (N, 3, H, W): (N, 1 + categories), background first."""
        features = self.classifier["body"](self._normalised(images))["3"].float().mean((2, 3))
        logits: Tensor = self.classifier["head"](features)
        return logits

    def train(self, save_every: float, progress: Progress) -> None:
        """Train the detector to the last step."""
        task = progress.add_task("scenes", total=self.steps, completed=self.step)
        start = 0
        saved = time.monotonic()
        for stage in STAGES:
            end = start + round(stage.share * self.steps)
            if stage is STAGES[-1]:
                end = self.steps
                self._keep_statistics()
            for images, targets in loader(Scenes(stage, range(max(start, self.step), end), self.share)):
                began = time.monotonic()
                losses = self.descend(images, targets, stage.min_size(self.step))
                self.step += 1
                text = " ".join(f"{name.removeprefix('loss_')} {value:.2f}" for name, value in losses.items())
                progress.update(task, completed=self.step, description=f"scenes {text}")
                if self.step % 20 == 0:
                    spent = time.monotonic() - began
                    _logger.info("step %d of %d: %s, %.2f s", self.step, self.steps, text, spent)
                saved = self._saved(saved, save_every)
            start = end
        self.save()

    def _keep_statistics(self) -> None:
        """From now on normalise by the running statistics, as in use: few scenes of the full size fit in a batch."""
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def _saved(self, last: float, every: float) -> float:
        """Write the checkpoint if the last one is ``every`` seconds old; returns the time of the last one."""
        if time.monotonic() - last <= every:
            return last
        self.save()
        return time.monotonic()

    def descend(self, images: Tensor, targets: list[Target], min_size: int) -> dict[str, float]:
        """One step of the optimizer on scenes of which ``min_size`` is the shorter side at the network's input.

        Returns:
            the losses by name.
        """
        torch.manual_seed(self.step * self.share.of + self.share.rank)  # for torchvision's sampling of proposals
        _set_rate(self.optimizer, self.rate, self.step, self.steps, 100, self.began)
        targets = [{name: value.to(self.device) for name, value in target.items()} for target in targets]
        self.network.transform.min_size = (min_size,)
        with self._autocast():
            losses = self.network(list(images.to(self.device).float().div(255)), targets)
            loss = torch.stack([_LOSS_WEIGHTS.get(name, 1.0) * value for name, value in losses.items()]).sum()
        _descend(loss, self.network, self.optimizer)
        self._average()
        return {name: float(value.detach()) for name, value in losses.items()}

    @torch.no_grad()
    def _average(self) -> None:
        if self.step % _AVERAGE_EVERY:
            return
        keep = min(0.998, (1 + self.step) / (20 + self.step)) ** _AVERAGE_EVERY
        pairs = zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True)
        for mean, value in pairs:
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)

    def _normalised(self, images: Tensor) -> Tensor:
        images = images.to(self.device).float().div(255)
        mean, deviation = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (self.network.transform.image_mean, self.network.transform.image_std)
        )
        return ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> Any:
        return torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda")


def network() -> MaskRCNN:
    """The narrow network with the sampling that training uses."""
    return narrow(
        len(LABELS) + 1,
        min_size=MIN_SIZE,
        max_size=MAX_SIZE,
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=150,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=200,
        rpn_batch_size_per_image=128,
        box_batch_size_per_image=128,
    )


def _set_rate(
    optimizer: torch.optim.Optimizer, peak: float, step: int, steps: int, warmup: int, began: int = 0
) -> None:
    rate = peak * min(1.0, (step - began + 1) / warmup) * (0.495 * (1 + math.cos(math.pi * step / steps)) + 0.01)
    for group in optimizer.param_groups:
        group["lr"] = rate


def _descend(loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if distributed.is_initialized():
        _share_gradients(module)
    nn.utils.clip_grad_norm_(module.parameters(), 5.0)
    optimizer.step()


def _share_gradients(module: nn.Module) -> None:
    """Each process's gradients become the mean of all."""
    parameters = list(module.parameters())
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for parameter, mean in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        parameter.grad = mean.view_as(parameter)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--steps", type=int, default=4500, help="steps of detection training")
    parser.add_argument("--crop-steps", type=int, default=7000, help="steps of the classification before it")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--bundled", action="store_true", help="begin with the package's weights, at their step")
    parser.add_argument("--save-every", type=float, default=120.0, metavar="SECONDS")
    arguments = parser.parse_args()
    if (arguments.out / "last.pt").exists() and not arguments.resume:
        parser.error(f"{arguments.out} holds a checkpoint: go on from it with --resume, or choose another folder")
    arguments.out.mkdir(parents=True, exist_ok=True)
    share = Share(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")
    console = Console()
    logging.basicConfig(
        level=logging.INFO if share.rank == 0 else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False)],
    )
    if share.of > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    trainer = Trainer(arguments.out, arguments.steps, device, arguments.rate, share)
    if arguments.bundled:
        trainer.begin(load_weights())
        if trainer.step >= arguments.steps:
            parser.error(f"the package's weights have {trainer.step} steps: ask for more with --steps")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=share.rank > 0) as progress:
        if arguments.resume and (arguments.out / "last.pt").exists():
            trainer.load()
        trainer.pretrain(arguments.crop_steps, 64, arguments.save_every, progress)
        trainer.train(arguments.save_every, progress)


if __name__ == "__main__":
    main()
