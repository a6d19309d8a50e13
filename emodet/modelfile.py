"""The model file: one `.onnx` that describes itself.

The graph takes ``crops``, uint8 (N, size, size, 3) RGB with any N, and returns ``probabilities``, float32 (N, K), and
optionally ``valence_arousal``, float32 (N, 2) in -1..1. Everything else that a program needs is in the file's metadata,
as JSON under keys that begin with ``emodet.``. ``emodet.checksum`` is the SHA-256 of the bytes before the metadata.
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emodet.arrays import Float32, UInt8
from emodet.errors import EmodetError, errors_of, os_errors
from emodet.files import expanded, read_regular, write_atomically
from emodet.modelinfo import CHECKSUM, PREFIX, ModelInfo, Precision, TrainingData, parsed
from emodet.onnx_session import open_session

if TYPE_CHECKING:
    import onnx

__all__ = ["DEFAULT_MODEL", "SHIPPED", "ModelFile", "ModelInfo", "Precision", "TrainingData"]
__all__ += ["model_path", "read_model_file", "write_model_file"]

_WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = {
    "int8": _WEIGHTS / "emodet-int8.onnx",
    "accurate": _WEIGHTS / "emodet-accurate-int8.onnx",
    "fp32": _WEIGHTS / "emodet-fp32.onnx",
}
"""Model files of the package by name: ``int8`` and ``fp32`` contain the residual CNN of 1,979,080 parameters,
``accurate`` a MobileNet of 3,217,224, pretrained on face identity and fine-tuned."""

DEFAULT_MODEL = "int8"
"""Name of the default model file in `SHIPPED`."""

_MAX_FILE = 2**31 - 1  # limit of a protocol buffer
_TOLERANCE = 1e-2  # of a row's sum; quantised graphs round
_INPUT = "crops"


class ModelFile:
    """An opened model file: face crops in, probabilities out. Safe to call from several threads; can be pickled.

    Attributes:
        name: Name for messages.
        info: Metadata.
        providers: ONNX Runtime's execution providers in use.
    """

    def __init__(
        self, data: bytes, *, name: str = "model file", providers: Sequence[str] = ("cpu",), threads: int | None = None
    ) -> None:
        """Open the bytes of a model file; arguments and errors as in `read_model_file`."""
        self.name, self._data = name, data
        self._session = open_session(data, name, providers, threads)
        self._reopen = functools.partial(ModelFile, name=name, providers=tuple(providers), threads=threads)
        pairs = self._session.get_modelmeta().custom_metadata_map
        try:
            _check_checksum(data, pairs.get(PREFIX + CHECKSUM))
            self.info = ModelInfo.from_metadata(pairs)
            if self.info.format_version > 1 and PREFIX + CHECKSUM not in pairs:
                # The writer also refuses NaN, which a quantised graph hides in wrong results.
                raise EmodetError(f"its metadata lacks {PREFIX}{CHECKSUM}: another program wrote it; export it again")
        except EmodetError as problem:
            raise EmodetError(f"{name}: {problem!s:.1000}") from None
        self.providers = tuple(self._session.get_providers())
        self._check_graph()

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, as 64 hexadecimal digits."""
        return hashlib.sha256(self._data).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, (self._data,)

    def run(self, crops: UInt8, *, batch_size: int = 64) -> tuple[Float32, Float32 | None]:
        """Run the graph on N >= 0 crops of `info.preprocessing.crop`, uint8 (N, size, size, 3) RGB.

        Returns:
            Probabilities, float32 (N, K), rows summing to 1, columns in the order of `info.class_names`; and valence
            and arousal, float32 (N, 2) in -1..1, or None without such a head.

        Raises:
            EmodetError: The crops have another shape or dtype, or the graph's outputs are not probabilities.
        """
        size = self.info.preprocessing.size
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
            raise EmodetError(
                f"crops have shape {crops.shape} and dtype {crops.dtype}: {self.name} takes uint8 RGB (N, {size}, "
                f"{size}, 3), as info.preprocessing.crop returns them"
            )
        batches = (crops[at : at + batch_size] for at in range(0, len(crops), batch_size))
        parts = [self._run(np.ascontiguousarray(batch)) for batch in batches]
        widths = (len(self.info.class_names), 2)
        none = [np.zeros((0, width), dtype=np.float32) for width in widths[: len(self.info.outputs)]]
        probabilities, *more = [np.concatenate(columns) for columns in zip(*parts, strict=True)] or none
        return probabilities, more[0] if more else None

    def probabilities(self, crops: UInt8, *, batch_size: int = 64) -> Float32:
        """Return the first output of `run`: float32 (N, K)."""
        return self.run(crops, batch_size=batch_size)[0]

    def _run(self, crops: UInt8) -> list[Float32]:
        count, classes = len(crops), len(self.info.class_names)
        # onnxruntime's exceptions have no common base.
        with errors_of(self.name, f"the graph fails on crops of shape {crops.shape}", Exception):
            results: list[Float32] = self._session.run(list(self.info.outputs), {_INPUT: crops})
        rows = results[0]
        if rows.shape != (count, classes):
            raise EmodetError(
                f"{self.name}: probabilities of {count} crops have shape {rows.shape}, but there are {classes} classes"
            )
        sums = rows.sum(axis=1)
        # Comparisons with NaN are false.
        if not ((rows >= -_TOLERANCE).all() and (np.abs(sums - 1) <= _TOLERANCE).all()):
            raise EmodetError(
                f"{self.name}: its probabilities range from {rows.min()} to {rows.max()}, and those of a crop sum to "
                f"{sums.min()} to {sums.max()}; expected 0 to 1 and a sum of 1: the net or its export is faulty"
            )
        if len(results) > 1:
            pairs = results[1]
            if pairs.shape != (count, 2) or not (np.abs(pairs) <= 1 + _TOLERANCE).all():
                raise EmodetError(
                    f"{self.name}: its output valence_arousal has shape {pairs.shape} and values from {pairs.min()} to "
                    f"{pairs.max()}; expected ({count}, 2) from -1 to 1"
                )
        return results

    def _check_graph(self) -> None:
        size, name = self.info.preprocessing.size, self.name
        inputs = [(each.name, each.type, list(each.shape)) for each in self._session.get_inputs()]
        if len(inputs) != 1 or inputs[0][:2] != (_INPUT, "tensor(uint8)") or len(inputs[0][2]) != 4:
            raise EmodetError(f"{name}: its inputs are {inputs}; expected one uint8 input crops (N, size, size, 3)")
        batch, *rest = inputs[0][2]
        if isinstance(batch, int):
            raise EmodetError(f"{name}: its batch size is fixed at {batch}; expected a dynamic one")
        if any(isinstance(side, int) and side != wanted for side, wanted in zip(rest, (size, size, 3), strict=True)):
            raise EmodetError(f"{name}: its input is {rest}, but its preprocessing makes crops of ({size}, {size}, 3)")
        outputs = {each.name: each.type for each in self._session.get_outputs()}
        if outputs != dict.fromkeys(self.info.outputs, "tensor(float)"):
            raise EmodetError(f"{name}: its outputs are {outputs}, but its metadata names {list(self.info.outputs)}")
        # Declared shapes may be symbols; results are not.
        crops = np.zeros((2, size, size, 3), dtype=np.uint8)
        crops[1] = 255
        self._run(crops)


def read_model_file(
    path: str | os.PathLike[str], *, providers: Sequence[str] = ("cpu",), threads: int | None = None
) -> ModelFile:
    """Open a model file by its path, or one of `SHIPPED` by its name; `providers` and `threads` as in `open_session`.

    Raises:
        EmodetError: The file is missing, is not an ONNX model, is truncated, differs from its checksum, lacks emodet's
            metadata, has a newer format, stores weights in other files, or its graph and metadata disagree; or a
            provider is not installed.
    """
    place = SHIPPED[path] if isinstance(path, str) and path in SHIPPED else Path(path)
    name = f"shipped model file {place.name}" if place in SHIPPED.values() else f"model file {place}"
    with os_errors(f"{name}: cannot be read"):
        data = read_regular(place, _MAX_FILE)
    if not data:
        raise EmodetError(f"{name}: the file is empty")
    return ModelFile(data, name=name, providers=providers, threads=threads)


def model_path(model: str | os.PathLike[str] = DEFAULT_MODEL) -> Path:
    """Return the path of a model file: one of `SHIPPED` by its name, which precedes a file of that name, or a path.

    Raises:
        EmodetError: The file does not exist, or is a run folder, a checkpoint or an image.
    """
    if isinstance(model, str) and model in SHIPPED:
        return SHIPPED[model]
    place = expanded(model)
    if place.is_dir() or place.suffix in (".ckpt", ".pt", ".pth"):
        raise EmodetError(
            f"model={model}: a run or checkpoint, not a model file; export it first: "
            f"python -m emodet.export checkpoint={model} output=out, then use out/emodet-int8.onnx"
        )
    if not place.exists():
        raise EmodetError(f"model={model}: no such file; the shipped model files are {', '.join(SHIPPED)}")
    if place.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"):
        raise EmodetError(f"model={model}: an image, not a model file; Recognizer()({str(model)!r}) recognises it")
    return place


def write_model_file(model: "onnx.ModelProto | bytes", info: ModelInfo, path: str | os.PathLike[str]) -> Path:
    """Write `model_file_bytes` to `path`, atomically, after opening and checking them as a `ModelFile`.

    Raises:
        EmodetError: Graph and `info` disagree, or the file cannot be written.
    """
    place = Path(path)
    data = model_file_bytes(model, info, str(place))
    ModelFile(data, name=str(place))
    with os_errors(f"{place}: could not be written"):
        write_atomically(place, data)
    return place


def model_file_bytes(model: "onnx.ModelProto | bytes", info: ModelInfo, name: str = "model file") -> bytes:
    """Serialise an ONNX graph with `info` and a checksum; the module's docstring lists its inputs and outputs.

    Other metadata of the graph is preserved, except keys that begin with ``emodet.``. Raises `EmodetError` if the graph
    is not valid ONNX, or a weight or scale is not finite.
    """
    import onnx

    proto = onnx.ModelProto()
    if isinstance(model, bytes):
        proto.ParseFromString(model)
    else:
        proto.CopyFrom(model)
    kept = {pair.key: pair.value for pair in proto.metadata_props if not pair.key.startswith(PREFIX)}
    del proto.metadata_props[:]
    with errors_of(name, "the graph is not valid ONNX", onnx.checker.ValidationError):
        onnx.checker.check_model(proto)
    for tensor in proto.graph.initializer:
        # Quantised layers turn NaN into numbers, so outputs do not show it. Data in other files is rejected later.
        is_float = tensor.data_type == onnx.TensorProto.FLOAT and not tensor.external_data
        if is_float and not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
            raise EmodetError(f"{name}: {tensor.name} contains NaN or infinity; the net or its quantisation is faulty")
    graph = proto.SerializeToString(deterministic=True)
    checksum = {PREFIX + CHECKSUM: json.dumps({"bytes": len(graph), "sha256": hashlib.sha256(graph).hexdigest()})}
    metadata = onnx.ModelProto()
    onnx.helper.set_model_props(metadata, kept | info.to_metadata() | checksum)
    # Concatenated protocol buffers are read as one message.
    data: bytes = graph + metadata.SerializeToString(deterministic=True)
    return data


def _check_checksum(data: bytes, text: str | None) -> None:
    if text is None:
        return
    values = parsed(CHECKSUM, text)
    if not isinstance(values, dict) or not isinstance(count := values.get("bytes"), int) or not 0 < count < len(data):
        raise EmodetError(f"its metadata is damaged ({PREFIX}{CHECKSUM}={text[:80]})")
    digest = hashlib.sha256(data[:count]).hexdigest()
    if digest != values.get("sha256"):
        raise EmodetError(
            f"its graph has SHA-256 {digest}, not {values.get('sha256')!s:.80} as in its metadata: it was changed "
            "after export or damaged; copy or export it again"
        )
