"""emodet: emotions in faces, from AffectNet on disk to a camera."""

import os
from typing import TYPE_CHECKING

# Builds of ONNX Runtime tell their maker about the models they open, unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from emodet.inference.recognizer import Recognizer

__all__ = ["Recognizer"]


def __getattr__(name: str) -> object:
    # On first use: importing the package itself loads nothing heavy.
    if name == "Recognizer":
        from emodet.inference.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
