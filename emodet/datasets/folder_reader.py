"""What readers of folders have in common: a root that may be nested, and pictures named by their path below it."""

from abc import abstractmethod
from pathlib import Path

from emodet.datasets.folders import inner_root
from emodet.datasets.samples import Reader, Sample
from emodet.errors import EmodetError

__all__ = ["FolderReader"]


class FolderReader(Reader):
    """A family that lies in a folder, or in folders around it that hold nothing else.

    A subclass says in `_bears_signs` by what it knows its folder, and in `_fits` by what it knows its file, where a
    single file is enough. A record's key is the picture's path below `base` unless `file_of` says otherwise.

    Args:
        root: The folder that bears the signs, a folder that holds nothing but its folder, or a file that fits.

    Attributes:
        base: The folder that bears the signs, or that holds the file.

    Raises:
        EmodetError: The root bears none of the signs.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        base = self._base_of(root)
        if base is None:
            raise EmodetError(f"data.root={root}: {self.title} is not there. Expected {self.signs}")
        self.base = base

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return cls._base_of(root) is not None

    def file_of(self, record: Sample) -> Path:
        """See `Reader.file_of`."""
        return self.base / record.key

    @classmethod
    @abstractmethod
    def _bears_signs(cls, folder: Path) -> bool:
        """Whether the data set lies in this very folder; may raise OSError."""

    @classmethod
    def _fits(cls, _file: Path) -> bool:
        """Whether a single file is the data set."""
        return False

    @classmethod
    def _base_of(cls, root: Path) -> Path | None:
        try:
            if root.is_file():
                return root.parent if cls._fits(root) else None
        except OSError:
            return None
        return inner_root(root, cls._bears_signs)
