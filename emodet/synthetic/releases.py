"""Synthetic faces written as releases on disk, in the layouts of real data sets.

So tests, and the first run on a fresh machine, go through the very readers that AffectNet goes through. A release is
written beside its place and renamed when it is whole; its `STAMP` file says what it was made with.
"""

import csv
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emodet.datasets.affectnet import TRAIN_COUNTS
from emodet.synthetic.faces import Identity, draw_face, draw_identity, draw_no_face
from emodet.emotions import ALPHABETICAL_ORDER, EMOTIONS, FER2013_ORDER, FERPLUS_ORDER
from emodet.errors import EmodetError

__all__ = ["GENERATOR_VERSION", "STAMP", "Balance", "Layout", "write_release"]

Layout = Literal["affectnet_csv", "affectnet_npy", "yolo", "ferplus"]
Balance = Literal["affectnet", "uniform"]

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other faces or files."""

STAMP = "synthetic.json"
"""The file in a release's root that says how it was made."""

_SPLITS = ("train", "val", "test")
_FACES_PER_PERSON = 8
_NONE, _UNCERTAIN, _NO_FACE = 8, 9, 10

# What `default_rng` gets besides the seed and the split, so that no two uses share a stream.
_IDENTITY, _FACE, _LABELS, _VOTES = range(4)

# Whom people take an emotion for when they do not see it.
_MISTAKEN_FOR: Mapping[str, tuple[str, ...]] = {
    "neutral": ("sadness", "contempt", "happiness"),
    "happiness": ("neutral", "contempt", "surprise"),
    "sadness": ("neutral", "fear", "anger"),
    "surprise": ("fear", "happiness", "neutral"),
    "fear": ("surprise", "sadness", "disgust"),
    "disgust": ("anger", "sadness", "neutral"),
    "anger": ("disgust", "neutral", "contempt"),
    "contempt": ("neutral", "happiness", "disgust"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """What the pictures of a layout are like."""

    size: int
    sizes: tuple[float, float]
    framing: tuple[float, float]
    encoding: Literal["jpeg", "webp_grey"]
    splits: tuple[str, ...]


_KINDS: Mapping[str, _Kind] = {
    "affectnet_csv": _Kind(112, (0.75, 1.5), (0.68, 0.8), "jpeg", ("train", "val")),
    "affectnet_npy": _Kind(224, (1.0, 1.0), (0.76, 0.92), "jpeg", ("train", "val")),
    "yolo": _Kind(96, (1.0, 1.0), (0.76, 0.92), "jpeg", _SPLITS),
    "ferplus": _Kind(48, (1.0, 1.0), (0.8, 0.98), "webp_grey", _SPLITS),
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One picture that is to be drawn; all that follows from it is decided by these values."""

    kind: _Kind
    seed: int
    split: str
    index: int
    label: int
    people: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Drawn:
    """One picture as it goes to disk."""

    job: _Job
    data: bytes
    side: int
    intensity: float
    valence: float
    arousal: float
    box: tuple[int, int, int, int]
    points: tuple[tuple[float, float], ...]

    @property
    def name(self) -> str:
        """56 hex digits, as AffectNet's files are named."""
        job = self.job
        return hashlib.sha224(f"{job.seed} {job.split} {job.index}".encode()).hexdigest()


def write_release(
    root: Path,
    layout: Layout,
    faces: Mapping[str, int],
    seed: int = 0,
    *,
    size: int | None = None,
    balance: Balance = "affectnet",
    workers: int = 1,
    progress: bool = False,
) -> Path:
    """Write drawn faces as a release of a real data set. Does nothing where the same release already is.

    Faces of one person never lie in two splits. Validation and test are balanced over the eight emotions. The layout
    ``affectnet_csv`` has, on top of `faces`, some pictures of the kinds none, uncertain and no face, as AffectNet does.

    Args:
        root: The folder that becomes the release. It must not exist yet, or be empty, or hold this release already.
        layout: Which data set's files to imitate.
        faces: How many for ``train``, ``val`` and ``test``. AffectNet's own layouts have no ``test``.
        seed: Decides every picture, together with the split and the index alone.
        size: Side of the stored pictures in pixels; without it what is usual for the layout. In ``affectnet_csv``
            pictures differ in size, 0.75 to 1.5 times this.
        balance: Classes of the training split: as uneven as AffectNet's, or ``uniform``.
        workers: Processes that draw. The result does not depend on it.
        progress: Show a progress bar.

    Returns:
        `root`.

    Raises:
        EmodetError: An argument is out of range, or `root` holds something else, which is left as it is.
        OSError: The disk is full or not writable; nothing is left at `root`.
    """
    root = Path(root)
    kind, counts = _checked(layout, faces, seed, size, balance, workers)
    stamp: dict[str, Any] = {
        "made_by": "emodet synthetic faces",
        "generator": GENERATOR_VERSION,
        "layout": layout,
        "faces": counts,
        "seed": seed,
        "size": kind.size,
        "balance": balance,
    }
    if _holds(root, stamp):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.partial-", dir=root.parent))
    try:
        jobs = [job for split in _SPLITS for job in _jobs(kind, layout, seed, split, counts[split], balance)]
        with_bar = tqdm(_drawn(jobs, workers), total=len(jobs), desc="drawing faces", unit="face", disable=not progress)
        _WRITERS[layout](partial, with_bar)
        (partial / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp's folders are closed to everybody else
        _move(partial, root, stamp)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _checked(
    layout: str, faces: Mapping[str, int], seed: int, size: int | None, balance: str, workers: int
) -> tuple[_Kind, dict[str, int]]:
    if layout not in get_args(Layout):
        raise EmodetError(f"layout={layout!r} is not known; there are {', '.join(get_args(Layout))}")
    kind = _KINDS[layout]
    if size is not None:
        if not 32 <= size <= 1024:
            raise EmodetError(f"size={size}: whole pixels from 32 to 1024 were expected")
        kind = dataclasses.replace(kind, size=size)
    if balance not in get_args(Balance):
        raise EmodetError(f"balance={balance!r} is not known; there are {', '.join(get_args(Balance))}")
    if seed < 0:
        raise EmodetError(f"seed={seed}: a whole number from 0 was expected")
    if workers < 1:
        raise EmodetError(f"workers={workers}: at least 1 was expected")
    unknown = sorted(set(faces) - set(_SPLITS))
    if unknown:
        raise EmodetError(f"faces: {', '.join(unknown)} is not a split; there are {', '.join(_SPLITS)}")
    counts = {split: int(faces.get(split, 0)) for split in _SPLITS}
    for split, count in counts.items():
        if count < 0 or (count > 0 and split not in kind.splits):
            possible = "0" if split not in kind.splits else "0 or more"
            raise EmodetError(f"faces: {split}={count}, but the layout {layout} takes {possible} there")
    if not sum(counts.values()):
        raise EmodetError(f"faces={dict(faces)}: not one face is asked for")
    return kind, counts


def _holds(root: Path, stamp: Mapping[str, Any]) -> bool:
    """Whether the release is there already.

    Raises:
        EmodetError: Something else is there.
    """
    if root.is_dir():
        if not any(root.iterdir()):
            return False
        try:
            found = json.loads((root / STAMP).read_text(encoding="utf-8"))
        except FileNotFoundError:
            found = None
        except (OSError, ValueError) as problem:
            raise EmodetError(f"root={root}: its {STAMP} cannot be read ({problem}); remove that folder") from None
        if found == stamp:
            return True
        if isinstance(found, dict):
            names = [name for name in stamp if found.get(name) != stamp[name]]
            other = ", ".join(f"{name} {found.get(name)!r} instead of {stamp[name]!r}" for name in names)
            raise EmodetError(
                f"root={root} holds synthetic faces made otherwise ({other}); remove that folder or name another"
            )
    elif not root.exists():
        return False
    raise EmodetError(f"root={root} holds something else than synthetic faces; name a folder that is new or empty")


def _move(partial: Path, root: Path, stamp: Mapping[str, Any]) -> None:
    try:
        if root.is_dir():
            root.rmdir()  # empty, or it raises
        partial.rename(root)
    except OSError:
        # Somebody else may have written the same release in the meantime.
        if not _holds(root, stamp):
            raise


def _jobs(kind: _Kind, layout: str, seed: int, split: str, count: int, balance: str) -> Iterator[_Job]:
    if not count:
        return
    shares = np.array([TRAIN_COUNTS[name] for name in EMOTIONS], dtype=np.float64)
    if split != "train" or balance == "uniform":
        shares[:] = 1
    labels = np.repeat(np.arange(len(EMOTIONS)), _quotas(count, shares))
    if layout == "affectnet_csv":
        labels = np.concatenate([labels, np.repeat((_NONE, _UNCERTAIN, _NO_FACE), max(1, count // 25))])
    np.random.default_rng((seed, _SPLITS.index(split), _LABELS)).shuffle(labels)
    people = max(1, count // _FACES_PER_PERSON)
    for index, label in enumerate(labels):
        yield _Job(kind, seed, split, index, int(label), people)


def _quotas(count: int, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers in these proportions that sum to `count` (largest remainder); at least 1 each where that goes."""
    least = np.full(len(shares), 1 if count >= len(shares) else 0)
    exact = (count - least.sum()) * shares / shares.sum()
    quotas = np.floor(exact).astype(np.int64)
    missing = count - int(least.sum()) - int(quotas.sum())
    quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
    return np.asarray(quotas + least, dtype=np.int64)


def _drawn(jobs: list[_Job], workers: int) -> Iterator[_Drawn]:
    """The pictures in the order of the jobs."""
    if workers == 1:
        yield from map(_draw, jobs)
        return
    # A fresh interpreter each: OpenCV's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(_draw, jobs, chunksize=16)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@functools.lru_cache(maxsize=1024)
def _identity(seed: int, split: str, person: int) -> Identity:
    return draw_identity(np.random.default_rng((seed, _SPLITS.index(split), _IDENTITY, person)))


def _draw(job: _Job) -> _Drawn:
    rng = np.random.default_rng((job.seed, _SPLITS.index(job.split), _FACE, job.index))
    person = int(rng.integers(job.people))
    side = round(job.kind.size * float(rng.uniform(*job.kind.sizes)))
    # "None" is a face with a mixture of weak signs, "uncertain" one that shows hardly anything.
    intensity = {_NONE: 0.45, _UNCERTAIN: 0.25}.get(job.label)
    emotion = job.label if job.label < len(EMOTIONS) else int(rng.integers(1, len(EMOTIONS)))
    face = draw_face(
        emotion,
        rng,
        side,
        identity=_identity(job.seed, job.split, person),
        subject=f"{job.split}-{person}",
        intensity=intensity,
        framing=job.kind.framing,
    )
    image = draw_no_face(rng, side) if job.label == _NO_FACE else face.image
    annotated = job.label <= _NONE
    x1, y1, x2, y2 = (int(min(max(round(value), 0), side)) for value in face.box)
    return _Drawn(
        job,
        _encoded(image, job.kind.encoding),
        side,
        face.intensity,
        face.valence if annotated else -2.0,
        face.arousal if annotated else -2.0,
        (x1, y1, x2, y2),
        face.points,
    )


def _encoded(image: npt.NDArray[np.uint8], encoding: str) -> bytes:
    if encoding == "jpeg":
        done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 92))
    else:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2BGR)
        done, data = cv2.imencode(".webp", grey, (cv2.IMWRITE_WEBP_QUALITY, 101))  # over 100: lossless
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {image.shape} as {encoding}")
    return bytes(data)


def _write_affectnet_csv(folder: Path, drawn: Iterable[_Drawn]) -> None:
    """The release of 2017: pictures in numbered folders, `training.csv` and `validation.csv` with nine columns."""
    lists = folder / "Manually_Annotated_file_lists"
    pictures = folder / "Manually_Annotated" / "Manually_Annotated_Images"
    lists.mkdir()
    columns = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression valence arousal"
    names = {"train": "training.csv", "val": "validation.csv"}
    rows: dict[str, list[list[object]]] = {split: [] for split in names}
    for one in drawn:
        path = f"{int(one.name[:2], 16) + 1}/{one.name}.jpg"
        target = pictures / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(one.data)
        x1, y1, x2, y2 = one.box
        landmarks = ";".join(f"{value:.2f}" for point in one.points for value in point)
        mood = [f"{value:.6g}" if value != -2 else "-2" for value in (one.valence, one.arousal)]
        rows[one.job.split].append([path, x1, y1, x2 - x1, y2 - y1, landmarks, one.job.label, *mood])
    for split, name in names.items():
        if rows[split]:
            with (lists / name).open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns.split())
                writer.writerows(rows[split])


def _write_affectnet_npy(folder: Path, drawn: Iterable[_Drawn]) -> None:
    """The release of 2021: numbered pictures with four small files each, numbers held as text."""
    for one in drawn:
        base = folder / {"train": "train_set", "val": "val_set"}[one.job.split]
        for name in ("images", "annotations"):
            (base / name).mkdir(parents=True, exist_ok=True)
        number = one.job.index + one.job.index // 5  # numbers have holes there
        (base / "images" / f"{number}.jpg").write_bytes(one.data)
        texts = {"exp": str(one.job.label), "val": f"{one.valence:.6g}", "aro": f"{one.arousal:.6g}"}
        for name, text in texts.items():
            np.save(base / "annotations" / f"{number}_{name}.npy", np.array(text))
        np.save(base / "annotations" / f"{number}_lnd.npy", np.array(one.points, dtype=np.float64).reshape(-1))


def _write_yolo(folder: Path, drawn: Iterable[_Drawn]) -> None:
    """The 96-pixel export: `data.yaml`, and a label file ``class cx cy w h`` (normalised) beside each picture."""
    folders = {"train": "train", "val": "valid", "test": "test"}
    for name in folders.values():
        for part in ("images", "labels"):
            (folder / name / part).mkdir(parents=True)
    short = {"happiness": "happy", "sadness": "sad"}
    names = ", ".join(f"'{short.get(name, name)}'" for name in ALPHABETICAL_ORDER)
    (folder / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
        f"nc: {len(EMOTIONS)}\nnames: [{names}]\n",
        encoding="utf-8",
    )
    for one in drawn:
        base = folder / folders[one.job.split]
        stem = f"image{one.job.index:07d}_jpg.rf.{one.name[:32]}"
        (base / "images" / f"{stem}.jpg").write_bytes(one.data)
        x1, y1, x2, y2 = (value / one.side for value in one.box)
        number = ALPHABETICAL_ORDER.index(EMOTIONS[one.job.label])
        line = f"{number} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n"
        (base / "labels" / f"{stem}.txt").write_text(line, encoding="utf-8")


def _write_ferplus(folder: Path, drawn: Iterable[_Drawn]) -> None:
    """One Parquet file: grey pictures as lossless WebP, FER2013's label and the votes of ten imagined people."""
    import pyarrow as pa  # comes with the training extra, and only this layout needs it
    import pyarrow.parquet as pq

    voted = (*FERPLUS_ORDER, "unknown", "NF")
    rows: list[dict[str, object]] = []
    for one in drawn:
        emotion = EMOTIONS[one.job.label]
        votes = _votes(one)
        # FER2013 has no contempt.
        label = FER2013_ORDER.index(emotion if emotion in FER2013_ORDER else "neutral")
        row: dict[str, object] = {"index": len(rows), "split": one.job.split, "image": one.data, "fer2013_label": label}
        rows.append(row | {name: votes.get(name, 0) for name in voted})
    types = [("index", pa.int32()), ("split", pa.string()), ("image", pa.binary()), ("fer2013_label", pa.int8())]
    schema = pa.schema(types + [(name, pa.int8()) for name in voted])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "ferplus_synthetic.parquet")


def _votes(one: _Drawn) -> dict[str, int]:
    """Ten votes about the emotion that was drawn: the weaker it shows, the more people see another."""
    emotion = EMOTIONS[one.job.label]
    job = one.job
    rng = np.random.default_rng((job.seed, _SPLITS.index(job.split), _VOTES, job.index))
    seen = 0.9 if emotion == "neutral" else 0.55 + 0.4 * one.intensity
    names = (emotion, *_MISTAKEN_FOR[emotion], "unknown", "NF")
    shares = np.array([seen, *((1 - seen) * np.array([0.55, 0.25, 0.12, 0.07, 0.01]))])
    return dict(zip(names, rng.multinomial(10, shares / shares.sum()).tolist(), strict=True))


_WRITERS: Mapping[str, Callable[[Path, Iterable[_Drawn]], None]] = {
    "affectnet_csv": _write_affectnet_csv,
    "affectnet_npy": _write_affectnet_npy,
    "yolo": _write_yolo,
    "ferplus": _write_ferplus,
}
