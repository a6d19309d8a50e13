"""emodet: facial emotion recognition, from training to live video."""

import os
from typing import TYPE_CHECKING

# Some builds of ONNX Runtime send telemetry unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from emodet.inference.recognizer import Recognizer

__all__ = ["Recognizer"]


def __getattr__(name: str) -> object:
    # Imported on first use: importing the package loads nothing heavy.
    if name == "Recognizer":
        from emodet.inference.recognizer import Recognizer

        return Recognizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
