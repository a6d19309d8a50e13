"""The models that a server offers, by name, and recognizers made of them."""

import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emodet.app.errors import ApiError
from emodet.errors import EmodetError
from emodet.files import sha256_of
from emodet.inference import yunet
from emodet.inference.detectors import Detector, make_detector
from emodet.inference.recognizer import Recognizer
from emodet.modelfile import ModelFile, read_model_file

__all__ = ["Offer", "Recognizers"]

_SHIPPED = ("int8", "fp32")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that requests can name, with its checksum (SHA-256, hexadecimal) and its model card (Markdown)."""

    name: str
    file: ModelFile
    path: Path
    sha256: str
    card: str | None


class Recognizers:
    """Opens each model and detector once; all threads share them.

    Attributes:
        offers: Name to model.
        default: The model of requests that name none.
        detectors: Names of the available detectors.
        detector: The detector of requests with ``auto``.
        description: The same detector, for people.
    """

    def __init__(
        self, models: tuple[str, ...], *, detector: str, providers: tuple[str, ...], threads: int | None
    ) -> None:
        """Open the models; the arguments are those of `emodet.app.settings.Settings`.

        Raises:
            EmodetError: A model file or detector is missing or invalid, or two models have the same name.
        """
        offers: dict[str, Offer] = {}
        for text in models or _SHIPPED:
            offer = _open(text, providers, threads)
            if offer.name in offers:
                raise EmodetError(f"--model {text}: there are two models called {offer.name}; use NAME=FILE")
            offers[offer.name] = offer
        self.offers: Mapping[str, Offer] = offers
        self.default = next(iter(offers))
        self._threads = threads
        auto = make_detector(detector, threads=threads)
        self.detector, self.description = auto.name, auto.description
        self._opened: dict[str, Detector] = {auto.name: auto}
        self._specs = _available_detectors()
        if detector != "auto":
            self._specs[auto.name] = detector
        self.detectors = tuple(self._specs)

    def offer(self, name: str | None) -> Offer:
        """A model by name; None for the default. Raises an `ApiError` if there is none."""
        found = self.offers.get(self.default if name is None else name)
        if found is None:
            message = f"There is no model called {str(name)[:80]!r}."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self.offers)}.")
        return found

    def detector_name(self, name: str) -> str:
        """Resolve ``auto``. Raises an `ApiError` if the detector is not available."""
        if name == "auto":
            return self.detector
        if name not in self._specs:
            message = f"The detector {name[:80]!r} is not available."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self._specs)}.")
        return name

    def recognizer(self, offer: Offer, detector: str, *, min_confidence: float, max_faces: int | None) -> Recognizer:
        """A recognizer of a model and one of `detectors`; the other arguments are those of `Recognizer`."""
        if detector not in self._opened:
            self._opened[detector] = make_detector(self._specs[detector], threads=self._threads)
        return Recognizer(
            offer.file, detector=self._opened[detector], min_confidence=min_confidence, max_faces=max_faces
        )


def _available_detectors() -> dict[str, str]:
    """Name to the argument of `make_detector`, without downloads."""
    found = {}
    weights = yunet.installed_weights()
    if weights is not None:
        found["yunet"] = f"yunet:{weights}"
    return found | {"centerface": "centerface", "none": "none"}


def _open(text: str, providers: tuple[str, ...], threads: int | None) -> Offer:
    name, sign, rest = text.partition("=")
    if sign and not Path(text).exists():
        path = Path(rest)
    else:
        name, path = "", Path(text)
    if path.name in _SHIPPED and str(path) == path.name and not path.exists():
        path = Path(str(importlib.resources.files("emodet") / "weights" / f"emodet-{path.name}.onnx"))
        if not path.is_file():
            raise EmodetError(f"--model {text}: this installation has no such model file; name one with --model FILE")
    name = name or path.stem
    if not _NAME.fullmatch(name):
        raise EmodetError(f"--model {text}: {name!r} cannot be part of a URL; use NAME=FILE (letters, digits, -._)")
    file = read_model_file(path, providers=providers, threads=threads)
    card = path.with_name("MODEL_CARD.md")
    try:
        text_of_card = card.read_text(encoding="utf-8") if card.is_file() else None
    except (OSError, UnicodeDecodeError):
        raise EmodetError(f"{card}: the model card cannot be read as UTF-8") from None
    return Offer(name, file, path, sha256_of(path), text_of_card)
