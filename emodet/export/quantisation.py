"""int8 for the convolutional trunk: weights per channel, activation ranges from calibration faces."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from emodet.arrays import Int64, UInt8
from emodet.errors import EmodetError

if TYPE_CHECKING:
    import onnx


TRUNK_OPERATORS = ("Conv", "MaxPool", "Add", "Relu")
"""What becomes int8. A dense head or a softmax in int8 would put probabilities on a grid of 1/255."""


def calibration_rows(candidates: Int64, count: int) -> Int64:
    """`count` training faces of int64 (N,) for calibration: the same ones every time, in order."""
    return np.sort(np.random.default_rng(0).choice(candidates, min(count, len(candidates)), replace=False))


def trunk_nodes(model: "onnx.ModelProto") -> list[str]:
    """Names of the convolutions, and of the pools, additions and ReLUs that follow nothing but these."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inside: set[str] = set()
    names: list[str] = []
    for node in model.graph.node:
        fed = [name for name in node.input if name and name not in constants]
        follows = len(fed) == len(node.input) and all(name in inside for name in fed)
        if node.op_type == "Conv" or (node.op_type in TRUNK_OPERATORS and follows):
            inside.update(node.output)
            names.append(node.name)
    return names


def quantise(model: "onnx.ModelProto", crops: UInt8, *, reduce_range: bool = True) -> "onnx.ModelProto":
    """A copy of an fp32 model whose trunk computes in int8; the rest stays float32.

    Args:
        model: From `emodet.export.graph.to_onnx`, batch norms folded.
        crops: uint8 (N, H, W, 3) RGB: training faces, whose activations set the ranges.
        reduce_range: Weights of 7 bits. On x86 without VNNI, sums of two products of 8 bits saturate at 16 bits; with
            7 bits they cannot.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    trunk = trunk_nodes(model)
    if not trunk:
        raise EmodetError("formats=int8: the net has no convolution to quantise; use formats=[fp32]")
    # The mark of folded batch norms; without it the quantiser advises to fold them.
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    onnx.helper.set_model_props(marked, {"onnx.quant.pre_process": "onnxruntime.quant"})
    batches = ({model.graph.input[0].name: crops[at : at + 32]} for at in range(0, len(crops), 32))
    with tempfile.TemporaryDirectory(prefix="emodet-quantise-") as folder:
        file = Path(folder) / "int8.onnx"
        quantize_static(
            marked,
            str(file),
            SimpleNamespace(get_next=lambda: next(batches, None)),  # ONNX Runtime's `CalibrationDataReader`
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(TRUNK_OPERATORS),
            nodes_to_quantize=trunk,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantised = onnx.load(file)
    del quantised.metadata_props[:]
    quantised.producer_name, quantised.graph.name = "emodet", "emodet"
    quantised.ir_version = min(quantised.ir_version, model.ir_version)
    return quantised
