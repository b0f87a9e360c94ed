"""3×3 convolutions with a quarter of the multiplications.

Winograd's minimal filtering F(4×4, 3×3): a tile of 4×4 outputs is the inverse transform of 36 matrix products over the
channels, of the transformed 6×6 inputs under it with the transformed weights. The products are BLAS's, the transforms
Numba's. Float32 throughout; sums are taken in another order and with larger intermediate values than a direct
convolution's, which costs one or two digits.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016), sections 4.1 and 4.3.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops.misc import FrozenBatchNorm2d

from featlink.shared.buffers import BufferPool
from featlink.shared.compiled import numba

_TILE = 4
_PATCH = 6
_BLOCK = 256
"""Tiles at a time: their 36 transforms stay in the last level of the cache."""

_buffers = BufferPool(keep=12)
"""Of a pyramid's levels, what the RPN makes of them, and the transforms."""

# The paper's G, Bᵀ and Aᵀ: the points 0, 1, -1, 2, -2 and infinity.
_WEIGHT_TRANSFORM = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
_INPUT_TRANSFORM = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_OUTPUT_TRANSFORM = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32
)


class WinogradConv(nn.Module):
    """A 3×3 convolution of stride 1 and padding 1 for inference, with its bias and, if asked for, a ReLU.

    Args:
        conv: gives the weights.
        relu: whether negative outputs become 0.
        threads: CPU threads of the transforms; the products use torch's.

    Raises:
        ValueError: the convolution is of another kind.

    Example:
        >>> conv = nn.Conv2d(8, 16, 3, padding=1)
        >>> x = torch.randn(1, 8, 10, 7)
        >>> torch.allclose(WinogradConv(conv, relu=False, threads=1)(x), conv(x), atol=1e-4)
        True
    """

    def __init__(self, conv: nn.Conv2d, relu: bool, threads: int) -> None:
        super().__init__()
        kind = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
        if kind != ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros"):
            raise ValueError(f"not a plain 3×3 convolution: {conv}")
        with torch.no_grad():
            weight = conv.weight.double()
            transformed = torch.einsum("ik,ockl,jl->ijco", _WEIGHT_TRANSFORM, weight, _WEIGHT_TRANSFORM)
            self._weight = transformed.reshape(_PATCH**2, conv.in_channels, conv.out_channels).float().contiguous()
            bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.float()
        self._bias = bias.detach().numpy()
        self._floor = np.float32(0 if relu else -np.inf)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="winograd")

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: float32 (N, C, H, W); fastest in channels-last memory.

        Returns:
            float32 (N, C', H, W) in channels-last memory.
        """
        image = x.permute(0, 2, 3, 1).contiguous().numpy()
        count, height, width, channels = image.shape
        outputs = len(self._bias)
        out = _array(count * height * width * outputs).reshape(count, height, width, outputs)
        tiles = count * -(-height // _TILE) * -(-width // _TILE)
        patches = torch.from_numpy(_array(_PATCH**2 * min(_BLOCK, tiles) * channels))
        products = torch.from_numpy(_array(_PATCH**2 * min(_BLOCK, tiles) * outputs))
        for start in range(0, tiles, _BLOCK):
            size = min(_BLOCK, tiles - start)
            inputs = patches[: _PATCH**2 * size * channels].view(_PATCH**2, size, channels)
            product = products[: _PATCH**2 * size * outputs].view(_PATCH**2, size, outputs)
            self._shared(_transform, size, start, image, inputs.numpy())
            torch.bmm(inputs, self._weight, out=product)
            self._shared(_restore, size, start, product.numpy(), self._bias, self._floor, out)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def _shared(self, kernel, size: int, start: int, *arrays) -> None:  # type: ignore[no-untyped-def]
        """Run a kernel on a block of tiles, a part on each thread."""
        bounds = np.linspace(0, size, self._threads + 1).astype(int)
        jobs = [self._pool.submit(kernel, first, last, start, *arrays) for first, last in itertools.pairwise(bounds)]
        for job in jobs:
            job.result()


def _array(size: int) -> npt.NDArray[np.float32]:
    """Float32 of any value."""
    return np.frombuffer(_buffers.take(4 * size), np.float32)


def winograd(module: nn.Module, threads: int) -> nn.Sequential:
    """The same function as a sequence of plain 3×3 convolutions, each with or without batch norm and ReLU.

    Args:
        module: in eval mode; batch norm becomes part of the weights.
        threads: of :class:`WinogradConv`.

    Raises:
        ValueError: the module has layers of another kind.
    """
    layers: list[tuple[nn.Conv2d, bool]] = []
    for layer in (one for one in module.modules() if not any(one.children())):
        if isinstance(layer, nn.Conv2d):
            layers.append((layer, False))
        elif isinstance(layer, nn.BatchNorm2d | FrozenBatchNorm2d):
            layers[-1] = (fuse_conv_bn_eval(layers[-1][0], layer), False)
        elif isinstance(layer, nn.ReLU):
            layers[-1] = (layers[-1][0], True)
        else:
            raise ValueError(f"not a convolution, batch norm or ReLU: {layer}")
    return nn.Sequential(*(WinogradConv(conv, relu, threads) for conv, relu in layers))


# The innermost loops run over channels, have one store each, and index whole arrays: LLVM vectorises them so, and
# Numba would count references to every slice.
@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _transform(first, last, start, image, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bᵀ d B of the tiles ``start + first`` to ``start + last``."""
    _, height, width, channels = image.shape
    across = -(-width // _TILE)
    each = -(-height // _TILE) * across
    patch = np.empty((_PATCH, _PATCH, channels), np.float32)
    zero = np.zeros(channels, np.float32)
    half = np.empty((_PATCH, _PATCH, channels), np.float32)
    for tile in range(first, last):
        number, place = divmod(start + tile, each)
        top, left = place // across * _TILE - 1, place % across * _TILE - 1
        for i in range(_PATCH):
            for j in range(_PATCH):
                y, x = top + i, left + j
                patch[i, j] = image[number, y, x] if 0 <= y < height and 0 <= x < width else zero
        for i in range(_PATCH):
            w0, w1, w2, w3, w4, w5 = _INPUT_TRANSFORM[i]
            for j in range(_PATCH):
                for c in range(channels):
                    half[i, j, c] = (
                        w0 * patch[0, j, c]
                        + w1 * patch[1, j, c]
                        + w2 * patch[2, j, c]
                        + w3 * patch[3, j, c]
                        + w4 * patch[4, j, c]
                        + w5 * patch[5, j, c]
                    )
        for j in range(_PATCH):
            w0, w1, w2, w3, w4, w5 = _INPUT_TRANSFORM[j]
            for i in range(_PATCH):
                for c in range(channels):
                    out[_PATCH * i + j, tile, c] = (
                        w0 * half[i, 0, c]
                        + w1 * half[i, 1, c]
                        + w2 * half[i, 2, c]
                        + w3 * half[i, 3, c]
                        + w4 * half[i, 4, c]
                        + w5 * half[i, 5, c]
                    )


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _restore(first, last, start, products, bias, floor, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Aᵀ m A of the tiles, the bias, and the ReLU."""
    _, height, width, channels = out.shape
    across = -(-width // _TILE)
    each = -(-height // _TILE) * across
    half = np.empty((_TILE, _PATCH, channels), np.float32)
    for tile in range(first, last):
        number, place = divmod(start + tile, each)
        top, left = place // across * _TILE, place % across * _TILE
        for i in range(_TILE):
            w0, w1, w2, w3, w4, w5 = _OUTPUT_TRANSFORM[i]
            for j in range(_PATCH):
                for c in range(channels):
                    half[i, j, c] = (
                        w0 * products[j, tile, c]
                        + w1 * products[_PATCH + j, tile, c]
                        + w2 * products[2 * _PATCH + j, tile, c]
                        + w3 * products[3 * _PATCH + j, tile, c]
                        + w4 * products[4 * _PATCH + j, tile, c]
                        + w5 * products[5 * _PATCH + j, tile, c]
                    )
        for j in range(min(_TILE, width - left)):
            w0, w1, w2, w3, w4, w5 = _OUTPUT_TRANSFORM[j]
            for i in range(min(_TILE, height - top)):
                for c in range(channels):
                    value = (
                        w0 * half[i, 0, c]
                        + w1 * half[i, 1, c]
                        + w2 * half[i, 2, c]
                        + w3 * half[i, 3, c]
                        + w4 * half[i, 4, c]
                        + w5 * half[i, 5, c]
                        + bias[c]
                    )
                    out[number, top + i, left + j, c] = max(value, floor)
