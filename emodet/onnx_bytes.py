"""Look into an ONNX file's bytes, and loosen its shapes, without the package `onnx`.

ONNX Runtime cannot say what a file holds before it has loaded it, follows references to other files while it does,
and cannot edit one. The three things needed here are small next to installing `onnx`, so they read the protocol
buffer's wire format directly (https://protobuf.dev/programming-guides/encoding, field numbers of `onnx.proto3`).
"""

from collections.abc import Iterator, Mapping

__all__ = ["external_files", "metadata", "with_free_shapes"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUES = 5, 11, 12, 13
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14

# Which fields of a message lead to tensors, and what kind of message they are.
_LEADS_TO_TENSORS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DEEPEST = 64

Value = int | memoryview


def metadata(data: bytes) -> dict[str, str]:
    """The file's own key-value pairs, before anything of it is run.

    Args:
        data: A whole `.onnx` file.

    Returns:
        `metadata_props`; of a key that comes twice the last.

    Raises:
        ValueError: The bytes are not an ONNX model, or end early.
    """
    found: dict[str, str] = {}
    has_graph = False
    for number, value in _fields(memoryview(data)):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            has_graph = True
        elif number == _MODEL_METADATA and isinstance(value, memoryview):
            pair = {key: part for key, part in _fields(value) if isinstance(part, memoryview)}
            found[str(pair.get(1, b""), "utf-8")] = str(pair.get(2, b""), "utf-8")
    if not has_graph:
        raise ValueError("there is no graph in it")
    return found


def external_files(data: bytes) -> tuple[str, ...]:
    """Names of the files beside the model file that its tensors lie in; empty where it is complete in itself.

    Raises:
        ValueError: The bytes are not an ONNX model, or end early.
    """
    return tuple(sorted(set(_external(memoryview(data), "model", 0))))


def with_free_shapes(data: bytes) -> bytes:
    """The same network with no shape fixed at its inputs and outputs, and with weights that are constants.

    Old exports fix the batch and the picture size they were traced with, and list every weight as an input, which
    also keeps the runtime from folding batch norms into convolutions.

    Raises:
        ValueError: The bytes are not an ONNX model, or end early.
    """
    changed = bytearray()
    for number, value in _fields(memoryview(data)):
        if number == _MODEL_GRAPH and isinstance(value, memoryview):
            value = memoryview(_free_graph(value))
        changed += _encoded(number, value)
    return bytes(changed)


def _external(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("its graphs are nested too deeply")
    if kind == "tensor":
        elsewhere, named = False, "a file that it does not name"
        for number, value in _fields(message):
            if number == _TENSOR_LOCATION:
                elsewhere = elsewhere or value == 1
            elif number == _TENSOR_EXTERNAL and isinstance(value, memoryview):
                elsewhere = True
                pair = {key: bytes(part) for key, part in _fields(value) if isinstance(part, memoryview)}
                if pair.get(1) == b"location":
                    named = pair.get(2, b"").decode("utf-8", "replace")
        if elsewhere:
            yield named
        return
    leads = _LEADS_TO_TENSORS[kind]
    for number, value in _fields(message):
        if number in leads and isinstance(value, memoryview):
            yield from _external(value, leads[number], depth + 1)


def _free_graph(graph: memoryview) -> bytes:
    weights = {
        bytes(part)
        for number, value in _fields(graph)
        if number == _GRAPH_TENSOR and isinstance(value, memoryview)
        for key, part in _fields(value)
        if key == _TENSOR_NAME and isinstance(part, memoryview)
    }
    changed = bytearray()
    for number, value in _fields(graph):
        if number == _GRAPH_VALUES:
            continue  # shapes of values in between, which follow from the traced size
        if number in (_GRAPH_INPUT, _GRAPH_OUTPUT) and isinstance(value, memoryview):
            name, element = _name_and_type(value)
            if name in weights:
                continue
            tensor = _encoded(1, element)
            value = memoryview(_encoded(1, memoryview(name)) + _encoded(2, memoryview(_encoded(1, memoryview(tensor)))))
        changed += _encoded(number, value)
    return bytes(changed)


def _name_and_type(value_info: memoryview) -> tuple[bytes, int]:
    name, element = b"", 0
    for number, value in _fields(value_info):
        if number == 1 and isinstance(value, memoryview):
            name = bytes(value)
        elif number == 2 and isinstance(value, memoryview):
            for kind, tensor in _fields(value):
                if kind == 1 and isinstance(tensor, memoryview):
                    element = next((part for key, part in _fields(tensor) if key == 1 and isinstance(part, int)), 0)
    return name, element


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """Field number and value of each field: an int for a varint, the bytes for everything else."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("it is not a protocol buffer")
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError("it is not a protocol buffer")
        if at + length > end:
            raise ValueError(f"it ends {at + length - end:,} bytes early")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is not a protocol buffer")


def _encoded(number: int, value: Value) -> bytes:
    # Fixed-width fields come back as bytes with a length, which would be wrong; ONNX has none outside of tensors,
    # and tensors are copied whole.
    if isinstance(value, int):
        return _encoded_varint(number << 3 | _VARINT) + _encoded_varint(value)
    return _encoded_varint(number << 3 | _BYTES) + _encoded_varint(len(value)) + bytes(value)


def _encoded_varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
