"""The models that a server offers, by name, and recognizers of them for each thread."""

import hashlib
import importlib.resources
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emodet.errors import EmodetError
from emodet.inference import centerface, yunet
from emodet.inference.detectors import Detector, make_detector
from emodet.inference.recognizer import Recognizer
from emodet.modelfile import ModelFile, read_model_file
from emodet.app.refusals import ApiError

__all__ = ["Offer", "Recognizers"]

_SHIPPED = ("int8", "fp32")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CARD = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class Offer:
    """One model that requests can name.

    Attributes:
        name: As requests name it.
        file: The opened model file.
        path: Where it lies.
        size: In bytes.
        digest: SHA-256 of the file, hexadecimal.
        card: The model card beside it, Markdown, or None.
    """

    name: str
    file: ModelFile
    path: Path
    size: int
    digest: str
    card: str | None


class Recognizers:
    """Opens models and detectors once, and puts recognizers together from them.

    Attributes:
        offers: Name to model.
        default: The name of the model that requests get which name none.
        detectors: What requests can name besides ``auto``.
        detector: What ``auto`` is here.
        description: The same for people.
    """

    def __init__(
        self, models: tuple[str, ...], *, detector: str, providers: tuple[str, ...], threads: int | None
    ) -> None:
        """Open them.

        Args:
            models: As in `emodet.app.settings.Settings`.
            detector: As in `emodet.inference.detectors.make_detector`.
            providers: As in `emodet.modelfile.PROVIDERS`.
            threads: Of each call of ONNX Runtime.

        Raises:
            EmodetError: A model file or the detector's weights are not there or refused, or two models have one name.
        """
        offers: dict[str, Offer] = {}
        for text in models or _SHIPPED:
            offer = _offer(text, providers, threads)
            if offer.name in offers:
                raise EmodetError(f"--model {text}: there are two models called {offer.name}; use NAME=FILE")
            offers[offer.name] = offer
        self.offers: Mapping[str, Offer] = offers
        self.default = next(iter(offers))
        self._threads = threads
        self._own = threading.local()
        chosen = make_detector(detector, threads=threads)
        self.detector = chosen.name
        self.description = chosen.description
        self._specs = _detectors_at_hand()
        if detector != "auto":
            self._specs[chosen.name] = detector
        # For the first thread that asks.
        self._spare: list[Detector] = [chosen]

    @property
    def detectors(self) -> tuple[str, ...]:
        """See the class."""
        return tuple(self._specs)

    def offer(self, name: str | None) -> Offer:
        """A model by name.

        Raises:
            ApiError: There is none of that name.
        """
        found = self.offers.get(self.default if name is None else name)
        if found is None:
            message = f"There is no model called {str(name)[:80]!r}."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self.offers)}.")
        return found

    def detector_named(self, name: str) -> str:
        """The detector that a request means.

        Raises:
            ApiError: Its weights are not at hand here.
        """
        if name == "auto":
            return self.detector
        if name not in self._specs:
            message = f"The detector {name[:80]!r} is not at hand."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self._specs)}.")
        return name

    def recognizer(
        self, offer: Offer, detector: str, *, min_confidence: float, max_faces: int | None, own: bool = False
    ) -> Recognizer:
        """A recognizer for the calling thread.

        Args:
            offer: Its model, which all threads share.
            detector: A name of `detectors`.
            min_confidence: As in `Recognizer`.
            max_faces: As in `Recognizer`.
            own: With a detector that nobody else gets, not even this thread.

        Raises:
            EmodetError: The detector's weights are gone.
        """
        found = self._make(detector) if own else self._detectors_here().get(detector)
        if found is None:
            found = self._detectors_here()[detector] = self._make(detector)
        return Recognizer(offer.file, detector=found, min_confidence=min_confidence, max_faces=max_faces)

    def _make(self, detector: str) -> Detector:
        if detector == self.detector:
            try:
                return self._spare.pop()
            except IndexError:
                pass
        return make_detector(self._specs[detector], threads=self._threads)

    def _detectors_here(self) -> dict[str, Detector]:
        # A detector is called from one thread at a time.
        if not hasattr(self._own, "detectors"):
            self._own.detectors = {}
        found: dict[str, Detector] = self._own.detectors
        return found


def _detectors_at_hand() -> dict[str, str]:
    found = {}
    weights = yunet.weights(download=False)
    if weights is not None:
        found["yunet"] = f"yunet:{weights}"
    if centerface.at_hand():
        found["centerface"] = "centerface"
    return found | {"none": "none"}


def _offer(text: str, providers: tuple[str, ...], threads: int | None) -> Offer:
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
        raise EmodetError(f"--model {text}: {name!r} is no name for an address; use NAME=FILE (letters, digits, -._)")
    file = read_model_file(path, providers=providers, threads=threads)
    data = path.read_bytes()
    card = path.with_name(_CARD)
    try:
        told = card.read_text(encoding="utf-8") if card.is_file() else None
    except (OSError, UnicodeDecodeError):
        raise EmodetError(f"{card}: the model card cannot be read as UTF-8") from None
    return Offer(name, file, path, len(data), hashlib.sha256(data).hexdigest(), told)
