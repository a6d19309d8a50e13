"""The model file: one `.onnx` that describes itself; what it must say, and what is refused.

The graph takes ``crops``, uint8 (N, size, size, 3) RGB with any N, and returns ``probabilities``, float32 (N, K),
and, where it was trained, ``valence_arousal``, float32 (N, 2) in -1..1. Everything else that a program needs to use
it stands in the file's metadata, as JSON under keys that begin with ``emodet.``.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from emodet import onnx_bytes
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = [
    "DEFAULT_PRECISION",
    "FORMAT_VERSION",
    "PROVIDERS",
    "ModelFile",
    "ModelInfo",
    "TrainingData",
    "execution_providers",
    "read_model_file",
    "session_options",
    "shipped_model",
    "write_model_file",
]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Precision = Literal["fp32", "int8"]

FORMAT_VERSION = 1
"""Raised when a file written from now on could be misunderstood by a reader of before."""

DEFAULT_PRECISION: Precision = "int8"
"""Which of the two shipped model files is used when none is named."""

PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""What may run the graph, and what ONNX Runtime calls it. Only ``cpu`` is in every build of it."""

_PREFIX = "emodet."
_LARGEST_FILE = 2**31 - 1  # the limit of a protocol buffer
_INPUT, _PROBABILITIES, _VALENCE_AROUSAL = "crops", "probabilities", "valence_arousal"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """One data set that the net was trained on, and under which terms its owners let it be used."""

    name: str
    terms: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model file says about itself.

    Attributes:
        class_names: The classes in the order of the columns of ``probabilities``; names of `EMOTIONS`, each once.
        preprocessing: How to cut a face for it.
        temperature: What the logits are divided by before the softmax, inside the graph; for the record only.
        training_data: What it was trained on.
        metrics: Split (``test``, or as the report calls it) to metric to value, of this very file's precision.
        commit: The project's commit that wrote it, empty if not known.
        fingerprint: The pack's fingerprint that it was trained on, empty if not known.
        precision: ``fp32``, or ``int8`` for a quantised trunk.
        outputs: ``probabilities``, and ``valence_arousal`` where it has that head.
        format_version: `FORMAT_VERSION` of its writer.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    training_data: tuple[TrainingData, ...]
    metrics: Mapping[str, Mapping[str, float]] = field(hash=False)
    commit: str
    fingerprint: str
    precision: Precision
    outputs: tuple[str, ...] = (_PROBABILITIES,)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        names = self.class_names
        unknown = [name for name in names if name not in EMOTIONS]
        if unknown:
            raise EmodetError(f"class_names={list(names)}: {unknown} are none of {', '.join(EMOTIONS)}")
        if len(set(names)) != len(names) or len(names) < 2:
            raise EmodetError(f"class_names={list(names)}: two or more classes, each once, are needed")
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise EmodetError(f"temperature={self.temperature!r}: a number above 0 is needed")
        if self.precision not in ("fp32", "int8"):
            raise EmodetError(f"precision={self.precision!r}: there are fp32 and int8")
        if self.outputs not in ((_PROBABILITIES,), (_PROBABILITIES, _VALENCE_AROUSAL)):
            raise EmodetError(f"outputs={list(self.outputs)}: probabilities, then perhaps valence_arousal, are known")
        for split, values in self.metrics.items():
            for name, value in values.items():
                if not _is_number(value):
                    raise EmodetError(f"metrics[{split!r}][{name!r}]={value!r}: a finite number is needed")
        if isinstance(self.format_version, bool) or not isinstance(self.format_version, int):
            raise EmodetError(f"format_version={self.format_version!r}: a whole number is needed")

    def to_metadata(self) -> dict[str, str]:
        """Key to JSON text, as it stands in the file's `metadata_props`; `from_metadata` reads it back."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["preprocessing"] = self.preprocessing.to_dict()
        values["training_data"] = [dataclasses.asdict(data) for data in self.training_data]
        values["metrics"] = {split: dict(numbers) for split, numbers in self.metrics.items()}
        return {
            _PREFIX + key: json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
            for key, value in values.items()
        }

    @classmethod
    def from_metadata(cls, pairs: Mapping[str, str]) -> "ModelInfo":
        """The inverse of `to_metadata`; keys without the prefix ``emodet.`` are left alone.

        Raises:
            EmodetError: There is no such metadata, it is of a newer format, or a value is missing or not what it
                should be.
        """
        ours = {key.removeprefix(_PREFIX): text for key, text in pairs.items() if key.startswith(_PREFIX)}
        if not ours:
            raise EmodetError("it has no emodet metadata: it was not written by `python -m emodet.export`")
        try:
            values = {key: json.loads(text) for key, text in ours.items()}
        except json.JSONDecodeError as problem:
            raise EmodetError(f"its metadata is damaged ({problem})") from None
        version = values.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise EmodetError(
                f"it is of format {version}, newer than the format {FORMAT_VERSION} that this version of emodet reads; "
                "upgrade emodet"
            )
        wanted = {item.name for item in dataclasses.fields(cls)}
        if set(values) != wanted:
            raise EmodetError(
                f"its metadata lacks {sorted(wanted - set(values)) or 'nothing'} "
                f"and has {sorted(set(values) - wanted) or 'nothing'} that is not known"
            )
        try:
            return cls(
                class_names=_texts(values["class_names"]),
                preprocessing=Preprocessing.from_dict(dict(values["preprocessing"])),
                temperature=values["temperature"],
                training_data=tuple(TrainingData(**data) for data in values["training_data"]),
                metrics={str(split): dict(numbers) for split, numbers in dict(values["metrics"]).items()},
                commit=str(values["commit"]),
                fingerprint=str(values["fingerprint"]),
                precision=values["precision"],
                outputs=_texts(values["outputs"]),
                format_version=values["format_version"],
            )
        except (TypeError, ValueError, AttributeError) as problem:
            raise EmodetError(f"its metadata is damaged ({problem})") from None


class ModelFile:
    """An opened model file: face crops in, probabilities out. Safe to call from several threads.

    Attributes:
        name: Where it came from, for messages.
        info: What it says about itself.
        providers: What runs it, in ONNX Runtime's words.
    """

    def __init__(
        self, data: bytes, *, name: str = "model file", providers: Sequence[str] = ("cpu",), threads: int | None = None
    ) -> None:
        """Open a model file that has been read into memory; `read_model_file` takes a path.

        Raises:
            EmodetError: As `read_model_file`.
        """
        self.name = name
        try:
            pairs, elsewhere = onnx_bytes.metadata(data), onnx_bytes.external_files(data)
        except ValueError as problem:
            raise EmodetError(f"{name}: not an ONNX model, or cut off ({problem})") from None
        if elsewhere:
            raise EmodetError(f"{name}: its weights lie in {', '.join(elsewhere)}; a model file is one file")
        try:
            self.info = ModelInfo.from_metadata(pairs)
        except EmodetError as problem:
            raise EmodetError(f"{name}: {problem}") from None
        self._session = _session(data, name, providers, threads)
        self.providers = tuple(self._session.get_providers())
        _check_shapes(self._session, self.info, name)

    def run(self, crops: UInt8, *, batch_size: int = 64) -> tuple[Float32, Float32 | None]:
        """Run the graph on faces that `info.preprocessing.crop` has cut.

        Args:
            crops: uint8, (N, size, size, 3), RGB; N may be 0.
            batch_size: How many go through the graph at once.

        Returns:
            Probabilities, float32 (N, K), rows summing to 1, columns in the order of `info.class_names`; and
            valence and arousal, float32 (N, 2) in -1..1, or None where the file has no such head.

        Raises:
            EmodetError: The crops have another shape or type.
        """
        size = self.info.preprocessing.size
        if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (size, size, 3):
            raise EmodetError(
                f"crops have shape {crops.shape} and type {crops.dtype}: {self.name} takes uint8 RGB of shape "
                f"(N, {size}, {size}, 3), as info.preprocessing.crop cuts them"
            )
        parts = [
            self._session.run(list(self.info.outputs), {_INPUT: np.ascontiguousarray(crops[at : at + batch_size])})
            for at in range(0, len(crops), batch_size)
        ]
        if not parts:
            empty = np.zeros((0, len(self.info.class_names)), dtype=np.float32)
            return empty, np.zeros((0, 2), dtype=np.float32) if len(self.info.outputs) > 1 else None
        joined = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        return joined[0], joined[1] if len(joined) > 1 else None

    def probabilities(self, crops: UInt8, *, batch_size: int = 64) -> Float32:
        """The first output of `run`: float32 (N, K)."""
        return self.run(crops, batch_size=batch_size)[0]


def read_model_file(
    path: str | os.PathLike[str], *, providers: Sequence[str] = ("cpu",), threads: int | None = None
) -> ModelFile:
    """Open a model file, and refuse one that could be misunderstood.

    Args:
        path: An `.onnx` file that `write_model_file` wrote.
        providers: Names of `PROVIDERS`, the preferred first.
        threads: How many threads one call may use; None leaves it to ONNX Runtime (one per core).

    Raises:
        EmodetError: The file is not there, is no ONNX model, is cut off, lacks emodet's metadata, is of a newer
            format, names classes that are not known, keeps weights in other files, or contradicts itself in its
            shapes; or a provider is not installed.
    """
    place = Path(path)
    try:
        if place.stat().st_size > _LARGEST_FILE:
            raise EmodetError(f"model file {place}: larger than an ONNX model can be")
        data = place.read_bytes()
    except OSError as problem:
        raise EmodetError(f"model file {place}: {problem.strerror or problem}") from None
    if not data:
        raise EmodetError(f"model file {place}: the file is empty")
    return ModelFile(data, name=f"model file {place}", providers=providers, threads=threads)


def shipped_model(
    precision: Precision = DEFAULT_PRECISION, *, providers: Sequence[str] = ("cpu",), threads: int | None = None
) -> ModelFile:
    """Open a model file that comes with the package.

    Raises:
        EmodetError: This installation has none; or as `read_model_file`.
    """
    import importlib.resources

    file = importlib.resources.files("emodet") / "weights" / f"emodet-{precision}.onnx"
    if not file.is_file():
        raise EmodetError(
            f"this installation of emodet has no {precision} model file; name one with model=FILE.onnx, "
            "as `python -m emodet.export` writes it"
        )
    name = f"shipped model file {file.name}"
    return ModelFile(file.read_bytes(), name=name, providers=providers, threads=threads)


def write_model_file(model: "onnx.ModelProto | bytes", info: ModelInfo, path: str | os.PathLike[str]) -> Path:
    """Put `info` into an ONNX model and write both as one file, whole or not at all.

    The file is opened as a reader would before it gets its name, so what is written can be read.

    Args:
        model: The graph, as the module's first lines describe it.
        info: What the file is to say about itself. Metadata that is already in `model` is kept under its own keys.
        path: Where to write; a file that is there is replaced.

    Returns:
        `path`.

    Raises:
        EmodetError: The graph is not what `info` says, or the file cannot be written.
    """
    import onnx

    place = Path(path)
    proto = onnx.ModelProto()
    if isinstance(model, bytes):
        proto.ParseFromString(model)
    else:
        proto.CopyFrom(model)
    kept = {pair.key: pair.value for pair in proto.metadata_props if not pair.key.startswith(_PREFIX)}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, kept | info.to_metadata())
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as problem:
        raise EmodetError(f"{place}: the graph is not valid ONNX ({problem})") from None
    data = proto.SerializeToString(deterministic=True)
    ModelFile(data, name=str(place))
    try:
        _write_whole(data, place)
    except OSError as problem:
        raise EmodetError(f"{place}: could not be written ({problem.strerror or problem})") from None
    return place


def _session(data: bytes, name: str, providers: Sequence[str], threads: int | None) -> "onnxruntime.InferenceSession":
    import onnxruntime

    wanted = execution_providers(providers)
    options = session_options(threads)
    try:
        session = onnxruntime.InferenceSession(data, options, providers=wanted)
    except Exception as problem:  # onnxruntime raises a dozen kinds of its own, without a common base
        raise EmodetError(f"{name}: ONNX Runtime cannot load it ({problem})") from None
    missing = [provider for provider in wanted if provider not in session.get_providers()]
    if missing:
        raise EmodetError(
            f"providers={list(providers)}: ONNX Runtime could not start {', '.join(missing)} here; "
            "see its messages above, or use cpu"
        )
    return session


def execution_providers(providers: Sequence[str]) -> list[str]:
    """Our names for providers in ONNX Runtime's words, checked against what is installed.

    Raises:
        EmodetError: One is not known, or not in the installed ONNX Runtime.
    """
    import onnxruntime

    installed = set(onnxruntime.get_available_providers())
    at_hand = ", ".join(short for short, long in PROVIDERS.items() if long in installed)
    if isinstance(providers, str) or not providers:
        raise EmodetError(f"providers={providers!r}: a list of names is needed; at hand are {at_hand}")
    for short in providers:
        if short not in PROVIDERS:
            raise EmodetError(f"providers={list(providers)}: {short!r} is not known; at hand are {at_hand}")
        if PROVIDERS[short] not in installed:
            raise EmodetError(
                f"providers={list(providers)}: the installed ONNX Runtime has no {PROVIDERS[short]}; at hand are "
                f"{at_hand}. Other builds of it (onnxruntime-gpu, -directml, -openvino) have others"
            )
    return [PROVIDERS[short] for short in providers]


def session_options(threads: int | None) -> "onnxruntime.SessionOptions":
    """How every session of ONNX Runtime is set up here.

    Args:
        threads: How many threads one call may use; None leaves it to ONNX Runtime.

    Raises:
        EmodetError: `threads` is below 1.
    """
    import onnxruntime

    if threads is not None and threads < 1:
        raise EmodetError(f"threads={threads}: one or more are needed")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: they come as exceptions anyway
    options.intra_op_num_threads = threads or 0
    # Threads that spin while they wait take the cores from decoding, drawing and the other session: on two cores a
    # video with one face ran at 26 to 56 frames/s with spinning and at 64 to 84 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _check_shapes(session: "onnxruntime.InferenceSession", info: ModelInfo, name: str) -> None:
    size, classes = info.preprocessing.size, len(info.class_names)
    inputs = [(each.name, each.type, list(each.shape)) for each in session.get_inputs()]
    if len(inputs) != 1 or inputs[0][:2] != (_INPUT, "tensor(uint8)") or len(inputs[0][2]) != 4:
        raise EmodetError(f"{name}: its input is {inputs}; one uint8 input crops (N, size, size, 3) was expected")
    batch, *rest = inputs[0][2]
    if isinstance(batch, int):
        raise EmodetError(f"{name}: it takes exactly {batch} crops at once; any number was expected")
    if any(isinstance(has, int) and has != wants for has, wants in zip(rest, (size, size, 3), strict=True)):
        raise EmodetError(f"{name}: its input is {rest}, but its preprocessing makes crops of ({size}, {size}, 3)")
    outputs = {each.name: each.type for each in session.get_outputs()}
    if outputs != dict.fromkeys(info.outputs, "tensor(float)"):
        raise EmodetError(f"{name}: its outputs are {outputs}, but its metadata says float32 {list(info.outputs)}")
    # Declared shapes may be symbols; what two crops really give cannot be.
    crops = np.zeros((2, size, size, 3), dtype=np.uint8)
    crops[1] = 255
    try:
        results = dict(zip(info.outputs, session.run(list(info.outputs), {_INPUT: crops}), strict=True))
    except Exception as problem:  # as in _session
        raise EmodetError(f"{name}: its graph does not run on crops of ({size}, {size}, 3) ({problem})") from None
    found = results[_PROBABILITIES]
    if found.shape != (2, classes):
        raise EmodetError(
            f"{name}: it gives probabilities of shape {found.shape} for 2 crops, but names {classes} classes"
        )
    if not (np.isfinite(found).all() and (found >= 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-2)):
        raise EmodetError(f"{name}: its output called probabilities holds none: the rows sum to {found.sum(axis=1)}")
    if _VALENCE_AROUSAL in results and results[_VALENCE_AROUSAL].shape != (2, 2):
        shape = results[_VALENCE_AROUSAL].shape
        raise EmodetError(f"{name}: it gives valence_arousal of shape {shape} for 2 crops; (2, 2) was expected")
    if _VALENCE_AROUSAL in results and not (np.abs(results[_VALENCE_AROUSAL]) <= 1 + 1e-3).all():
        raise EmodetError(f"{name}: its output called valence_arousal leaves -1 to 1: {results[_VALENCE_AROUSAL]}")


def _write_whole(data: bytes, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{values!r} is not a list of names")
    return tuple(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
