"""Recognise inputs, pictures in batches and videos one by one, and write the results. A run survives failed inputs."""

import contextlib
import dataclasses
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from emodet.arrays import UInt8
from emodet.errors import os_errors
from emodet.images import MAX_PIXELS
from emodet.inference import pipeline
from emodet.inference.capture import LiveVideo, open_video
from emodet.inference.faces import Detection, Face
from emodet.inference.heatmaps import heat_maps
from emodet.inference.opening import Opened
from emodet.inference.overlay import draw, write_picture
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import RowsError, RowWriter, face_row
from emodet.inference.sources import RESULT_ENDINGS, Source, printable
from emodet.inference.summary import Meter, SourceSummary, Summary
from emodet.inference.video_reader import VideoReader


@dataclass(slots=True)
class Recognised:
    """The result of one input.

    Attributes:
        counts: Counts, notes and error of the input.
        rows: Rows of a picture; a file of JSON lines with the rows of a video; None if they are already written.
        seconds: Time spent on a picture.
    """

    counts: SourceSummary
    rows: list[dict[str, Any]] | Path | None
    seconds: float = 0.0


_Detected = tuple[Recognised, list[Detection], list[UInt8]]  # a picture with detections and crops, not yet classified


@dataclass(slots=True)
class Batch:
    """One run over many inputs, counted in `summary`. Copies without `rows` run in other processes.

    Attributes:
        recognizer: Recognises the faces.
        rows: Writes the results; None prints them as text.
        folder: Existing folder for files; None writes no files.
        annotate: Whether to write annotated pictures and videos; `show` displays them in a window.
        stream: Options of videos; `hide` and `explain` also apply to images.
        max_pixels: Maximum of width times height of images and frames; larger ones are errors.
        quiet: Whether to report errors only.
    """

    recognizer: Recognizer
    rows: RowWriter | None
    folder: Path | None = None
    annotate: bool = False
    show: bool = False
    stream: pipeline.StreamOptions = field(default_factory=pipeline.StreamOptions)
    max_pixels: int = MAX_PIXELS
    quiet: bool = False
    summary: Summary = field(default_factory=Summary)
    window_closed: bool = field(default=False, init=False)  # the user closed the window: process no further input

    def __post_init__(self) -> None:
        self.summary.min_confidence = self.recognizer.min_confidence
        self.summary.meter = Meter()  # leave out the time for loading the nets and finding the first inputs

    def report(self, line: str, *, always: bool = False) -> None:
        """Print a message to standard error, above a progress bar."""
        if always or not self.quiet:
            _print(line, sys.stderr)

    def finish(self, done: Recognised) -> None:
        """Write and count the result of an input, possibly from another process."""
        counts = done.counts
        with counts.errors():
            self._write(done)
        if counts.frames and done.rows is not None:  # other videos count each frame when it is recognised
            self.summary.meter.add(done.seconds or None, counts.frames)
        self.summary.add(counts)
        for note in counts.notes:
            self.report(f"note: {counts.name}: {note}")
        if counts.error:
            self.report(f"error: {counts.error}", always=True)

    def _write(self, done: Recognised) -> None:
        if self.rows is None:
            with os_errors("standard output: results could not be written", kind=RowsError):
                if done.counts.frames:
                    _print_result(done)
        elif isinstance(done.rows, Path):
            self.rows.move_from(done.rows)
        else:
            for row in done.rows or ():
                self.rows.write(row)

    def pictures(self, items: Iterable[Opened]) -> list[Recognised]:
        """Recognise pictures and classify all faces in one batch. Returns rows, or an error, for each picture in order.

        Only crops stay in memory, so that `items` can decode one picture at a time. Pictures that are annotated or
        shown are classified one by one.
        """
        results: list[Recognised] = []
        waiting: list[_Detected] = []
        started = time.perf_counter()
        threshold = self.recognizer.detector.min_score
        # Faces with a lower score are hidden too, but not recognised.
        lowest = min(pipeline.SCORE_TO_HIDE, threshold) if self.stream.hide else None
        for source, counts, image in items:
            done = Recognised(counts, [])
            results.append(done)
            if image is None:
                counts.error = counts.error or f"{counts.name}: not an image"
                continue
            with counts.errors():
                boxes = self.recognizer.detect(image, min_score=lowest)
                sure = [each for each in boxes if each.score >= threshold]
                detected = (done, sure, [self.recognizer.crop(image, each) for each in sure])
                if self.annotate or self.show:
                    (faces,) = self._classify([detected])
                    self._draw(source, image, boxes, faces, counts)
                else:
                    waiting.append(detected)
        try:
            self._classify(waiting)
        except Exception:  # perhaps caused by one of the pictures
            for one in waiting:
                with one[0].counts.errors():
                    self._classify([one])
        for done in results:
            done.seconds = (time.perf_counter() - started) / len(results)
        return results

    def _classify(self, pictures: Sequence[_Detected]) -> list[tuple[Face, ...]]:
        """Classify the faces of all pictures in one batch, count them, and store them as the pictures' rows."""
        crops = [crop for _, _, crops in pictures for crop in crops]
        all_faces = iter(self.recognizer.classify(crops, [box for _, boxes, _ in pictures for box in boxes]))
        results = []
        for done, detections, _ in pictures:
            faces = tuple(itertools.islice(all_faces, len(detections)))
            done.counts.add(faces)
            done.rows = [face_row(done.counts.name, 0, None, place, face) for place, face in enumerate(faces)]
            results.append(faces)
        return results

    def _draw(
        self, source: Source, image: UInt8, boxes: Sequence[Detection], faces: Sequence[Face], counts: SourceSummary
    ) -> None:
        maps = heat_maps(self.recognizer, image, faces) if self.stream.explain else None
        hidden = [face.box for face in boxes] if self.stream.hide else None
        picture = draw(image, faces, hidden=hidden, maps=maps, enlarge=True)
        if self.annotate and self.folder is not None:
            path = _result_path(self.folder, source, RESULT_ENDINGS[0])
            write_picture(picture, path)
            counts.files.append(printable(path))
        if self.show:
            try:
                pipeline.show(picture, wait_ms=0)
            except pipeline.WindowClosed:
                self.window_closed = True

    def video(self, source: Source, row_file: Path | None = None) -> Recognised:
        """Recognise a video or live source to its end; rows are written at once, or to `row_file` as JSON lines."""
        done = Recognised(SourceSummary(source.name), row_file)
        names = self.recognizer.model.info.class_names
        file = contextlib.nullcontext(self.rows) if row_file is None else RowWriter("jsonl", row_file, names)
        try:
            with done.counts.errors(), file as rows:
                self._recognise_video(source, done.counts, rows)
        except BaseException:  # such as Ctrl-C: count the frames that were recognised
            self.summary.add(done.counts)
            raise
        return done

    def _recognise_video(self, source: Source, counts: SourceSummary, rows: RowWriter | None) -> None:
        assert not isinstance(source.address, bytes)  # an image
        video = open_video(source.address, live=source.kind == "live", max_pixels=self.max_pixels, on_event=self.report)
        live = isinstance(video, LiveVideo)  # not a file behind a web address
        from tqdm import tqdm

        total, quiet = video.frame_count or None, self.quiet or not sys.stderr.isatty()
        with tqdm(total=total, unit="frame", desc=source.name, file=sys.stderr, disable=quiet, leave=False) as bar:
            sinks: list[pipeline.Sink] = [] if rows is None else [pipeline.RowSink(rows, source.name)]
            # Right after the rows, so that a signal rarely arrives in between and the summary agrees with the rows.
            sinks += [_Counts(counts, self.summary, bar), *self._sinks(source, video)]
            try:
                stream = dataclasses.replace(self.stream, note=live or self.show)
                pipeline.recognise_stream(self.recognizer, video, sinks, stream)
            finally:
                counts.files.extend(printable(file) for sink in sinks for file in sink.files)
                counts.left_out, counts.damaged = video.dropped, video.damaged
                if video.damaged:
                    of = f" of {video.frame_count}" if video.frame_count else ""
                    counts.notes.append(f"{video.damaged}{of} frames are damaged or missing and were not recognised")
                if video.partly_damaged:
                    counts.notes.append(f"{video.partly_damaged} frames were recognised in spite of visible damage")

    def _sinks(self, source: Source, video: VideoReader | LiveVideo) -> list[pipeline.Sink]:
        sinks: list[pipeline.Sink] = []
        if self.folder is not None:
            _, movie, chart = (_result_path(self.folder, source, ending) for ending in RESULT_ENDINGS)
            if self.annotate:
                sinks.append(pipeline.AnnotatedVideoSink(movie, video))
            sinks.append(pipeline.TimelineSink(chart, self.recognizer.model.info.class_names, source.name))
        if self.show:
            sinks.append(pipeline.WindowSink())
        return sinks


class _Counts(pipeline.Sink):
    """Counts the results of one video and moves its progress bar."""

    def __init__(self, counts: SourceSummary, summary: Summary, bar: Any) -> None:
        super().__init__()
        self._counts, self._summary, self._bar = counts, summary, bar

    def write(self, result: pipeline.FrameResult) -> None:
        if result.fresh:
            self._counts.add(result.faces)
            self._summary.meter.add(result.latency_s)
        self._bar.update(result.frame.index + 1 - self._bar.n)


def _result_path(folder: Path, source: Source, ending: str) -> Path:
    return folder / source.stem.with_name(source.stem.name + ending)


def _print_result(done: Recognised) -> None:
    """Print the result of an input to standard output, above a progress bar."""
    counts = done.counts
    if isinstance(done.rows, list):
        lines = [f"{counts.name}:" if done.rows else f"{counts.name}: no face"]
        for row in done.rows:
            best = sorted(row["probabilities"].items(), key=lambda pair: -pair[1])[:3]
            corners = ", ".join(str(round(row[side])) for side in ("x1", "y1", "x2", "y2"))
            probabilities = ", ".join(f"{name} {value:.0%}" for name, value in best)
            lines.append(f"  {row['emotion']:<10} box ({corners})  {probabilities}")
    else:
        shares = ", ".join(f"{name} {count / counts.faces:.0%}" for name, count in counts.emotions.most_common())
        lines = [f"{counts.name}: {counts.frames} frames, {counts.faces} faces: {shares or 'no face'}"]
    _print("\n".join(lines), sys.stdout)
    sys.stdout.flush()


def _print(text: str, stream: TextIO) -> None:
    """Print above a progress bar, if there is one; only progress bars import tqdm."""
    if (tqdm := sys.modules.get("tqdm")) is None:
        print(text, file=stream)
    else:
        tqdm.tqdm.write(text, file=stream)
