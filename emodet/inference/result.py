"""The result of one image: its faces, with methods to draw, save and show them."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emodet.arrays import UInt8
from emodet.inference.faces import Face
from emodet.inference.overlay import draw, encoded, write_picture
from emodet.inference.rows import face_row, flat_row, row_columns

if TYPE_CHECKING:
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

    def __new__(cls, faces: Iterable[Face], *_: object, **__: object) -> "Result":
        return super().__new__(cls, tuple(faces))

    def __init__(
        self,
        faces: Iterable[Face],
        image_rgb: UInt8,
        class_names: tuple[str, ...],
        source: str = "",
        frame: int = 0,
        time_s: float | None = None,
    ) -> None:
        self.image_rgb, self.class_names = image_rgb, class_names
        self.source, self.frame, self.time_s = source, frame, time_s

    def __repr__(self) -> str:
        faces = ", ".join(map(repr, self)) or "no face"
        return f"Result({self.source}: {faces})" if self.source else f"Result({faces})"

    def draw(self, *, hide_faces: bool = False) -> UInt8:
        """Return the image with boxes, labels and bars: uint8 (H, W, 3) RGB, enlarged by a whole factor if it is small.

        `hide_faces` makes the faces unrecognisable.
        """
        return draw(self.image_rgb, self, hidden=[face.box for face in self] if hide_faces else None, enlarge=True)

    def save(self, path: str | os.PathLike[str], *, hide_faces: bool = False) -> Path:
        """Write the result of `draw` as ``.jpg`` or ``.png``; an existing file is replaced. Returns the path."""
        write_picture(self.draw(hide_faces=hide_faces), Path(path))
        return Path(path)

    def show(self) -> None:
        """Show the result of `draw` in the system's picture viewer, or in the notebook."""
        from PIL import Image

        Image.fromarray(self.draw()).show(title=self.source or "emodet")

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return `Face.to_dict` of each face."""
        return [face.to_dict() for face in self]

    def to_dataframe(self) -> "pd.DataFrame":
        """Return one row per face, with the columns of `emodet.predict --rows csv`; needs pandas."""
        import pandas as pd

        rows = (face_row(self.source, self.frame, self.time_s, place, face) for place, face in enumerate(self))
        return pd.DataFrame(map(flat_row, rows), columns=row_columns(self.class_names))

    def _repr_png_(self) -> bytes:
        return encoded(self.draw(), ".png")
