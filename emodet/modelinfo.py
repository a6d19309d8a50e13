"""Metadata of a model file: its fields, their checks, and the JSON form."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emodet.emotions import checked_class_names
from emodet.errors import EmodetError, require
from emodet.preprocessing import Preprocessing, is_number

Precision = Literal["fp32", "int8"]

FORMAT_VERSION = 2
"""Increased when older readers could misunderstand newly written files."""

PREFIX = "emodet."
CHECKSUM = "checksum"

OUTPUTS = ("probabilities", "valence_arousal")
"""Names of a graph's outputs, in this order; the second only with a valence/arousal head."""

_SINCE_2 = {"temperature_curve", "class_shares", "min_confidence"}
_MAX_CHARACTERS = 1_000_000
_SHARES = {"accuracy", "f1", "recall", "precision", "ece"}  # words in the names of metrics from 0 to 1


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A data set that the net was trained on, and its owners' terms of use."""

    name: str
    terms: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Metadata of a model file.

    Attributes:
        class_names: Classes in the order of the columns of ``probabilities``; see `checked_class_names`.
        preprocessing: Geometry, colour and size of face crops.
        temperature: Divisor of the logits before the softmax; already applied inside the graph.
        temperature_curve: How the temperature depends on a face's features, see `emodet.models.nets`; already applied.
        class_shares: Share of each class in the training faces, in the order of `class_names`; empty if unknown.
        min_confidence: Threshold above which 95 % of the predictions on val are right; None if unknown or not reached.
        training_data: Data sets that the net was trained on.
        metrics: Value by split and metric, measured with this file's precision.
        commit: Commit of emodet that wrote it, or empty.
        fingerprint: Fingerprint of the pack that the net was trained on, or empty.
        precision: ``fp32``, or ``int8`` for a quantised trunk.
        outputs: ``probabilities``, and ``valence_arousal`` if the net has that head.
        format_version: `FORMAT_VERSION` of the writer.
    """

    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    training_data: tuple[TrainingData, ...]
    metrics: Mapping[str, Mapping[str, float]] = field(hash=False)
    commit: str
    fingerprint: str
    precision: Precision
    outputs: tuple[str, ...] = OUTPUTS[:1]
    temperature_curve: tuple[float, ...] = (1.0, 0.0)
    class_shares: tuple[float, ...] = ()
    min_confidence: float | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        names = checked_class_names(self.class_names, "class_names")
        fits = is_number(self.temperature) and 1e-3 <= self.temperature <= 1e3
        require(fits, "temperature", self.temperature, "a number from 0.001 to 1000")
        curve, shares, least = self.temperature_curve, self.class_shares, self.min_confidence
        fits = len(curve) == 2 and all(map(is_number, curve)) and 0 < curve[0] <= 1e6 and abs(curve[1]) <= 10
        require(fits, "temperature_curve", list(curve), "a number above 0, and one from -10 to 10")
        fits = len(shares) in (0, len(names)) and all(is_number(share) and 0 <= share <= 1 for share in shares)
        fits = fits and (not shares or abs(sum(shares) - 1) <= 1e-3)
        require(fits, "class_shares", list(shares), f"{len(names)} shares that sum to 1")
        fits = least is None or (is_number(least) and 0 <= least <= 1)
        require(fits, "min_confidence", least, "a probability from 0 to 1")
        require(self.precision in ("fp32", "int8"), "precision", self.precision, "fp32 or int8")
        fits = self.outputs in (OUTPUTS[:1], OUTPUTS)
        require(fits, "outputs", list(self.outputs), "probabilities, optionally valence_arousal")
        for split, values in self.metrics.items():
            for name, value in values.items():
                is_share = not _SHARES.isdisjoint(re.split("[_/ ]", name))
                fits = is_number(value) and (not is_share or 0 <= value <= 1)
                expected = "a number from 0 to 1" if is_share else "a finite number"
                require(fits, f"metrics[{split!r:.80}][{name!r:.80}]", value, expected)
        version = self.format_version
        fits = isinstance(version, int) and not isinstance(version, bool) and 1 <= version <= FORMAT_VERSION
        require(fits, "format_version", version, f"a whole number from 1 to {FORMAT_VERSION}")

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON types; the inverse of `from_dict`."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["preprocessing"] = self.preprocessing.to_dict()
        values["training_data"] = [dataclasses.asdict(data) for data in self.training_data]
        values["metrics"] = {split: dict(numbers) for split, numbers in self.metrics.items()}
        return values

    def to_metadata(self) -> dict[str, str]:
        """Return the JSON text of each key, as in the file's `metadata_props`; the inverse of `from_metadata`."""
        return {
            PREFIX + key: json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)
            for key, value in self.to_dict().items()
        }

    @classmethod
    def from_metadata(cls, pairs: Mapping[str, str]) -> "ModelInfo":
        """The inverse of `to_metadata`; keys without the prefix ``emodet.`` are ignored.

        Raises `EmodetError` if the metadata is missing, of a newer format, incomplete or invalid.
        """
        ours = {key.removeprefix(PREFIX): text for key, text in pairs.items() if key.startswith(PREFIX)}
        ours.pop(CHECKSUM, None)
        if not ours:
            raise EmodetError("it has no emodet metadata: it was not written by `python -m emodet.export`")
        values = {key: parsed(key, text) for key, text in ours.items()}
        version = values.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise EmodetError(
                f"its format_version {version} is newer than {FORMAT_VERSION}, which this emodet reads; upgrade emodet"
            )
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelInfo":
        """The inverse of `to_dict`; raises `EmodetError` if a key is missing or unknown, or a value is invalid."""
        known = {item.name for item in dataclasses.fields(cls)}
        lacking, unknown = known - _SINCE_2 - set(values), set(values) - known
        if lacking or unknown:
            raise EmodetError(
                f"its metadata lacks {sorted(lacking) or 'nothing'} and has unknown {sorted(unknown) or 'nothing'}"
            )
        read: dict[str, Callable[[Any], Any]] = {
            "class_names": _texts,
            "preprocessing": lambda value: Preprocessing.from_dict(dict(value)),
            "training_data": lambda value: tuple(
                TrainingData(**dict(zip(each, _texts([*each.values()]), strict=True))) for each in value
            ),
            "metrics": lambda value: {split: dict(numbers) for split, numbers in dict(value).items()},
            "commit": str,
            "fingerprint": str,
            "outputs": _texts,
            "temperature_curve": tuple,
            "class_shares": tuple,
        }
        try:
            return cls(**{key: read[key](value) if key in read else value for key, value in values.items()})
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as problem:
            raise EmodetError(f"its metadata is damaged ({problem})") from None


def parsed(key: str, text: str) -> Any:
    """Parse the JSON of a metadata entry; raise `EmodetError` if it is too long, too deep, invalid or repeats a key."""
    if len(text) > _MAX_CHARACTERS:
        raise EmodetError(f"its metadata is damaged ({PREFIX}{key} has {len(text):,} characters)")
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        json.dumps(value, ensure_ascii=False).encode()  # raises for a lone surrogate, which cannot be printed or sent
        return value
    except (ValueError, RecursionError) as problem:  # also integers of thousands of digits
        raise EmodetError(f"its metadata is damaged ({PREFIX}{key}: {problem})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):  # JSON parsers differ in which value they return
        raise ValueError("a key occurs twice")
    return values


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{values!r} is not a list of names")
    return tuple(values)
