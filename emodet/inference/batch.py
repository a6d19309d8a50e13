"""Recognise inputs, pictures in batches and videos one by one, and write what was asked for. No input ends the run."""

import contextlib
import dataclasses
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emodet.errors import EmodetError
from emodet.images import MAX_PIXELS
from emodet.inference.capture import LiveVideo, open_video
from emodet.inference.faces import Detection, Face, scaled
from emodet.inference.opening import Opened
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
from emodet.inference.sources import RESULT_ENDINGS, Source, printable
from emodet.inference.summary import SourceSummary, Summary
from emodet.inference.video_reader import VideoReader

__all__ = ["Batch", "Recognised"]

UInt8 = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)

_MAX_STILL_MAPS = 3


@dataclass(slots=True)
class Recognised:
    """What became of one input.

    Attributes:
        counts: Its counts, notes and error.
        rows: The rows of a picture.
        row_file: JSON lines of a video, to be moved to the rows; None if they were written to a `RowWriter`.
        seconds: Time spent on a picture.
    """

    counts: SourceSummary
    rows: list[dict[str, Any]] = field(default_factory=list)
    row_file: Path | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class _Found:
    """A picture whose faces are cut out but not classified."""

    done: Recognised
    detections: list[Detection]
    crops: list[UInt8]
    faces: tuple[Face, ...] = ()


@dataclass(slots=True)
class Batch:
    """One run over many inputs, counted in `summary`. Copies without `rows` work in other processes.

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
        """Recognise one input in this process; False if it failed. `RowsError` and `WindowClosed` end the run."""
        if item.image_rgb is None and item.error is None:
            done = Recognised(SourceSummary(item.source.name))
            self.summary.sources.append(done.counts)
            with self._failure(done.counts):
                self.video(item.source, done.counts, self.rows)
            if self.rows is None and done.counts.frames:
                _print_video(done.counts)
        else:
            (done,) = self.pictures([item])
            self.summary.sources.append(done.counts)
        return self._finish(done)

    def take(self, done: Recognised) -> bool:
        """Take an input that another process has recognised; False if it failed. `RowsError` ends the run."""
        self.summary.fold(done.counts)
        for note in done.counts.notes:
            self.report(f"note: {done.counts.name}: {note}")
        if done.row_file is not None:
            self.summary.meter.add(None, done.counts.frames)
            if self.rows is None:
                _print_video(done.counts)
            else:
                self.rows.move_from(done.row_file)
        return self._finish(done)

    def _finish(self, done: Recognised) -> bool:
        counts = done.counts
        if done.seconds and counts.frames:
            self.summary.meter.add(done.seconds)
            if self.rows is None:
                _print_rows(counts.name, done.rows)
        if self.rows is not None:
            with self._failure(counts):
                for row in done.rows:
                    self.rows.write(row)
        if counts.error:
            self.report(f"error: {counts.error}", always=True)
        return counts.error is None

    @contextlib.contextmanager
    def _failure(self, counts: SourceSummary) -> Iterator[None]:
        """Make an exception the input's error; what ends the run is raised."""
        try:
            yield
        except (BrokenPipeError, WindowClosed):
            raise
        except EmodetError as error:
            counts.error = str(error)
            if isinstance(error, RowsError):
                raise
        except Exception as error:
            _log.exception("a defect of emodet; please report it")
            counts.error = f"{counts.name}: {type(error).__name__} ({error})"

    def pictures(self, items: Iterable[Opened]) -> list[Recognised]:
        """Recognise pictures, with one call of the net for the faces of all: rows, or an error, for each in order.

        Only their crops are kept, so that `items` may decode them one at a time. Pictures that are drawn are classified
        one by one.
        """
        results: list[Recognised] = []
        waiting: list[_Found] = []
        started = time.perf_counter()
        for item in items:
            counts = SourceSummary(item.source.name, notes=list(item.notes))
            results.append(Recognised(counts))
            with self._failure(counts):
                if item.error is not None or item.image_rgb is None:
                    raise item.error or EmodetError(f"{counts.name}: not an image")
                boxes, found = self._find(item.image_rgb, results[-1])
                if self.annotate or self.show:
                    self._classify([found])
                    if counts.error is None:
                        self._draw(item.source, item.image_rgb, boxes, found.faces, counts)
                else:
                    waiting.append(found)
        self._classify(waiting)
        for done in results:
            done.seconds = (time.perf_counter() - started) / len(results)
        return results

    def _find(self, image: UInt8, done: Recognised) -> tuple[Sequence[Detection], _Found]:
        """All boxes to hide, and the faces to recognise."""
        detector = self.recognizer.detector
        min_score = min(SCORE_TO_HIDE, detector.min_score) if self.stream.hide else None
        boxes = self.recognizer.detect(image, min_score=min_score)
        sure = [each for each in boxes if each.score >= detector.min_score]
        return boxes, _Found(done, sure, [self.recognizer.crop(image, each) for each in sure])

    def _classify(self, pictures: Sequence[_Found]) -> None:
        try:
            every = [(crop, each) for one in pictures for crop, each in zip(one.crops, one.detections, strict=True)]
            faces = iter(self.recognizer.classify([crop for crop, _ in every], [each for _, each in every]))
        except Exception as problem:
            if len(pictures) > 1:  # it may be due to one of them
                for one in pictures:
                    self._classify([one])
                return
            for one in pictures:
                with self._failure(one.done.counts):
                    raise problem
            return
        for one in pictures:
            one.faces = tuple(next(faces) for _ in one.detections)
            one.done.counts.add(one.faces)
            name = one.done.counts.name
            one.done.rows = [face_row(name, 0, None, place, face) for place, face in enumerate(one.faces)]

    def _draw(
        self, source: Source, image: UInt8, found: Sequence[Detection], faces: Sequence[Face], counts: SourceSummary
    ) -> None:
        maps = heat_maps(self.recognizer, image, faces, at_most=_MAX_STILL_MAPS) if self.stream.explain else None
        large, moved = readable(image, faces)
        factor = large.shape[1] / image.shape[1]
        boxes = [scaled(face, factor, factor).box for face in found]
        picture = draw(large, moved, hidden=boxes if self.stream.hide else None, maps=maps)
        if self.annotate and self.folder is not None:
            path = _result_path(self.folder, source, RESULT_ENDINGS[0])
            write_picture(picture, path)
            counts.files.append(printable(path))
        if self.show:
            show(picture, wait_ms=0)

    def video_apart(self, source: Source, row_file: Path) -> Recognised:
        """Recognise a video, with its rows in a file of their own."""
        done = Recognised(SourceSummary(source.name), row_file=row_file)
        with self._failure(done.counts), RowWriter("jsonl", row_file, self.recognizer.model.info.class_names) as rows:
            self.video(source, done.counts, rows)
        return done

    def video(self, source: Source, counts: SourceSummary, rows: RowWriter | None) -> None:
        """Recognise a video or live source to its end; `counts` are kept up to an error."""
        live = source.kind == "live"
        if isinstance(source.address, bytes):
            raise EmodetError(f"{source.name}: a video is read from a file only")
        video = open_video(source.address, live=live, max_pixels=self.max_pixels, on_event=self.report)
        live = isinstance(video, LiveVideo)  # not a file behind a web address
        total, quiet = video.frame_count or None, self.quiet or not sys.stderr.isatty()
        with tqdm(total=total, unit="frame", desc=source.name, file=sys.stderr, disable=quiet, leave=False) as bar:
            sinks = [_Counts(counts, self.summary, bar, live), *self._sinks(source, video, rows)]
            try:
                stream = dataclasses.replace(self.stream, note=live or self.show)
                recognise_stream(self.recognizer, video, sinks, stream)
            finally:
                counts.files.extend(printable(file) for sink in sinks for file in sink.files)
                self._note_losses(video, counts)

    def _sinks(self, source: Source, video: VideoReader | LiveVideo, rows: RowWriter | None) -> list[Sink]:
        sinks: list[Sink] = [] if rows is None else [RowSink([rows], source.name)]
        if self.folder is not None:
            _, movie, chart = (_result_path(self.folder, source, ending) for ending in RESULT_ENDINGS)
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


def _result_path(folder: Path, source: Source, ending: str) -> Path:
    return folder / source.stem.with_name(source.stem.name + ending)


def _print_video(counts: SourceSummary) -> None:
    shares = [f"{name} {count / counts.faces:.0%}" for name, count in counts.emotions.most_common()]
    shown = ", ".join(shares) or "no face"
    _say(f"{counts.name}: {counts.frames} frames, {counts.faces} faces: {shown}")


def _print_rows(name: str, rows: Sequence[dict[str, Any]]) -> None:
    _say(f"{name}: {'' if rows else 'no face'}")
    for row in rows:
        best = sorted(row["probabilities"].items(), key=lambda pair: -pair[1])[:3]
        place = ", ".join(str(round(row[side])) for side in ("x1", "y1", "x2", "y2"))
        shares = ", ".join(f"{name} {value:.0%}" for name, value in best)
        _say(f"  {row['emotion']:<10} box ({place})  {shares}")


def _say(line: str) -> None:
    """Print a result to standard output, above a progress bar."""
    tqdm.write(line.rstrip(), file=sys.stdout)
    sys.stdout.flush()
