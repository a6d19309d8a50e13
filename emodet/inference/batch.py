"""Recognise many inputs, one after the other, and write what was asked for. No input ends the batch."""

import dataclasses
import logging
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emodet.errors import EmodetError
from emodet.images import MAX_PIXELS, decode_rgb
from emodet.inference.capture import LiveVideo, open_video
from emodet.inference.faces import Face, scaled
from emodet.inference.fetch import MAX_BYTES, NoImageError, fetch_image
from emodet.inference.pictures import draw, heat_maps, readable, write_picture
from emodet.inference.pipeline import SCORE_TO_HIDE, Result, StreamOptions, recognise_stream
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import RowsError, RowWriter, face_row
from emodet.inference.sinks import (
    AnnotatedVideoSink,
    RowSink,
    Sink,
    TimelineSink,
    WindowClosed,
    WindowSink,
    show,
)
from emodet.inference.sources import RESULT_ENDINGS, Source, is_video, printable
from emodet.inference.summary import SourceSummary, Summary
from emodet.inference.video_reader import VideoReader

__all__ = ["Batch", "Opened", "opened", "result_path"]

UInt8 = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)

_MIN_SIDE = 8  # pixels; nothing smaller shows a face
_MAX_STILL_MAPS = 3


@dataclass(frozen=True, slots=True)
class Opened:
    """An input with its decoded image; without one for a video or after an error."""

    source: Source
    image_rgb: UInt8 | None = None
    notes: tuple[str, ...] = ()
    error: Exception | None = None


def opened(sources: Iterable[Source], max_pixels: int = MAX_PIXELS) -> Generator[Opened, None, None]:
    """Decode the images among the inputs, one at a time."""
    for source in sources:
        try:
            yield _opened(source, max_pixels)
        except Exception as error:  # reported in its turn
            yield Opened(source, error=error)


def _opened(source: Source, max_pixels: int) -> Opened:
    if source.error is not None:
        raise EmodetError(source.error)
    name = "standard input" if source.address == "-" else source.name
    try:
        if source.kind == "video" or isinstance(source.address, int):
            return Opened(source)
        if source.kind == "live":
            try:
                data = fetch_image(str(source.address), source.name)
            except NoImageError:
                return Opened(source)  # a stream, perhaps; FFmpeg reports why it cannot be opened
        else:
            if source.address == "-":
                data = sys.stdin.buffer.read(MAX_BYTES + 1)
            else:
                with Path(source.address).open("rb") as file:
                    data = file.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise EmodetError(f"{name}: more than {MAX_BYTES >> 20} MB are no image")
    except OSError as problem:
        raise EmodetError(f"{name}: could not be read ({problem.strerror or problem})") from None
    if source.kind == "pipe" and is_video(data[:16]):
        raise EmodetError(f"{name}: a video cannot be read from a pipe; save it to a file and name that")
    logger, notes = logging.getLogger("emodet.images"), _Notes()
    logger.addHandler(notes)
    try:
        image = decode_rgb(data, name=name, max_pixels=max_pixels)
    finally:
        logger.removeHandler(notes)
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE:
        raise EmodetError(f"{name}: {width}×{height} pixels are too few to show a face")
    return Opened(source, image, tuple(notes.texts))


class _Notes(logging.Handler):
    """Collects what the decoder warns of."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@dataclass(slots=True)
class Batch:
    """One run over many inputs, counted in `summary`.

    Attributes:
        recognizer: Recognises the faces.
        rows: Takes the results; None prints them as text for people.
        folder: Folder for files; it exists. None writes none.
        annotate: Write annotated pictures and videos; `show` opens a window with them.
        stream: How videos are recognised; `hide` and `explain` also apply to images.
        max_pixels: Refuse larger images and frames.
        quiet: Report errors only.
    """

    recognizer: Recognizer
    rows: RowWriter | None
    folder: Path | None = None
    annotate: bool = False
    show: bool = False
    stream: StreamOptions = field(default_factory=StreamOptions)
    max_pixels: int = MAX_PIXELS
    quiet: bool = False
    summary: Summary = field(init=False)

    def __post_init__(self) -> None:
        self.summary = Summary(min_confidence=self.recognizer.min_confidence)

    def report(self, line: str, *, always: bool = False) -> None:
        """Print a message to standard error, above a progress bar."""
        if always or not self.quiet:
            tqdm.write(line, file=sys.stderr)

    def recognise(self, item: Opened) -> bool:
        """Recognise one input; False if it failed, which is reported. `RowsError` and `WindowClosed` end the run."""
        counts = self.summary.begin(item.source.name)
        try:
            if item.error is not None:
                raise item.error
            counts.notes.extend(item.notes)
            if item.image_rgb is None:
                self._video(item.source, counts)
            else:
                self._image(item.source, item.image_rgb, counts)
        except (BrokenPipeError, WindowClosed):
            raise
        except EmodetError as error:
            counts.error = str(error)
            if isinstance(error, RowsError):
                raise
        except Exception as error:
            _log.exception("a defect of emodet; please report it")
            counts.error = f"{counts.name}: {type(error).__name__} ({error})"
        if counts.error:
            self.report(f"error: {counts.error}", always=True)
        return counts.error is None

    def _image(self, source: Source, image: UInt8, counts: SourceSummary) -> None:
        detector = self.recognizer.detector
        started = time.perf_counter()
        min_score = min(SCORE_TO_HIDE, detector.min_score) if self.stream.hide else None
        found = self.recognizer.detect(image, min_score=min_score)
        faces = self.recognizer.recognise(image, [each for each in found if each.score >= detector.min_score])
        self.summary.meter.add(time.perf_counter() - started)
        counts.add(faces)
        if self.rows is None:
            _print_faces(source.name, faces)
        else:
            for place, face in enumerate(faces):
                self.rows.write(face_row(source.name, 0, None, place, face))
        if not (self.annotate or self.show):
            return
        maps = heat_maps(self.recognizer, image, faces, at_most=_MAX_STILL_MAPS) if self.stream.explain else None
        large, moved = readable(image, faces)
        factor = large.shape[1] / image.shape[1]
        boxes = [scaled(face, factor, factor).box for face in found]
        picture = draw(large, moved, hidden=boxes if self.stream.hide else None, maps=maps)
        if self.annotate and self.folder is not None:
            path = result_path(self.folder, source, RESULT_ENDINGS[0])
            write_picture(picture, path)
            counts.files.append(printable(path))
        if self.show:
            show(picture, wait_ms=0)

    def _video(self, source: Source, counts: SourceSummary) -> None:
        live = source.kind == "live"
        video = open_video(source.address, live=live, max_pixels=self.max_pixels, on_event=self.report)
        live = isinstance(video, LiveVideo)  # not a file behind a web address
        total, quiet = video.frame_count or None, self.quiet or not sys.stderr.isatty()
        with tqdm(total=total, unit="frame", desc=source.name, file=sys.stderr, disable=quiet, leave=False) as bar:
            sinks = [_Counts(counts, self.summary, bar, live), *self._sinks(source, video)]
            try:
                stream = dataclasses.replace(self.stream, note=live or self.show)
                recognise_stream(self.recognizer, video, sinks, stream)
            finally:
                counts.files.extend(printable(file) for sink in sinks for file in sink.files)
                self._note_losses(video, counts)
                if self.rows is None and counts.frames:
                    shares = [f"{name} {count / counts.faces:.0%}" for name, count in counts.emotions.most_common()]
                    shown = ", ".join(shares) or "no face"
                    _say(f"{source.name}: {counts.frames} frames, {counts.faces} faces: {shown}")

    def _sinks(self, source: Source, video: VideoReader | LiveVideo) -> list[Sink]:
        sinks: list[Sink] = [] if self.rows is None else [RowSink([self.rows], source.name)]
        if self.folder is not None:
            _, movie, chart = (result_path(self.folder, source, ending) for ending in RESULT_ENDINGS)
            if self.annotate:
                sinks.append(AnnotatedVideoSink(movie, video))
            sinks.append(TimelineSink(chart, self.recognizer.model.info.class_names, source.name))
        if self.show:
            sinks.append(WindowSink())
        return sinks

    def _note_losses(self, video: VideoReader | LiveVideo, counts: SourceSummary) -> None:
        counts.left_out, counts.damaged, notes = video.dropped, video.damaged, []
        if video.damaged:
            total = f" of {video.frame_count}" if video.frame_count else ""
            notes.append(f"{video.damaged}{total} frames are damaged and could not be decoded")
        if video.partly_damaged:
            notes.append(f"frames with visible damage, recognised as they are: {video.partly_damaged}")
        counts.notes.extend(notes)
        for note in notes:
            self.report(f"note: {counts.name}: {note}")


class _Counts(Sink):
    """Counts the results of one video and moves its progress bar."""

    def __init__(self, counts: SourceSummary, summary: Summary, bar: Any, live: bool) -> None:
        super().__init__()
        self._counts, self._summary, self._bar, self._live = counts, summary, bar, live

    def write(self, result: Result) -> None:
        if result.fresh:
            self._counts.add(result.faces)
            self._summary.meter.add(result.age_s if self._live else result.recognised_s)
        self._bar.update(result.frame.index + 1 - self._bar.n)


def result_path(folder: Path, source: Source, ending: str) -> Path:
    """Where a result of an input goes."""
    return folder / source.stem.with_name(source.stem.name + ending)


def _print_faces(name: str, faces: Sequence[Face]) -> None:
    _say(f"{name}: {'' if faces else 'no face'}")
    for face in faces:
        place = ", ".join(str(round(value)) for value in face.box)
        shares = ", ".join(f"{name} {value:.0%}" for name, value in face.top())
        _say(f"  {face.emotion:<10} box ({place})  {shares}")


def _say(line: str) -> None:
    """Print a result to standard output, above a progress bar."""
    tqdm.write(line.rstrip(), file=sys.stdout)
    sys.stdout.flush()
