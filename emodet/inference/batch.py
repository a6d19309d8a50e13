"""Recognise many inputs, one after the other, and write what was asked for. No input ends the batch."""

import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.errors import EmodetError
from emodet.images import MAX_PIXELS, decode_rgb
from emodet.inference.capture import LiveVideo, open_video
from emodet.inference.faces import Face
from emodet.inference.pictures import draw, heat_maps, readable
from emodet.inference.pipeline import SCORE_TO_HIDE, Result, recognise_stream
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import RowWriter, face_row, open_rows
from emodet.inference.sinks import AnnotatedVideoSink, RowSink, Sink, TimelineSink, WindowSink, show, write_picture
from emodet.inference.smoothing import Smoothing
from emodet.inference.sources import RESULT_ENDINGS, Problem, Source, is_video
from emodet.inference.summary import SourceSummary, Summary
from emodet.inference.video_reader import VideoReader
from emodet.inference.web_images import fetch_image, image_notes

__all__ = ["Batch", "BatchOptions", "Opened", "opened", "result_path"]

UInt8 = npt.NDArray[np.uint8]

_MIN_SIDE = 8  # pixels; nothing smaller shows a face
_MAX_STILL_MAPS = 3


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What to write and show.

    Attributes:
        folder: Folder for files; it exists. None writes none.
        rows: One of `emodet.inference.rows.ROW_FORMATS`, or None for text for people.
        byte_order_mark: Begin CSV with one.
        annotate: Write annotated pictures and videos.
        show: Show them in a window.
        hide: Make faces unrecognisable in both.
        explain: Add heat maps to both.
        every: Recognise every N-th frame of videos.
        smoothing: How predictions of videos are smoothed.
        max_pixels: Refuse larger images and frames.
    """

    folder: Path | None = None
    rows: str | None = None
    byte_order_mark: bool = False
    annotate: bool = False
    show: bool = False
    hide: bool = False
    explain: bool = False
    every: int = 1
    smoothing: Smoothing = Smoothing()  # noqa: RUF009 (frozen)
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Opened:
    """An input with its decoded image; without one for a video or after an error."""

    source: Source | Problem
    image_rgb: UInt8 | None = None
    notes: tuple[str, ...] = ()
    error: EmodetError | None = None


def opened(sources: Iterable[Source | Problem], max_pixels: int = MAX_PIXELS) -> Generator[Opened, None, None]:
    """Decode the images among the inputs, one at a time."""
    for source in sources:
        if isinstance(source, Problem):
            yield Opened(source, error=EmodetError(source.message))
            continue
        try:
            yield _opened(source, max_pixels)
        except EmodetError as problem:
            yield Opened(source, error=problem)
        except Exception as problem:
            yield Opened(source, error=EmodetError(f"{source.name}: {type(problem).__name__} ({problem})"))


def _opened(source: Source, max_pixels: int) -> Opened:
    name = "standard input" if source.address == "-" else source.name
    try:
        if source.kind == "video" or isinstance(source.address, int):
            return Opened(source)
        if source.kind == "live":
            fetched = fetch_image(str(source.address), source.name)
            if fetched is None:
                return Opened(source)
            data = fetched
        else:
            data = sys.stdin.buffer.read() if source.address == "-" else Path(source.address).read_bytes()
    except OSError as problem:
        raise EmodetError(f"{name}: could not be read ({problem.strerror or problem})") from None
    if source.kind == "pipe" and is_video(data[:16]):
        raise EmodetError(f"{name}: a video cannot be read from a pipe; save it to a file and name that")
    image = decode_rgb(data, name=name, max_pixels=max_pixels)
    height, width = image.shape[:2]
    if min(height, width) < _MIN_SIDE:
        raise EmodetError(f"{name}: {width}×{height} pixels are too few to show a face")
    return Opened(source, image, image_notes(data))


class Batch:
    """One run over many inputs; a context manager that finishes its files.

    Attributes:
        summary: Counts so far.
        rows_path: The file of rows, or None.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        options: BatchOptions,
        summary: Summary,
        *,
        say: Callable[[str], None],
        report: Callable[[str], None],
        progress: Callable[[str, int], Any],
    ) -> None:
        """Open the file of rows.

        Args:
            recognizer: Recognises the faces.
            options: What to write and show.
            summary: Counts are added to it.
            say: Takes a line about a result.
            report: Takes a line about the run.
            progress: Makes a progress bar (tqdm) from a name and a number of frames.

        Raises:
            EmodetError: The file of rows cannot be opened.
        """
        self.summary = summary
        self.rows_path = options.folder / f"faces.{options.rows}" if options.folder and options.rows else None
        self._recognizer, self._options = recognizer, options
        self._say, self._report, self._progress = say, report, progress
        self._open = ExitStack()
        self._writers: list[RowWriter] = []
        if options.rows is not None:
            rows = open_rows(
                options.rows,
                self.rows_path or sys.stdout,
                recognizer.model.info.class_names,
                byte_order_mark=options.byte_order_mark,
            )
            self._writers.append(self._open.enter_context(rows))

    def __enter__(self) -> "Batch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, problem, trace)

    def recognise(self, item: Opened, counts: SourceSummary) -> None:
        """Recognise one input.

        Raises:
            EmodetError: It cannot be read, or a result cannot be written.
            WindowClosed: The user wants no more.
        """
        if item.error is not None:
            raise item.error
        assert isinstance(item.source, Source)
        for note in item.notes:
            self._note(counts, note)
        if item.image_rgb is None:
            self._video(item.source, counts)
        else:
            self._image(item.source, item.image_rgb, counts)

    def _image(self, source: Source, image: UInt8, counts: SourceSummary) -> None:
        options, detector = self._options, self._recognizer.detector
        started = time.perf_counter()
        min_score = min(SCORE_TO_HIDE, detector.min_score) if options.hide else None
        found = self._recognizer.detect(image, min_score=min_score)
        faces = self._recognizer.recognise(image, [each for each in found if each.score >= detector.min_score])
        self.summary.meter.add(time.perf_counter() - started)
        counts.add(faces)
        for place, face in enumerate(faces):
            for writer in self._writers:
                writer.write(face_row(source.name, 0, None, place, face))
        if options.rows is None:
            self._say_faces(source.name, faces)
        if not (options.annotate or options.show):
            return
        maps = heat_maps(self._recognizer, image, faces, at_most=_MAX_STILL_MAPS) if options.explain else None
        large, moved = readable(image, faces)
        factor = large.shape[1] / image.shape[1]
        x1y1x2y2 = [each.box for each in found]
        hidden = [(a * factor, b * factor, c * factor, d * factor) for a, b, c, d in x1y1x2y2] if options.hide else None
        picture = draw(large, moved, hidden=hidden, maps=maps)
        if options.annotate and options.folder is not None:
            path = result_path(options.folder, source, RESULT_ENDINGS[0])
            write_picture(picture, path)
            counts.files.append(str(path))
        if options.show:
            show(picture, wait_ms=0)

    def _video(self, source: Source, counts: SourceSummary) -> None:
        options = self._options
        video = open_video(
            source.address, live=source.kind == "live", max_pixels=options.max_pixels, on_event=self._report
        )
        live = isinstance(video, LiveVideo)
        total = 0 if isinstance(video, LiveVideo) else video.frame_count
        with self._progress(source.name, total) as bar:
            sinks = [_Counts(counts, self.summary, bar, live), *self._sinks(source, video)]
            try:
                recognise_stream(
                    self._recognizer,
                    video,
                    sinks,
                    smoothing=options.smoothing,
                    every=options.every,
                    hide=options.hide,
                    explain=options.explain,
                    note=live or options.show,
                )
            finally:
                counts.files.extend(str(file) for sink in sinks for file in sink.files)
                if isinstance(video, LiveVideo):
                    counts.left_out = video.dropped
                else:
                    self._damage(video, counts)
                if options.rows is None and counts.frames:
                    shares = [f"{name} {count / counts.faces:.0%}" for name, count in counts.emotions.most_common()]
                    shown = ", ".join(shares) or "no face"
                    self._say(f"{source.name}: {counts.frames} frames, {counts.faces} faces: {shown}")

    def _sinks(self, source: Source, video: VideoReader | LiveVideo) -> list[Sink]:
        options = self._options
        sinks: list[Sink] = [RowSink(self._writers, source.name)]
        if options.folder is not None:
            _, movie, chart = (result_path(options.folder, source, ending) for ending in RESULT_ENDINGS)
            if options.annotate:
                sound = (
                    source.address if isinstance(video, VideoReader) and not isinstance(source.address, int) else None
                )
                start_s = video.start_s if isinstance(video, VideoReader) else 0.0
                sinks.append(AnnotatedVideoSink(movie, frame_rate=video.frame_rate, sound=sound, start_s=start_s))
            sinks.append(TimelineSink(chart, self._recognizer.model.info.class_names, source.name))
        if options.show:
            sinks.append(WindowSink())
        return sinks

    def _damage(self, video: VideoReader, counts: SourceSummary) -> None:
        counts.damaged = video.damaged
        if video.damaged:
            total = f" of {video.frame_count}" if video.frame_count else ""
            self._note(counts, f"{video.damaged}{total} frames are damaged and could not be decoded")
        if video.partly_damaged:
            self._note(counts, f"frames with visible damage, recognised as they are: {video.partly_damaged}")

    def _note(self, counts: SourceSummary, note: str) -> None:
        counts.notes.append(note)
        self._report(f"note: {counts.name}: {note}")

    def _say_faces(self, name: str, faces: Sequence[Face]) -> None:
        self._say(f"{name}: {'' if faces else 'no face'}")
        for face in faces:
            best = sorted(face.probabilities.items(), key=lambda pair: -pair[1])[:3]
            place = ", ".join(str(round(value)) for value in face.box)
            shares = ", ".join(f"{name} {value:.0%}" for name, value in best)
            self._say(f"  {face.emotion:<10} box ({place})  {shares}")


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
