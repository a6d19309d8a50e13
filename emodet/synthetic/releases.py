"""Drawn faces as a release on disk, in the format of AffectNet's YOLO export, so that a reader reads them like data."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from emodet.arrays import Float64, Int64
from emodet.datasets.affectnet import TRAIN_COUNTS
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS
from emodet.errors import EmodetError, require
from emodet.synthetic.faces import draw_face, draw_identity

_GENERATOR_VERSION = 1
"""Increased when the same seed would give other faces or files."""

STAMP = "synthetic.json"
"""Name of the file in the root that contains the arguments of the release."""

_SPLITS = ("train", "val", "test")
_FACES_PER_PERSON = 8
_FRAMING = (0.76, 0.92)

# Third part of the seeds after seed and split, so that the random streams differ.
_IDENTITY, _FACE, _LABELS = range(3)


def write_release(
    root: Path,
    faces: Mapping[str, int],
    seed: int = 0,
    size: int = 96,
    balance: str = "affectnet",
    progress: bool = False,
) -> Path:
    """Write drawn faces as a YOLO export; do nothing if the same release exists.

    Splits share no person. Val and test contain each emotion equally often.

    Args:
        root: Folder of the release: new, empty, or with the same release.
        faces: Number of faces in ``train``, ``val`` and ``test``.
        seed: Seed of all pictures.
        size: Side of the stored pictures in pixels.
        balance: Class frequencies in train: those of AffectNet (``affectnet``), or ``uniform``.
        progress: Whether to show a progress bar.

    Raises:
        EmodetError: An argument is out of range, or `root` contains other files, which are not changed.
        OSError: The disk is full or not writable; then `root` is not created.
    """
    root = Path(root)
    counts = {split: int(faces.get(split, 0)) for split in _SPLITS}
    are_numbers = set(faces) <= set(_SPLITS) and min(counts.values()) >= 0 and sum(counts.values()) > 0
    require(are_numbers, "faces", dict(faces), "numbers for train, val and test, 0 or more, and at least one face")
    require(32 <= size <= 1024, "size", size, "whole pixels from 32 to 1024")
    require(balance in ("affectnet", "uniform"), "balance", balance, "affectnet or uniform")
    require(seed >= 0, "seed", seed, "a whole number from 0")
    stamp: dict[str, Any] = {
        **{"made_by": "emodet synthetic faces", "generator": _GENERATOR_VERSION, "layout": "yolo", "faces": counts},
        **{"seed": seed, "size": size, "balance": balance},
    }
    if _holds(root, stamp):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.partial-", dir=root.parent))
    try:
        _write(partial, counts, seed, size, balance, progress)
        about = {**stamp, "title": "drawn faces", "redistributable": True}
        (partial / STAMP).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        try:
            partial.replace(root)
        except OSError:
            if not _holds(root, stamp):  # else another process has written it
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _holds(root: Path, stamp: Mapping[str, Any]) -> bool:
    """Return whether `root` contains this release; raise `EmodetError` if it contains anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / STAMP).read_text(encoding="utf-8"))
        other = [f"{name} {found.get(name)!r} instead of {it!r}" for name, it in stamp.items() if found.get(name) != it]
    except (OSError, ValueError, AttributeError):
        raise EmodetError(
            f"root={root} contains other files than synthetic faces; name a new or empty folder"
        ) from None
    if other:
        raise EmodetError(
            f"root={root} contains synthetic faces with other arguments ({', '.join(other)}); delete it or name another"
        )
    return True


def _quotas(count: int, shares: Float64) -> Int64:
    """Return whole numbers in proportion to `shares` that sum to `count`, each at least 1 if possible."""
    least = np.full(len(shares), 1 if count >= len(shares) else 0)
    exact = (count - least.sum()) * shares / shares.sum()
    quotas = np.floor(exact).astype(np.int64)
    missing = count - int(least.sum()) - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return np.asarray(quotas + least, dtype=np.int64)


def _write(folder: Path, counts: Mapping[str, int], seed: int, size: int, balance: str, progress: bool) -> None:
    """Write ``data.yaml``, and for each picture a label file ``class cx cy w h`` (normalised)."""
    short = {"happiness": "happy", "sadness": "sad"}
    names = ", ".join(f"'{short.get(name, name)}'" for name in ALPHABETICAL_ORDER)
    (folder / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
        f"nc: {len(EMOTIONS)}\nnames: [{names}]\n",
        encoding="utf-8",
    )
    bar = tqdm(total=sum(counts.values()), desc="drawing faces", unit="face", disable=not progress)
    for number, (split, count) in enumerate(counts.items()):
        images, texts = (folder / {"val": "valid"}.get(split, split) / part for part in ("images", "labels"))
        images.mkdir(parents=True)
        texts.mkdir()
        is_uneven = split == "train" and balance == "affectnet"
        shares = np.array([TRAIN_COUNTS[name] if is_uneven else 1 for name in EMOTIONS], dtype=np.float64)
        labels = np.repeat(np.arange(len(EMOTIONS)), _quotas(count, shares))
        np.random.default_rng((seed, number, _LABELS)).shuffle(labels)
        persons = range(max(1, count // _FACES_PER_PERSON))
        people = [draw_identity(np.random.default_rng((seed, number, _IDENTITY, person))) for person in persons]
        for index, label in enumerate(labels.tolist()):
            rng = np.random.default_rng((seed, number, _FACE, index))
            person = people[int(rng.integers(len(people)))]
            rng.uniform(1, 1)  # keeps the random stream, and therefore the pixels, of `_GENERATOR_VERSION` 1
            face = draw_face(label, rng, size, identity=person, framing=_FRAMING)
            x1, y1, x2, y2 = (min(max(round(value), 0), size) / size for value in face.box)
            name = hashlib.sha224(f"{seed} {split} {index}".encode()).hexdigest()[:32]
            stem = f"image{index:07d}_jpg.rf.{name}"
            bgr = cv2.cvtColor(face.image, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, 92))
            (images / f"{stem}.jpg").write_bytes(bytes(data))
            place = f"{(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"
            line = f"{ALPHABETICAL_ORDER.index(EMOTIONS[label])} {place}\n"
            (texts / f"{stem}.txt").write_text(line, encoding="utf-8")
            bar.update()
    bar.close()
