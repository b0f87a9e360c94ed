"""The ``fast`` profile: the same network with its convolutions compiled by OpenVINO and RoIAlign by Numba.

Both reorder float32 arithmetic; nothing is quantised. The bounds against stock torchvision are in
DESIGN 3 and tested: 0.01 px, 1e-4 of score.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from shared.buffers import BufferPool
from shared.roi_align import FastRoIAlign


def accelerate(network: GeneralizedRCNN, threads: int) -> None:
    """Replace a network's expensive modules in place; it stays callable as a whole.

    Args:
        network: a torchvision Faster or Mask R-CNN in eval mode, weights loaded.
        threads: CPU threads of one inference.
    """
    channels = network.backbone.out_channels
    network.backbone = _Backbone(network.backbone, threads)
    if network.rpn is None:  # an edge: nothing behind the backbone
        return
    network.rpn.head = _RpnHead(network.rpn.head, channels, threads)
    heads = network.roi_heads
    heads.register_forward_pre_hook(_channels_last)
    heads.box_roi_pool = _pool(heads.box_roi_pool, threads)
    heads.box_head = _RoiHead(heads.box_head, channels, heads.box_roi_pool, threads)
    if heads.mask_roi_pool is not None:
        heads.mask_roi_pool = _pool(heads.mask_roi_pool, threads)
        mask = nn.Sequential(heads.mask_head, heads.mask_predictor)
        heads.mask_head = _RoiHead(mask, channels, heads.mask_roi_pool, threads)
        heads.mask_predictor = nn.Identity()


def _pool(pool: Any, threads: int) -> FastRoIAlign:
    fast = FastRoIAlign(pool.featmap_names, pool.output_size, pool.sampling_ratio, threads)
    # Compile it now (or read it from Numba's cache), not during the first image.
    fast(
        {name: torch.zeros(1, 1, 64 >> i, 64 >> i) for i, name in enumerate(fast.featmap_names)},
        [torch.ones(1, 4)],
        [(256, 256)],
    )
    return fast


def _channels_last(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Bring the features into the layout both RoIAligns read, once."""
    features, *rest = args
    return {key: level.contiguous(memory_format=torch.channels_last) for key, level in features.items()}, *rest


class _Compiled:
    """A module as an OpenVINO function of one tensor to a tuple of tensors."""

    def __init__(self, module: nn.Module, example: Tensor, shape: Sequence[int], threads: int) -> None:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # OpenVINO still traces with torch.jit
            frontend = FrontEndManager().load_by_framework("pytorch")
            # The frontend itself: openvino.convert_model would report its use to OpenVINO's makers.
            decoder = TorchScriptPythonDecoder(module, example_input=(example,))  # must outlive the conversion
            graph = frontend.convert(frontend.load(decoder))
        graph.reshape(openvino.PartialShape(list(shape)))
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
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


class _Tuple(nn.Module):
    """Flattens a module's dict or lists of tensors into the tuple that a graph returns."""

    def __init__(self, module: nn.Module, as_list: bool) -> None:
        super().__init__()
        self.module = module
        self.as_list = as_list

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.as_list:
            return tuple(tensors[0] for tensors in self.module([x]))
        return tuple(self.module(x).values())


class _Backbone(nn.Module):
    def __init__(self, backbone: nn.Module, threads: int) -> None:
        super().__init__()
        self.out_channels = backbone.out_channels
        self._run = _Compiled(_Tuple(backbone, False), torch.zeros(1, 3, 64, 96), (1, 3, -1, -1), threads)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict(zip(("0", "1", "2", "3", "pool"), self._run(x), strict=True))


class _RpnHead(nn.Module):
    def __init__(self, head: nn.Module, channels: int, threads: int) -> None:
        super().__init__()
        self._run = _Compiled(_Tuple(head, True), torch.zeros(1, channels, 8, 12), (1, channels, -1, -1), threads)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = zip(*map(self._run, features), strict=True)
        return list(logits), list(deltas)


class _RoiHead(nn.Module):
    """A head that acts on each pooled region alone."""

    def __init__(self, head: nn.Module, channels: int, pool: FastRoIAlign, threads: int) -> None:
        super().__init__()
        height, width = pool.output_size
        self._run = _Compiled(head, torch.zeros(2, channels, height, width), (-1, channels, height, width), threads)
        with torch.no_grad():
            self._empty = head(torch.zeros(1, channels, height, width))[:0]

    def forward(self, regions: Tensor) -> Tensor:
        return self._run(regions)[0] if len(regions) else self._empty
