"""Export the edge's half of a network, and a reduction's sender half, as ONNX, for devices without torch.

The graph takes a picture, uint8 RGB (H, W, 3), and does what the edge does behind decoding: normalise, resize, pad, the
backbone up to the split, the reduction. Beside it lies ``edge.json``, which is all that a client needs to make frames
(:class:`ExportedEdge`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from featlink.channel.reduction.base import Reduction
from featlink.channel.reduction.bottleneck import (
    LEAST_GAIN,
    MOST_GAIN,
    SEEN,
    STEP,
    Bottleneck,
    Layers,
    bands,
    read_learned,
)
from featlink.channel.reduction.pca import Basis, Pca, read_basis
from featlink.errors import CommandError
from featlink.shared import fitted
from featlink.shared.conditions import language, registry
from featlink.shared.features import Array, Image, Sizes
from featlink.shared.files import replace
from featlink.shared.fpn import FPN
from featlink.shared.frames import wire
from featlink.shared.models.backbone import Front
from featlink.shared.models.config import EXPORTED, MODELS, ModelConfig
from featlink.shared.models.fast.prune import drop_dead_channels
from featlink.shared.models.registry import build
from featlink.shared.models.torchvision_rcnn import TorchvisionRCNN

Precision = Literal["fp32", "fp16", "int8"]

GRAPH, FACTS = "edge.onnx", "edge.json"
"""The two files of an export."""
_OPSET = 18


class ExportedEdge(msgspec.Struct, frozen=True):
    """What ``edge.json`` says.

    Attributes:
        model: the network's name, with runtime and precision, e.g. ``maskrcnn_resnet50_fpn+onnx-int8``.
        weights: identity of the weights.
        size: (height, width) of the pictures that the graph takes; None for any.
        min_size: shorter side of the network input in pixels; the picture is scaled to it with its sides' ratio.
        max_size: longer side at most, which goes before ``min_size``.
        divisor: the input's sides are padded to multiples of it.
        tensors: names of the graph's outputs, float32 (C, H, W) each, as they stand in a frame.
        features: divisor, and of each tensor of the spec name, channels, stride and source; None for the FPN's.
        reduced: the reduction's sender half; None where the levels are sent.
        condition: to send frames under, in the text form; empty for the channel's default.
        labels: name of each label, background first.
        precision: of the arithmetic.
        sha256: of the graph.
        wire: version of the frames.
        format: of this file.
    """

    model: str
    weights: str
    size: tuple[int, int] | None
    min_size: int
    max_size: int
    divisor: int
    tensors: list[str]
    features: tuple[int, list[tuple[str, int, int, str | None]]] | None
    reduced: str | None
    condition: str
    labels: list[str]
    precision: Precision
    sha256: str
    wire: int = wire.VERSION
    format: str = "featlink-edge-1"


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        facts: the content of ``edge.json``.
        graph_bytes: size of the graph.
    """

    facts: ExportedEdge
    graph_bytes: int


def export_edge(
    config: ModelConfig,
    folder: Path,
    size: tuple[int, int] | None = None,
    reduction: str | None = None,
    precision: Precision = "fp32",
    calibration: Sequence[Image] = (),
    advance: Callable[[str], None] = lambda _: None,
) -> Export:
    """Write ``edge.onnx`` and ``edge.json``.

    Args:
        config: the network, one of torchvision's R-CNNs.
        folder: to write to.
        size: (height, width) of the pictures, in pixels, for a graph without sides that vary; None takes any.
        reduction: a reduction step in the text form, e.g. ``bottleneck(step=4)``; None sends the levels.
        precision: ``fp16`` and ``int8`` compute the backbone in it; inputs and outputs are those of ``fp32``.
        calibration: pictures whose activations set ``int8``'s ranges, uint8 RGB, of ``size`` if there is one.
        advance: told what comes next.

    Raises:
        CommandError: the network or the step cannot be exported, or int8 has no calibration pictures.
        ConditionError: the reduction does not parse, or nothing is fitted to the weights.
        ModelError: there is no such network.
    """
    if precision == "int8" and not calibration:
        raise CommandError("int8 needs pictures to calibrate on")
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise CommandError("exporting needs onnx, onnxscript and onnxruntime: pip install 'featlink[export]'")
    step = None if reduction is None else _reduction(reduction)
    advance("network")
    model = build(config.but(profile="exact", device="cpu"), heads=False)
    if not isinstance(model, TorchvisionRCNN):
        raise CommandError(f"{model.name} cannot be exported: only R-CNNs of torchvision can, so far")
    transform, sizes = model.network.transform, None if size is None else model.image_sizes(*size)
    if config.model in MODELS:
        drop_dead_channels(model.network, model.split)
    fitted_to = fitted.key(model.weights, model.spec)
    names = [wire.LATENT] if step is not None else list(model.spec.required)
    advance("graph")
    reduce = None if step is None else sender(step, fitted_to)
    network = _network(EdgeGraph(model, reduce, precision == "fp16").eval(), names, model.spec.divisor)
    data: bytes = _with_input(network, transform, sizes).SerializeToString()
    if precision == "int8":
        advance("calibration")
        data = _quantized(data, calibration, model.image_sizes, size is not None)
    facts = ExportedEdge(
        model=f"{model.name}+{EXPORTED}{precision}",
        weights=model.weights,
        size=size,
        min_size=min(transform.min_size),
        max_size=transform.max_size,
        divisor=model.spec.divisor,
        tensors=names,
        features=None
        if model.spec == FPN
        else (model.spec.divisor, [(t.name, t.channels, t.stride, t.source) for t in model.spec.tensors]),
        reduced=None if step is None else step.sender_half(fitted_to),
        condition="" if step is None else f"feature: {reduction} | entropy @ bit_depth=10",
        labels=list(model.categories),
        precision=precision,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    replace(folder / GRAPH, data)
    replace(folder / FACTS, msgspec.json.format(msgspec.json.encode(facts), indent=2))
    return Export(facts, len(data))


def _reduction(text: str) -> Reduction:
    steps = registry.chain(language.parse(text, "feature"))
    if len(steps) != 1 or not isinstance(steps[0], Reduction):
        raise CommandError(f"{text!r} is not one reduction step, such as bottleneck:step=4")
    return steps[0]


# The graph.


class EdgeGraph(nn.Module):
    """From the network input, normalised float32 (1, 3, h, w), to what crosses the link, float32 (C, h', w') each.

    Args:
        model: in the ``exact`` profile; its modules are used, not copied.
        reduce: from the levels that are sent to planes; None sends the levels.
        half: compute the backbone in half precision.
    """

    def __init__(self, model: TorchvisionRCNN, reduce: nn.Module | None, half: bool) -> None:
        super().__init__()
        front = Front(model.network.backbone, model.split)
        self.front = front.half() if half else front
        self._dtype = torch.float16 if half else torch.float32
        self._sent = len(model.spec.required)
        self.reduce = reduce

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        levels = [level[0].float() for level in self.front(x.to(self._dtype))[: self._sent]]
        return tuple(levels) if self.reduce is None else (self.reduce(*levels),)


def sender(step: Reduction, weights: str) -> nn.Module:
    """A reduction's sender half as a module, from the levels that are sent, the finest first, to planes.

    Args:
        step: to export.
        weights: what it was fitted to, :func:`featlink.shared.fitted.key`.

    Raises:
        CommandError: it has none.
        ConditionError: nothing is fitted to these weights.
    """
    if isinstance(step, Pca):
        return _Components(fitted.load("pca", weights, read_basis), step.components)
    if isinstance(step, Bottleneck):
        learned = fitted.load("bottleneck", weights, read_learned)
        return _Weighted(learned.basis, learned.layers, step.step)
    raise CommandError(f"{step.type} cannot be exported")


class _Components(nn.Module):
    """``Basis.analyse``: (C, H, W) of each level, in the grid's order, to (K, h, w)."""

    def __init__(self, basis: Basis, components: int) -> None:
        super().__init__()
        self._grid, self._names = basis.grid, list(basis.grid.strides)
        for name in basis.grid.strides:
            worth = np.float32(basis.worth[name])
            self._keep(f"forward_{name}", basis.forward[name] * worth)
            self._keep(f"mean_{name}", basis.mean[name][:, None, None] * worth)
        self._keep("cell", basis.cell.T)
        self._keep("group", basis.group[:, :components].T)

    def _keep(self, name: str, array: Array) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))

    def forward(self, *levels: Tensor) -> Tensor:
        """See the class."""
        grid, parts = self._grid, list[Tensor]()
        for name, level in zip(self._names, levels, strict=True):
            x = _mapped(self.get_buffer(f"forward_{name}"), level) - self.get_buffer(f"mean_{name}")
            if (repeats := grid.repeats(name)) > 1:
                x = x.repeat_interleave(repeats, 1).repeat_interleave(repeats, 2) / repeats
                x = x[:, : parts[0].shape[1], : parts[0].shape[2]] if repeats > 2 else x
            parts.append(x if repeats > 1 else _gathered(x, grid.side(name)))
        return _mapped(self.get_buffer("group"), _gathered(_mapped(self.get_buffer("cell"), torch.cat(parts)), 2))


class _Weighted(_Components):
    """``Bottleneck.reduce``: components, each multiplied by its gain."""

    def __init__(self, basis: Basis, layers: Layers, step: float) -> None:
        super().__init__(basis, len(basis.deviation))
        self._step = float(np.log(step / STEP))
        self._keep("deviation", basis.deviation[:SEEN, None, None])
        self.register_buffer("band", torch.from_numpy(bands(len(basis.deviation))))
        self.layers = nn.ModuleList(_convolution(layers, f"gains.{place}") for place in range(4))

    def forward(self, *levels: Tensor) -> Tensor:
        """See the class."""
        components = super().forward(*levels)
        seen = components[:SEEN] / self.get_buffer("deviation")
        x = torch.cat([seen, torch.full_like(seen[:1], self._step)])[None]
        first, *middle, last = self.layers
        hidden = first(x).relu()
        for layer in middle:
            hidden = hidden + layer(hidden).relu()
        gains: Tensor = last(hidden)[0].clamp(LEAST_GAIN, MOST_GAIN).exp()
        return components * gains[self.get_buffer("band")]


def _convolution(layers: Layers, name: str) -> nn.Conv2d:
    weight, bias = (torch.from_numpy(np.array(layers[f"{name}.{part}"])) for part in ("weight", "bias"))
    layer = nn.Conv2d(weight.shape[1], len(weight), weight.shape[-1], padding=weight.shape[-1] // 2)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def _mapped(matrix: Tensor, x: Tensor) -> Tensor:
    return nn.functional.conv2d(x[None], matrix[:, :, None, None])[0]


def _gathered(x: Tensor, side: int) -> Tensor:
    """``channel.reduction.pca.gather``."""
    return nn.functional.pixel_unshuffle(x[None], side)[0]


def _network(graph: nn.Module, names: Sequence[str], divisor: int) -> Any:
    """The network's ONNX model, of any input size."""
    sides = {axis: divisor * torch.export.Dim(name, min=2, max=512) for axis, name in ((2, "h"), (3, "w"))}
    example = torch.zeros(1, 3, 4 * divisor, 5 * divisor)
    with _quiet(), torch.inference_mode():
        program: Any = torch.onnx.export(
            graph,
            (example,),
            input_names=["x"],
            output_names=list(names),
            opset_version=_OPSET,
            dynamic_shapes={"x": sides},
            dynamo=True,
        )
    return program.model_proto


def _with_input(network: Any, transform: Any, sizes: Sizes | None) -> Any:
    """The model behind what makes the network input of a picture: normalise, resize and pad.

    Args:
        network: ONNX model from ``x``.
        transform: torchvision's, for mean and deviation.
        sizes: fixed ones; None takes ``resized`` and ``padded``, int64 (2,) each, as inputs beside ``image``.
    """
    from onnx import TensorProto, compose, helper, numpy_helper

    height, width = ("height", "width") if sizes is None else sizes.original
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [height, width, 3])]
    constants: dict[str, Any] = {
        "mean": 255 * np.array(transform.image_mean, np.float32).reshape(1, 3, 1, 1),
        "deviation": 255 * np.array(transform.image_std, np.float32).reshape(1, 3, 1, 1),
        "batch": np.array([1, 3], np.int64),
        "front": np.zeros(6, np.int64),
        "axis": np.array([0], np.int64),
    }
    if sizes is None:
        inputs += [helper.make_tensor_value_info(name, TensorProto.INT64, [2]) for name in ("resized", "padded")]
    else:
        constants |= {name: np.array(getattr(sizes, name), np.int64) for name in ("resized", "padded")}
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["planes"], perm=[2, 0, 1]),
        node("Unsqueeze", ["planes", "axis"], ["bytes"]),
        node("Cast", ["bytes"], ["pixels"], to=TensorProto.FLOAT),
        node("Sub", ["pixels", "mean"], ["centred"]),
        node("Div", ["centred", "deviation"], ["normalised"]),
        node("Concat", ["batch", "resized"], ["shape"], axis=0),
        node("Resize", ["normalised", "", "", "shape"], ["scaled"], mode="linear"),
        node("Sub", ["padded", "resized"], ["margin"]),
        node("Concat", ["front", "margin"], ["margins"], axis=0),
        node("Pad", ["scaled", "margins"], ["x"]),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    output = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "input", inputs, [output], initializers)
    before = helper.make_model(graph, opset_imports=network.opset_import[:1], ir_version=network.ir_version)
    whole = compose.merge_models(compose.add_prefix(before, "in_", rename_inputs=False), network, [("in_x", "x")])
    del whole.opset_import[1:]  # the same, twice
    return whole


def onnx_runtime() -> Any:
    """ONNX Runtime, which from 1.32 on reports its use to its makers, unless it is told not to before its import."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _quantized(data: bytes, pictures: Sequence[Image], sizes: Callable[[int, int], Sizes], fixed: bool) -> bytes:
    """The graph with its convolutions in 8 bits: weights by channel, activations by what the pictures make of them."""
    import onnx

    onnx_runtime()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
        def __init__(self) -> None:
            self._left = iter(pictures)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self._left, None)
            return None if picture is None else fed(picture, None if fixed else sizes(*picture.shape[:2]))

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / GRAPH
        quantize_static(
            onnx.load_from_string(data),
            target,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
        )
        return target.read_bytes()


def fed(picture: Image, sizes: Sizes | None) -> dict[str, np.ndarray]:
    """What a graph is given.

    Args:
        picture: uint8 RGB (H, W, 3).
        sizes: of the picture; None for a graph of one size.
    """
    if sizes is None:
        return {"image": picture}
    return {"image": picture, "resized": np.array(sizes.resized), "padded": np.array(sizes.padded)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters print and warn of, which no user can act on."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
