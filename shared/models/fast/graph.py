"""A module compiled by OpenVINO for the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featlink.shared.frames.buffers import BufferPool
from featlink.shared.models.fast.vino import FrontEndManager, TorchScriptPythonDecoder, openvino

Precision = Literal["f32", "bf16"]


class Graph:
    """A module as an OpenVINO function of one tensor to a tuple of tensors, all float32.

    Args:
        module: in eval mode.
        example: of its input.
        shape: of its input; -1 for a side that varies.
        threads: CPU threads of one inference.
        precision: of the arithmetic inside; inputs and outputs are float32 all the same.
    """

    def __init__(
        self, module: nn.Module, example: Tensor, shape: Sequence[int], threads: int, precision: Precision = "f32"
    ) -> None:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # OpenVINO still traces with torch.jit
            frontend = FrontEndManager().load_by_framework("pytorch")
            # Calls the frontend itself: openvino.convert_model would send usage statistics, if it could.
            decoder = TorchScriptPythonDecoder(module, example_input=(example,))  # must outlive the conversion
            graph = frontend.convert(frontend.load(decoder))
        graph.reshape(openvino.PartialShape(list(shape)))
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        options["ENABLE_CPU_PINNING"] = False  # each process would pin its threads to the machine's first cores
        self._buffers = BufferPool(keep=8)
        self._request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Run it.

        Args:
            x: float32.

        Returns:
            The outputs, float32, in memory of their own.
        """
        outputs = self._request.infer({0: x.contiguous().numpy()}, share_inputs=True, share_outputs=True)
        return [self._copy(outputs[i]) for i in range(len(outputs))]

    def _copy(self, output: npt.NDArray[np.float32]) -> Tensor:
        """Out of the request's memory, which its next inference overwrites."""
        copy = np.frombuffer(self._buffers.take(output.nbytes), output.dtype).reshape(output.shape)
        np.copyto(copy, output)
        return torch.from_numpy(copy)
