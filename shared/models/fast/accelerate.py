"""The ``fast`` and ``bf16`` profiles: the same network with other implementations of its expensive parts.

What the weights leave at zero is left out first (``prune``). RoIAlign and masks are those of ``regions``.

``fast`` reorders float32 arithmetic; nothing is quantised. Against stock torchvision, detections stay within 0.01 px
and 1e-4 of score; tests hold it to that. FPN, RPN and mask head spend almost all of their time in wide 3×3
convolutions, which Winograd's method computes (``winograd``); the other layers are compiled by OpenVINO.

``bf16`` computes convolutions and the box head in bfloat16, on CPUs with instructions for it: the upper half of a
float32, the same range with 8 significant bits; products are added up in float32. All of its layers are compiled by
OpenVINO. RoIAlign, the box predictor, box decoding, thresholds, NMS and everything before and after the network stay
float32.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import MultiScaleRoIAlign

from featlink.shared.buffers import BufferPool
from featlink.shared.errors import ModelError
from featlink.shared.fpn import PYRAMID
from featlink.shared.models.backbone import Back, Front, Parts
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.fast.regions import FastRoIAlign, LabelledMasks
from featlink.shared.models.fast.winograd import winograd

# The package that reports OpenVINO's every import to its makers and leaves an id in the home folder: where it cannot be
# imported, OpenVINO takes a stub of its own. One that is imported already is the caller's, and left alone.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: its import fails

import openvino  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder  # noqa: E402

Precision = Literal["f32", "bf16"]

_LEVELS = ("0", "1", "2", "3")
"""torchvision's names of p2..p5."""

_tracing = threading.Lock()
"""torch traces one module at a time."""


def refusal() -> str | None:
    """Say why this CPU cannot run ``bf16``; None if it multiplies bfloat16 numbers. Emulated, they would be slow."""
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    return "bf16 needs a CPU with AVX512-BF16 or AMX, which this one has not; take 'fast'"


def accelerate(network: GeneralizedRCNN, threads: int, precision: Precision, split: str = PYRAMID) -> Parts:
    """Replace a network's expensive modules in place, but for the backbone's and the mask head's.

    Args:
        network: a torchvision Faster or Mask R-CNN in eval mode, weights loaded.
        threads: CPU threads of one inference.
        precision: ``f32`` for the profile ``fast``, ``bf16`` for the one of that name.
        split: one of :data:`featlink.shared.fpn.SPLITS`.

    Raises:
        ModelError: the CPU has no instructions for bfloat16.
    """
    if precision == "bf16" and (reason := refusal()):
        raise ModelError(f"profile: {reason}")
    drop_dead_channels(network, split)
    channels = network.backbone.out_channels
    pyramid = _WinogradPyramid if precision == "f32" else _CompiledPyramid
    picture = [torch.zeros(1, 3, 64, 96)]
    front: Callable[[Tensor], Sequence[Tensor]]
    back: nn.Module | None = None
    if split == PYRAMID:
        front = _Tuple(pyramid(network.backbone, picture, threads))
    else:
        stock = Front(network.backbone, split)
        front = Graph(stock, picture, _of_any_size(picture), threads, precision)
        if network.rpn is not None:
            back = pyramid(Back(network.backbone, split), stock(*picture), threads)
    network.backbone = None
    if network.rpn is None:  # an edge: nothing behind the backbone
        return Parts(front, back, None)
    heads, rpn = network.roi_heads, network.rpn
    rpn.head = _WinogradRpn(rpn.head, threads) if precision == "f32" else _CompiledRpn(rpn.head, channels, threads)
    heads.box_roi_pool = _fast_pool(heads.box_roi_pool, threads)
    heads.box_head = RegionHead(heads.box_head, channels, heads.box_roi_pool.output_size, threads, precision)
    if heads.mask_roi_pool is None:
        return Parts(front, back, None)
    pool = _fast_pool(heads.mask_roi_pool, threads)
    branch = (
        MaskBranch(pool, winograd(heads.mask_head, threads), LabelledMasks(heads.mask_predictor))
        if precision == "f32"
        else MaskBranch(
            pool,
            RegionHead(heads.mask_head, channels, pool.output_size, threads, precision),
            LabelledMasks(heads.mask_predictor, torch.bfloat16),
        )
    )
    heads.mask_roi_pool = heads.mask_head = heads.mask_predictor = None
    return Parts(front, back, branch)


def _fast_pool(pool: Any, threads: int) -> Any:
    """torchvision's pooler in its fast form; another one as it is."""
    return FastRoIAlign.like(pool, threads) if isinstance(pool, MultiScaleRoIAlign) else pool


class MaskBranch:
    """From features to masks, for one image.

    Args:
        pool: RoIAlign.
        head: of pooled regions.
        predict: masks of what the head gives and labels.
    """

    def __init__(self, pool: nn.Module, head: nn.Module, predict: LabelledMasks) -> None:
        self._pool, self._head, self._predict = pool, head, predict

    def __call__(self, features: dict[str, Tensor], boxes: Tensor, labels: Tensor, resized: tuple[int, int]) -> Tensor:
        """Make masks of boxes.

        Args:
            features: level name to float32 (1, C, H, W).
            boxes: float32 (K, 4), x1 y1 x2 y2 in pixels of the network input.
            labels: int64 (K,).
            resized: (height, width) of the picture in the network input.

        Returns:
            float32 (K, 1, 28, 28) in 0..1.
        """
        masks: Tensor = self._predict(self._head(self._pool(features, [boxes], [resized])), labels)
        return masks


class Graph:
    """A module as an OpenVINO function of tensors to a tuple of tensors, all float32.

    Args:
        module: in eval mode.
        examples: of its inputs.
        shapes: of its inputs; -1 for a side that varies.
        threads: CPU threads of one inference.
        precision: of the arithmetic inside; inputs and outputs are float32 all the same.
    """

    def __init__(
        self,
        module: nn.Module,
        examples: Sequence[Tensor],
        shapes: Sequence[Sequence[int]],
        threads: int,
        precision: Precision = "f32",
    ) -> None:
        with _tracing, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # OpenVINO still traces with torch.jit
            frontend = FrontEndManager().load_by_framework("pytorch")
            # Calls the frontend itself: openvino.convert_model would send usage statistics, if it could.
            decoder = TorchScriptPythonDecoder(module, example_input=tuple(examples))  # must outlive the conversion
            graph = frontend.convert(frontend.load(decoder))
        graph.reshape({place: openvino.PartialShape(list(shape)) for place, shape in enumerate(shapes)})
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        options["ENABLE_CPU_PINNING"] = False  # each process would pin its threads to the machine's first cores
        self._buffers = BufferPool(keep=8)
        self._lock = threading.Lock()
        self._request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Run it.

        Args:
            inputs: float32.

        Returns:
            The outputs, float32, in memory of their own.
        """
        given = {place: x.contiguous().numpy() for place, x in enumerate(inputs)}
        with self._lock:  # a request has memory for one inference, which is the next caller's once it is copied
            outputs = self._request.infer(given, share_inputs=True, share_outputs=True)
            return [self._copy(outputs[i]) for i in range(len(outputs))]

    def _copy(self, output: npt.NDArray[np.float32]) -> Tensor:
        """Out of the request's memory, which its next inference overwrites."""
        copy = np.frombuffer(self._buffers.take(output.nbytes), output.dtype).reshape(output.shape)
        np.copyto(copy, output)
        return torch.from_numpy(copy)


class RegionHead(nn.Module):
    """A head of regions, of which there may be none; it reads them as they are pooled, channels last.

    Args:
        head: takes (K, channels, height, width) to (K, …); its weights may be brought into another order.
        channels: of a region.
        size: (height, width) of a region.
        threads: CPU threads.
        precision: of the arithmetic inside.
    """

    def __init__(
        self, head: nn.Module, channels: int, size: tuple[int, int], threads: int, precision: Precision = "f32"
    ) -> None:
        super().__init__()
        if isinstance(head, TwoMLPHead):
            weight = head.fc6.weight.unflatten(1, (channels, *size)).permute(0, 2, 3, 1).flatten(1).contiguous()
            head.fc6.weight = nn.Parameter(weight, requires_grad=False)
        else:
            head = _ChannelsLast(head)
        self._run = Graph(head, [torch.zeros(2, *size, channels)], [(-1, *size, channels)], threads, precision)
        with torch.no_grad():
            self._empty = head(torch.zeros(1, *size, channels))[:0]

    def forward(self, regions: Tensor) -> Tensor:
        """Run the head.

        Args:
            regions: float32 (K, channels, height, width), fastest in channels-last memory.
        """
        return self._run(regions.permute(0, 2, 3, 1))[0] if len(regions) else self._empty


class _ChannelsLast(nn.Module):
    """A module of (N, H, W, C)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x.permute(0, 3, 1, 2))
        return out


class _Tuple(nn.Module):
    """A module's dict as a tuple."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(x).values())


class _Levels(nn.Module):
    """What makes a feature pyramid as a function to a tuple of its levels p2 to p5; p6 is made outside.

    Args:
        module: of tensors to levels by name.
        channels_last: whether they are (1, H, W, C).
    """

    def __init__(self, module: nn.Module, channels_last: bool = False) -> None:
        super().__init__()
        self.module, self.channels_last = module, channels_last

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        levels = self.module(*inputs)
        return tuple(levels[name].permute(0, 2, 3, 1) if self.channels_last else levels[name] for name in _LEVELS)


def _with_pool(levels: Sequence[Tensor]) -> OrderedDict[str, Tensor]:
    """Levels by torchvision's names, p6 among them."""
    return OrderedDict([*zip(_LEVELS, levels, strict=True), ("pool", levels[-1][:, :, ::2, ::2])])


def _of_any_size(examples: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [(1, example.shape[1], -1, -1) for example in examples]


class _WinogradPyramid(nn.Module):
    """What ends in an FPN, up to its 3×3 convolutions as one graph, and these by Winograd's method.

    Args:
        module: a backbone, or the rest of one behind a split, with an ``fpn``.
        examples: of its inputs.
        threads: CPU threads.
    """

    def __init__(self, module: Any, examples: Sequence[Tensor], threads: int) -> None:
        super().__init__()
        self._convolutions = [winograd(block, threads) for block in module.fpn.layer_blocks]
        module.fpn.layer_blocks = nn.ModuleList(nn.Identity() for _ in module.fpn.layer_blocks)
        self._run = Graph(_Levels(module, channels_last=True), examples, _of_any_size(examples), threads)

    def forward(self, *inputs: Tensor) -> OrderedDict[str, Tensor]:
        merged = [level.permute(0, 3, 1, 2) for level in self._run(*inputs)]
        return _with_pool([convolve(level) for convolve, level in zip(self._convolutions, merged, strict=True)])


class _CompiledPyramid(nn.Module):
    """The same in bfloat16, as one graph."""

    def __init__(self, module: Any, examples: Sequence[Tensor], threads: int) -> None:
        super().__init__()
        self._run = Graph(_Levels(module), examples, _of_any_size(examples), threads, "bf16")

    def forward(self, *inputs: Tensor) -> OrderedDict[str, Tensor]:
        return _with_pool(self._run(*inputs))


class _WinogradRpn(nn.Module):
    def __init__(self, head: Any, threads: int) -> None:
        super().__init__()
        self._convolutions = winograd(head.conv, threads)
        last = head.cls_logits, head.bbox_pred  # both of size 1×1: one matrix of channels-last rows
        with torch.no_grad():
            self._weight = torch.cat([layer.weight.flatten(1) for layer in last]).t().contiguous()
            self._bias = torch.cat([layer.bias for layer in last])
        self._anchors = head.cls_logits.out_channels

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        outputs = [self._level(level) for level in features]
        return [out[:, : self._anchors] for out in outputs], [out[:, self._anchors :] for out in outputs]

    def _level(self, level: Tensor) -> Tensor:
        """Logits and deltas of a level, (1, anchors + 4·anchors, H, W)."""
        hidden = self._convolutions(level).permute(0, 2, 3, 1)
        out = torch.addmm(self._bias, hidden.flatten(0, 2), self._weight)
        return out.view(*hidden.shape[:3], -1).permute(0, 3, 1, 2)


class _RpnLevel(nn.Module):
    """An RPN head on one level, all of it (1, H, W, C)."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.head.conv(x.permute(0, 3, 1, 2))
        return self.head.cls_logits(hidden).permute(0, 2, 3, 1), self.head.bbox_pred(hidden).permute(0, 2, 3, 1)


class _CompiledRpn(nn.Module):
    def __init__(self, head: Any, channels: int, threads: int) -> None:
        super().__init__()
        self._run = Graph(_RpnLevel(head), [torch.zeros(1, 8, 8, channels)], [(1, -1, -1, channels)], threads, "bf16")

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        outputs = [[out.permute(0, 3, 1, 2) for out in self._run(level.permute(0, 2, 3, 1))] for level in features]
        return [logits for logits, _ in outputs], [deltas for _, deltas in outputs]
