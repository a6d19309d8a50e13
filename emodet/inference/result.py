"""The faces of one image, together with the image."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emodet.arrays import UInt8
from emodet.errors import EmodetError
from emodet.inference.faces import Face

# What draws and writes is imported where it is used: who only reads the answers does not wait for it.
if TYPE_CHECKING:
    import os

    import pandas as pd


class Result(tuple[Face, ...]):
    """The faces of one image, highest detection score first: a tuple of `Face`. Jupyter shows it as a picture.

    Attributes:
        image_rgb: The image, uint8 (H, W, 3) RGB.
        class_names: The model file's classes.
        source: Path or address of the image; empty without one.
        frame: Index of a video's frame; 0 for an image.
        time_s: Seconds in the video; None for an image.
    """

    image_rgb: UInt8
    class_names: tuple[str, ...]
    source: str
    frame: int
    time_s: float | None

    def __new__(
        cls,
        faces: Iterable[Face],
        image_rgb: UInt8,
        class_names: tuple[str, ...],
        source: str = "",
        frame: int = 0,
        time_s: float | None = None,
    ) -> "Result":
        """Arguments are the attributes."""
        result = super().__new__(cls, tuple(faces))
        result.image_rgb, result.class_names = image_rgb, class_names
        result.source, result.frame, result.time_s = source, frame, time_s
        return result

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.image_rgb, self.class_names, self.source, self.frame, self.time_s

    def __repr__(self) -> str:
        faces = ", ".join(map(repr, self)) or "no face"
        return f"Result({self.source}: {faces})" if self.source else f"Result({faces})"

    def draw(self, *, hide_faces: bool = False) -> UInt8:
        """The image with boxes, labels and bars: uint8 (H, W, 3) RGB, a small image enlarged by a whole factor.

        `hide_faces` makes the faces unrecognisable.
        """
        from emodet.inference.pictures import draw, readable

        picture, faces = readable(self.image_rgb, self)
        return draw(picture, faces, hidden=[face.box for face in faces] if hide_faces else None)

    def save(self, path: "str | os.PathLike[str]", *, hide_faces: bool = False) -> Path:
        """Write `draw` as ``.jpg`` or ``.png``, by the suffix; an existing file is replaced. Returns the path."""
        from emodet.inference.pictures import write_picture

        write_picture(self.draw(hide_faces=hide_faces), Path(path))
        return Path(path)

    def show(self) -> None:
        """Show `draw` in the system's picture viewer, or in the notebook."""
        from PIL import Image

        Image.fromarray(self.draw()).show(title=self.source or "emodet")

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per face: `Face.to_dict`, ready for JSON."""
        return [face.to_dict() for face in self]

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per face, with the columns of `emodet.predict --rows csv`; `EmodetError` without pandas."""
        from emodet.inference.rows import face_row, flat_row, row_columns

        try:
            import pandas as pd
        except ImportError:
            raise EmodetError("to_dataframe needs the package pandas: pip install pandas; or use to_dicts()") from None
        rows = (face_row(self.source, self.frame, self.time_s, place, face) for place, face in enumerate(self))
        return pd.DataFrame(map(flat_row, rows), columns=row_columns(self.class_names))

    def _repr_png_(self) -> bytes:
        from emodet.inference.pictures import encoded

        return encoded(self.draw(), ".png")
