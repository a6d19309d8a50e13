"""emodet: emotions in faces, from AffectNet on disk to a camera."""

from typing import TYPE_CHECKING

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
