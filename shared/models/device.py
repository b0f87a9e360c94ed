"""Choose the device that a network runs on: the CPU, or a CUDA GPU."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featlink.shared.errors import ModelError

AT_ONCE = 4
"""Inferences on a GPU side by side. Measured on an H200: with 4, heads take 0.6 of their time one by one, as a batch of
16 does, and each gives the same bits as alone, which a batch does not."""


def resolve(name: str) -> torch.device:
    """The device that a setting names.

    Args:
        name: ``auto``, a GPU where torch finds one and else the CPU; ``cpu``; ``cuda``; or ``cuda:1`` and so on.

    Raises:
        ModelError: torch finds no such device.

    Example:
        >>> resolve("cpu")
        device(type='cpu')
    """
    there = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not there):
        return torch.device("cpu")
    device = torch.device("cuda" if name == "auto" else name)
    if (device.index or 0) >= there:
        raise ModelError(f"no device {name}: torch {torch.__version__} finds {there or 'no'} CUDA GPUs here")
    return torch.device("cuda", device.index or 0)


def check_surroundings() -> None:
    """Refuse to compute where a program has changed what torch's new tensors are; autocast is only switched off.

    Raises:
        ModelError: torch's default dtype is not float32, or its default device not the CPU.
    """
    if (dtype := torch.get_default_dtype()) != torch.float32:
        raise ModelError(f"torch's default dtype is {dtype}, and models need float32: torch.set_default_dtype")
    if (device := torch.get_default_device()).type != "cpu":
        raise ModelError(f"torch's default device is {device}, and models need cpu: say device= when loading instead")


class Gateway:
    """Brings arrays to a device and back, and lets no more than :data:`AT_ONCE` threads use it at a time.

    On a GPU each of them has a stream for as long, and arrays go through pinned memory. On the CPU there is nothing to
    do.

    Args:
        device: where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            # float32 is float32: no TensorFloat-32, which has 10 bits of mantissa.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            # The last one used first: each stream has memory of its own, which only what runs there can use again.
            self._streams: queue.LifoQueue[torch.cuda.Stream] = queue.LifoQueue()
            for _ in range(AT_ONCE):
                self._streams.put(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Work on the device in here."""
        check_surroundings()
        if self.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                yield
            return
        stream = self._streams.get()
        try:
            with torch.autocast("cuda", enabled=False), torch.cuda.device(self.device), torch.cuda.stream(stream):
                yield
        finally:
            self._streams.put(stream)

    def bring(self, array: npt.NDArray[np.generic]) -> Tensor:
        """An array as a tensor on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)

    def fetch(self, tensor: Tensor) -> npt.NDArray[np.float32]:
        """A tensor of the device as an array, from a GPU in pinned memory, so that bringing it back is quick."""
        tensor = tensor.contiguous()
        if self.device.type == "cpu":
            return tensor.numpy()
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return pinned.numpy()
