"""The models that a server offers, by name, and recognizers made of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emodet.app.errors import ApiError
from emodet.app.page.files import model_card
from emodet.app.schema import Options
from emodet.app.settings import Settings
from emodet.errors import EmodetError
from emodet.inference import yunet
from emodet.inference.detectors import Detector, make_detector
from emodet.inference.recognizer import Recognizer
from emodet.modelfile import SHIPPED, ModelFile, model_path, read_model_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that requests can name, and its model card (Markdown)."""

    name: str
    file: ModelFile
    path: Path
    card: str | None


class Recognizers:
    """Opens each model and detector once; all threads share them."""

    def __init__(self, settings: Settings) -> None:
        """Open the models; `EmodetError` if one or the detector is missing or invalid, or two have the same name."""
        offers: dict[str, Offer] = {}
        for text in settings.models or SHIPPED:
            offer = _open(text, settings)
            if offer.name in offers:
                raise EmodetError(f"--model {text}: there are two models called {offer.name}; use NAME=FILE")
            offers[offer.name] = offer
        self.offers: Mapping[str, Offer] = offers
        self.default = next(iter(offers))  # of requests that name no model
        self._threads = settings.threads
        auto = make_detector(settings.detector, threads=settings.threads)
        self.detector, self.description = auto.name, auto.description  # of requests with detector=auto
        self._opened: dict[str, Detector] = {auto.name: auto}
        weights = yunet.installed_weights()  # without a download
        self._specs = {} if weights is None else {"yunet": f"yunet:{weights}"}
        self._specs |= {"centerface": "centerface", "none": "none"}
        if settings.detector != "auto":
            self._specs[auto.name] = settings.detector
        self.detectors = tuple(self._specs)

    def offer(self, name: str | None) -> Offer:
        """A model by name; None for the default. Raises an `ApiError` if there is none."""
        found = self.offers.get(self.default if name is None else name)
        if found is None:
            message = f"There is no model called {str(name)[:80]!r}."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self.offers)}.")
        return found

    def recognizer(self, options: Options) -> Recognizer:
        """A recognizer for a request. Raises an `ApiError` if there is no such model, detector or prior."""
        offer = self.offer(options.model)
        name = self.detector if options.detector == "auto" else options.detector
        if name not in self._specs:
            message = f"The detector {name!r} is not available."
            raise ApiError(404, "not_found", message, f"There are {', '.join(self._specs)}.")
        if name not in self._opened:
            self._opened[name] = make_detector(self._specs[name], threads=self._threads)
        try:
            return Recognizer(
                offer.file,
                detector=self._opened[name],
                **options.model_dump(include={"min_confidence", "max_faces", "prior"}),
            )
        except EmodetError:  # the schema has checked the other values
            message = f"prior=balanced: {offer.name} does not state the share of every class in its training data."
            raise ApiError(422, "bad_value", message, "Use prior=trained, or another model.") from None


def _open(text: str, settings: Settings) -> Offer:
    name, sign, rest = text.partition("=")
    if not sign or Path(text).exists():
        name, rest = "", text
    path = model_path(rest)
    name = name or path.stem
    if not _NAME.fullmatch(name):
        raise EmodetError(f"--model {text}: {name!r} cannot be part of a URL; use NAME=FILE (letters, digits, -._)")
    file = read_model_file(path, providers=settings.providers, threads=settings.threads)
    return Offer(name, file, path, model_card(path))
