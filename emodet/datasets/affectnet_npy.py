"""AffectNet's release of 2021: flat folders of 224×224 pictures with four small npy files beside each."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from numpy.lib import format as npy

from emodet.datasets import affectnet
from emodet.datasets.folders import names_in, split_folders
from emodet.datasets.listed_pictures import read_annotations, split_parts
from emodet.datasets.samples import Listing, Reader, Sample
from emodet.errors import EmodetError, errors_of

_EXPRESSION = "_exp.npy"
_SOME = 10_000
_WHOLE_PICTURE = (0.0, 0.0, 224.0, 224.0)


@dataclass(kw_only=True, eq=False)
class AffectNetNpy(Reader):
    """AffectNet 2021 ("AffectNet-8"): ``train_set`` and ``val_set``, each with ``images`` and ``annotations``.

    ``<N>_exp.npy`` contains the emotion, ``_val`` and ``_aro`` valence and arousal, each as text ("3", "-0.48"), and
    ``_lnd`` 68 landmarks in the 224×224 picture. Numbers, and arrays of shape (1,), are accepted too. An
    ``affectnet.csv`` in the root contains paths of another machine and is not read. Files are never unpickled.

    Samples are ordered by the number in the file name. The pictures are face crops, so there is no box.

    Args:
        landmarks: Whether to read ``_lnd`` and keep five points. The box is then the whole picture, so that a crop can
            be rotated upright by the eyes.
    """

    name = "affectnet_npy"
    title = "AffectNet (2021, npy files)"
    signs = "train_set/ or val_set/ with images/ and annotations/*_exp.npy"
    expected: ClassVar = {"train": affectnet.TRAIN_COUNTS, "val": {**affectnet.VALIDATION_COUNTS, "contempt": 499}}

    landmarks: bool = False

    @classmethod
    def matches(cls, folder: Path) -> bool:
        return any(
            file.endswith(_EXPRESSION)
            for names in split_folders(folder).values()
            for name in names
            for file in names_in(folder / name / "annotations", _SOME)
        )

    def sort_key(self, sample: Sample) -> Any:
        """Return the sort key of a file name: by number, 2 before 10; other names after all numbers."""
        folder, _, name = sample.key.rpartition("/")
        stem = name.rpartition(".")[0]
        is_number = stem.isascii() and stem.isdigit() and len(stem) < 20
        return sample.split, folder, not is_number, int(stem) if is_number else 0, stem

    def list_samples(self, listing: Listing) -> list[Sample]:
        samples: list[Sample] = []
        for split, folder in split_parts(listing, self.base, "annotations"):
            place = folder / "annotations"
            found = list(read_annotations(listing, place, _EXPRESSION, "an annotation", self._face))
            if not found:
                raise EmodetError(f"{place}: there is no _exp.npy in it. Unpack all parts of the archive")
            for picture, (name, known) in found:
                samples += listing.labelled(name, f"{folder.name}/{picture}", split, **known)
        affectnet.check(listing, samples, self.landmarks)
        return samples

    def _face(self, file: Path) -> tuple[str, dict[str, Any]]:
        """Return the class name, and further fields of a `Sample`."""
        stem = str(file)[: -len(_EXPRESSION)]
        (number,) = _read(str(file), 1)
        if number not in range(len(affectnet.CLASS_NAMES)):
            raise EmodetError(f"{file}: {number} is not an id from 0 to {len(affectnet.CLASS_NAMES) - 1}")
        values = (*_read(f"{stem}_val.npy", 1, math.nan), *_read(f"{stem}_aro.npy", 1, math.nan))
        points = affectnet.five_points(_read(f"{stem}_lnd.npy", 136, math.nan)) if self.landmarks else None
        valence, arousal = affectnet.valence_and_arousal(*values)
        known = {"valence": valence, "arousal": arousal, "box": _WHOLE_PICTURE if points else None, "landmarks": points}
        return affectnet.CLASS_NAMES[int(number)], known


def _read(path: str, count: int, default: float | None = None) -> list[float]:
    """Read numbers, in any shape, from an npy file of numbers or text; a missing file has the `default`, if any."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        if default is not None and isinstance(problem, FileNotFoundError):
            return [default] * count
        raise EmodetError(f"{path}: cannot be read ({problem})") from None
    with errors_of(path, "holds something else than numbers", ValueError, SystemError):
        try:
            found = npy.read_array(io.BytesIO(data), allow_pickle=False)
        except Exception:  # numpy's header parsers raise various exceptions
            raise EmodetError("not an npy file of numbers or text, or cut off") from None
        if found.dtype.kind not in "biufSU":
            raise EmodetError(f"holds {found.dtype} where numbers or text were expected")
        if found.size != count:
            raise EmodetError(f"holds {found.size} values instead of {count}")
        return [float(value) for value in found.ravel().tolist()]  # SystemError: code points that do not exist
