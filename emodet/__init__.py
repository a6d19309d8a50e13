"""emodet: facial emotion recognition, from training to live video."""

import importlib
import os
from typing import TYPE_CHECKING

# Some builds of ONNX Runtime send telemetry unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from emodet.inference.capture import open_video
    from emodet.inference.faces import Face
    from emodet.inference.overlay import annotate
    from emodet.inference.recognizer import Recognizer
    from emodet.inference.result import Result

__version__ = "0.1.0"

__all__ = ["Face", "Recognizer", "Result", "__version__", "annotate", "open_video"]

_MODULES = {
    "Face": "faces",
    "Recognizer": "recognizer",
    "Result": "result",
    "annotate": "overlay",
    "open_video": "capture",
}


def __getattr__(name: str) -> object:
    # Lazy imports: `import emodet` loads no heavy library.
    if name in _MODULES:
        return getattr(importlib.import_module(f"emodet.inference.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
