"""The graph of a model file: maps uint8 crops to calibrated probabilities, including all preprocessing.

In the int8 graph the convolutional trunk is quantised, with weights per channel and activation ranges from calibration
faces.
"""

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from emodet.arrays import Float32, Int64, UInt8
from emodet.errors import EmodetError
from emodet.modelinfo import OUTPUTS
from emodet.models.classifier import EmotionClassifier
from emodet.models.nets import scaled_outputs, split_outputs
from emodet.preprocessing import MIN_DEVIATION

if TYPE_CHECKING:
    import onnx


OPSET = 18
"""ONNX opset of 2022: the first that torch's exporter writes without conversion. ONNX Runtime reads it from version
1.14, including the builds for browsers and phones."""

TRUNK_OPERATORS = ("Conv", "MaxPool", "Add", "Relu", "Clip")
"""Quantised operators. A dense head or a softmax in int8 would round probabilities to multiples of 1/255."""

_IR_VERSION = 10  # the newest version that ONNX Runtime 1.20, our oldest dependency, reads
# ITU-R BT.601 luma as in OpenCV on uint8: 15-bit weights, rounded half up.
_LUMA, _LUMA_BITS = (9798, 19235, 3735), 15


class ProbabilityGraph(nn.Module):
    """Colour conversion, normalisation, net, temperature and softmax of a classifier in one module.

    For a net trained on grey crops it includes the conversion to grey, so that programs can pass colour crops. The
    conversion equals OpenCV's exactly and does not change grey crops.
    """

    def __init__(self, classifier: EmotionClassifier) -> None:
        """Copy the needed parts of `classifier` to the CPU, in evaluation mode."""
        super().__init__()
        preprocessing = classifier.preprocessing
        net = copy.deepcopy(classifier.net).cpu().float().eval()
        self.net = net.to(memory_format=torch.contiguous_format)
        for module in list(self.net.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                    setattr(module, name, _GlobalMean())
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        self.luma: torch.Tensor
        self.temperature: torch.Tensor
        self.classes, self.has_va_head = len(classifier.class_names), classifier.has_va_head
        self.size, self.grey = preprocessing.size, preprocessing.colour == "grey"
        self.own_contrast, self.channels = preprocessing.contrast == "crop", 3
        if self.grey and self.own_contrast and (narrow := _of_one_channel(self.net, self.size)) is not None:
            self.net, self.channels = narrow, 1
        # One multiplication and one addition over whole rows of pixels: broadcasting over an innermost axis of three
        # is slow compared with an int8 net.
        std, mean = np.array(preprocessing.std), np.array(preprocessing.mean)
        self.register_buffer("scale", torch.tensor(np.tile(1 / (255 * std), self.size), dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(np.tile(-mean / std, self.size), dtype=torch.float32))
        # Exact in float32: multiples of 2 ** -15 below 256 have 23 bits.
        luma = torch.tensor(_LUMA, dtype=torch.float32) / 2**_LUMA_BITS
        self.register_buffer("luma", luma[:, None].repeat(1, self.channels))
        self.register_buffer("temperature", classifier.temperature.detach().clone().cpu().float())
        self.temperature_curve = classifier.temperature_curve.tolist()

    def forward(self, crops: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map crops, uint8 (N, H, W, 3) RGB, to calibrated probabilities, float32 (N, K), and with a valence/arousal
        head also to valence and arousal, float32 (N, 2), -1 to 1.
        """
        x = crops.to(torch.float32)
        if self.grey:
            x = x @ self.luma
        rows = x.reshape(-1, self.size, self.channels * self.size)
        if self.grey:
            rows = torch.floor(rows + 0.5)
        if self.own_contrast:
            rows = rows - rows.mean(dim=(1, 2), keepdim=True)
            rows = rows / rows.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(MIN_DEVIATION)
        else:
            rows = rows * self.scale + self.shift
        x = rows.reshape(-1, self.size, self.size, self.channels).permute(0, 3, 1, 2)
        outputs, relative = scaled_outputs(self.net, x, self.temperature_curve)
        logits, both = split_outputs(outputs, self.classes, has_va_head=self.has_va_head)
        probabilities = torch.softmax(logits / (self.temperature * relative), dim=1)
        return probabilities if both is None else (probabilities, both)


class _GlobalMean(nn.Module):
    """Replacement of `nn.AdaptiveAvgPool2d(1)`, exported by torch as a dozen operators: 4 % of the time of a face."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class _OneChannel(nn.Module):
    """A convolution of three equal channels as one of a single channel, repeated since int8 kernels read four."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        conv.weight = nn.Parameter(conv.weight.mean(dim=1, keepdim=True).repeat(1, 4, 1, 1) * 0.75)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(torch.cat((x, x, x, x), dim=1))
        return out


@torch.no_grad()
def _of_one_channel(net: nn.Module, size: int) -> nn.Module | None:
    """Return a copy of `net` for one grey channel instead of three equal ones; None if that changes its outputs.

    Normalising and resizing one channel takes a third of the time.
    """
    narrow, x = copy.deepcopy(net), torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    for module in list(narrow.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and child.weight.shape[1] == 3:
                setattr(module, name, _OneChannel(child))
    try:
        same = torch.allclose(narrow(x), net(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    except Exception:  # nets that need three channels raise various exceptions
        return None
    return narrow if same else None


@torch.inference_mode()
def torch_outputs(classifier: EmotionClassifier, crops: UInt8) -> tuple[Float32, Float32 | None]:
    """Return the checkpoint's probabilities (N, K), and valence and arousal (N, 2) or None."""
    classifier.cpu().eval()
    parts = [classifier.predict_heads(torch.from_numpy(crops[at : at + 32])) for at in range(0, len(crops), 32)]
    probabilities = torch.softmax(torch.cat([logits for logits, _ in parts]) / classifier.temperature, dim=1)
    both = [pair for _, pair in parts if pair is not None]
    return probabilities.numpy(), torch.cat(both).numpy() if both else None


def to_onnx(classifier: EmotionClassifier) -> "onnx.ModelProto":
    """Export the classifier's `ProbabilityGraph` to ONNX in float32, with batch norms folded into convolutions.

    Input ``crops``, uint8 (N, size, size, 3); outputs ``probabilities``, float32 (N, K), and with a valence/arousal
    head ``valence_arousal``, float32 (N, 2).
    """
    graph, step = ProbabilityGraph(classifier).eval(), "torch.export"
    example = torch.zeros(2, graph.size, graph.size, 3, dtype=torch.uint8)
    try:
        with _quiet():
            dynamic = {"crops": {0: torch.export.Dim("N", min=1)}}
            program, step = torch.export.export(graph, (example,), dynamic_shapes=dynamic), "torch.onnx"
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["crops"],
                output_names=list(OUTPUTS[: len(program.graph_signature.user_outputs)]),
                verbose=False,
            )
    except Exception as problem:  # both raise a dozen kinds, without a common base
        reason = str(problem).strip().split("\n")[0] or type(problem).__name__
        raise EmodetError(f"the net cannot be exported: {step}: {reason}") from problem
    assert exported is not None  # only without dynamo
    return _tidied(exported.model_proto)


def _tidied(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Remove the exporter's notes, which contain source lines and paths, and name the batch axis N."""
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for each in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del each.metadata_props[:]
        each.doc_string = ""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == symbol:
                dimension.dim_param = "N"
    model.producer_name, graph.name = "emodet", "emodet"
    model.ir_version = min(model.ir_version, _IR_VERSION)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress and rewriting warnings of the exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def calibration_rows(candidates: Int64, count: int) -> Int64:
    """Return `count` of the training faces, int64 (N,), for calibration; deterministic and sorted."""
    return np.sort(np.random.default_rng(0).choice(candidates, min(count, len(candidates)), replace=False))


def trunk_nodes(model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    """Return the convolutions, and the pools, additions, ReLUs and ReLU6s whose inputs all come from these."""
    inside: set[str] = set()
    nodes = []
    for node in model.graph.node:
        fed = node.input[:1] if node.op_type == "Clip" else node.input
        if node.op_type == "Conv" or (node.op_type in TRUNK_OPERATORS and inside.issuperset(fed)):
            inside.update(node.output)
            nodes.append(node)
    return nodes


def quantise(model: "onnx.ModelProto", crops: UInt8, *, reduce_range: bool = True) -> "onnx.ModelProto":
    """Quantise the trunk of an fp32 model to int8; the rest stays float32.

    Args:
        model: Result of `to_onnx`, with folded batch norms.
        crops: Training faces for the activation ranges, uint8 (N, H, W, 3) RGB.
        reduce_range: Whether to use 7-bit weights, except for depthwise convolutions, which need 8 bits. On x86 without
            VNNI, sums of two 8-bit products saturate at 16 bits, except in kernels of depthwise convolutions.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    trunk = trunk_nodes(model)
    if not trunk:
        raise EmodetError("formats=int8: the net has no convolution to quantise; use formats=[fp32]")
    # Marks folded batch norms; otherwise the quantiser advises to fold them.
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    onnx.helper.set_model_props(marked, {"onnx.quant.pre_process": "onnxruntime.quant"})
    eight_bits = [{"axis": 0, "quant_type": QuantType.QInt8, "symmetric": True, "reduce_range": False}]
    depthwise = {
        node.input[1]: eight_bits for node in trunk if any(it.name == "group" and it.i > 1 for it in node.attribute)
    }
    batches = ({model.graph.input[0].name: crops[at : at + 32]} for at in range(0, len(crops), 32))
    with tempfile.TemporaryDirectory(prefix="emodet-quantise-") as folder:
        file = Path(folder) / "int8.onnx"
        quantize_static(
            marked,
            str(file),
            SimpleNamespace(get_next=lambda: next(batches, None)),  # ONNX Runtime's `CalibrationDataReader`
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(TRUNK_OPERATORS),
            nodes_to_quantize=[node.name for node in trunk],
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"TensorQuantOverrides": depthwise},
        )
        quantised = onnx.load(file)
    del quantised.metadata_props[:]
    quantised.producer_name, quantised.graph.name = "emodet", "emodet"
    quantised.ir_version = min(quantised.ir_version, model.ir_version)
    return quantised
