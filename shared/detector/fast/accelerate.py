"""The ``fast`` profile: the same network with other implementations of its expensive parts.

FPN, RPN and mask head spend almost all of their time in wide 3×3 convolutions, which Winograd's method computes; the
other layers are compiled by OpenVINO, RoIAlign by Numba. What the weights leave at zero is left out before
(:mod:`shared.detector.fast.prune`). All reorder float32 arithmetic; nothing is quantised. Against stock torchvision,
detections stay within 0.01 px and 1e-4 of score; tests hold it to that.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from shared.detector.fast.prune import drop_dead_channels
from shared.detector.fast.roi_align import FastRoIAlign
from shared.detector.fast.vino import FrontEndManager, TorchScriptPythonDecoder, openvino
from shared.detector.fast.winograd import winograd
from shared.frames.buffers import BufferPool

_LEVELS = ("0", "1", "2", "3")
"""torchvision's names of p2..p5."""


def accelerate(network: GeneralizedRCNN, threads: int) -> None:
    """Replace a network's expensive modules in place; it stays callable as a whole.

    Args:
        network: a torchvision Faster or Mask R-CNN in eval mode, weights loaded.
        threads: CPU threads of one inference.
    """
    drop_dead_channels(network)
    channels = network.backbone.out_channels
    network.backbone = _Backbone(network.backbone, threads)
    if network.rpn is None:  # an edge: nothing behind the backbone
        return
    network.rpn.head = _RpnHead(network.rpn.head, threads)
    heads = network.roi_heads
    heads.box_roi_pool = _pool(heads.box_roi_pool, threads)
    heads.box_head = _BoxHead(heads.box_head, channels, heads.box_roi_pool, threads)
    if heads.mask_roi_pool is not None:
        heads.mask_roi_pool = _pool(heads.mask_roi_pool, threads)
        heads.mask_head = winograd(heads.mask_head, threads)
        heads.mask_predictor = _MaskPredictor(heads.mask_predictor, heads.mask_roi_pool, threads)


def _pool(pool: Any, threads: int) -> FastRoIAlign:
    return FastRoIAlign(pool.featmap_names, pool.output_size, pool.sampling_ratio, threads)


class _OpenVinoModule:
    """A module as an OpenVINO function of one tensor to a tuple of tensors."""

    def __init__(self, module: nn.Module, example: Tensor, shape: Sequence[int], threads: int) -> None:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # OpenVINO still traces with torch.jit
            frontend = FrontEndManager().load_by_framework("pytorch")
            # Calls the frontend itself: openvino.convert_model would send usage statistics, if it could.
            decoder = TorchScriptPythonDecoder(module, example_input=(example,))  # must outlive the conversion
            graph = frontend.convert(frontend.load(decoder))
        graph.reshape(openvino.PartialShape(list(shape)))
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        options["ENABLE_CPU_PINNING"] = False  # each process would pin its threads to the machine's first cores
        self._buffers = BufferPool(keep=8)
        self._request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def __call__(self, x: Tensor) -> list[Tensor]:
        outputs = self._request.infer({0: x.contiguous().numpy()}, share_inputs=True, share_outputs=True)
        return [self._copy(outputs[i]) for i in range(len(outputs))]

    def _copy(self, output: npt.NDArray[np.float32]) -> Tensor:
        """Out of the request's memory, which its next inference overwrites."""
        copy = np.frombuffer(self._buffers.take(output.nbytes), output.dtype).reshape(output.shape)
        np.copyto(copy, output)
        return torch.from_numpy(copy)


class _FpnBeforeOutput(nn.Module):
    """A backbone whose FPN ends before its 3×3 convolutions; its levels are (1, H, W, C)."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        backbone.fpn.layer_blocks = nn.ModuleList(nn.Identity() for _ in backbone.fpn.layer_blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = self.backbone(x)
        return tuple(levels[name].permute(0, 2, 3, 1) for name in _LEVELS)


class _Backbone(nn.Module):
    def __init__(self, backbone: Any, threads: int) -> None:
        super().__init__()
        self.out_channels = backbone.out_channels
        self._convolutions = [winograd(block, threads) for block in backbone.fpn.layer_blocks]
        self._merged = _OpenVinoModule(_FpnBeforeOutput(backbone), torch.zeros(1, 3, 64, 96), (1, 3, -1, -1), threads)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        merged = (level.permute(0, 3, 1, 2) for level in self._merged(x))
        levels = OrderedDict(
            (name, convolution(level))
            for name, convolution, level in zip(_LEVELS, self._convolutions, merged, strict=True)
        )
        levels["pool"] = levels["3"][:, :, ::2, ::2]
        return levels


class _RpnHead(nn.Module):
    def __init__(self, head: Any, threads: int) -> None:
        super().__init__()
        self._convolutions = winograd(head.conv, threads)
        self._logits, self._deltas = head.cls_logits, head.bbox_pred

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        hidden = [self._convolutions(level) for level in features]
        return [self._logits(level) for level in hidden], [self._deltas(level) for level in hidden]


class _BoxHead(nn.Module):
    def __init__(self, head: nn.Module, channels: int, pool: FastRoIAlign, threads: int) -> None:
        super().__init__()
        height, width = pool.output_size
        self._run = _OpenVinoModule(
            head, torch.zeros(2, channels, height, width), (-1, channels, height, width), threads
        )
        with torch.no_grad():
            self._empty = head(torch.zeros(1, channels, height, width))[:0]

    def forward(self, regions: Tensor) -> Tensor:
        return self._run(regions)[0] if len(regions) else self._empty


class _FromChannelsLast(nn.Module):
    """A module of (N, H, W, C)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x.permute(0, 3, 1, 2))
        return result


class _MaskPredictor(nn.Module):
    def __init__(self, predictor: Any, pool: FastRoIAlign, threads: int) -> None:
        super().__init__()
        channels = predictor.conv5_mask.in_channels
        height, width = pool.output_size
        last = _FromChannelsLast(predictor)
        self._run = _OpenVinoModule(
            last, torch.zeros(2, height, width, channels), (-1, height, width, channels), threads
        )
        with torch.no_grad():
            self._empty = predictor(torch.zeros(1, channels, height, width))[:0]

    def forward(self, regions: Tensor) -> Tensor:
        return self._run(regions.permute(0, 2, 3, 1))[0] if len(regions) else self._empty
