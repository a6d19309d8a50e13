"""The user's command: `python -m emodet.predict SOURCE…` finds faces and says what they show.

Exit status: 0 when every input was done, 1 when any failed, 2 for a mistake in the call, 130 after Ctrl-C.
"""

import argparse
import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from emodet.errors import EmodetError
from emodet.images import MAX_PIXELS, decode_rgb
from emodet.inference.capture import LiveVideo, open_video, read_ahead
from emodet.inference.detectors import DETECTORS
from emodet.inference.meter import Meter
from emodet.inference.outputs import Outputs, WindowClosed, write_whole
from emodet.inference.pipeline import SCORE_TO_HIDE, recognise_video
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import ROW_FORMATS, RowsError
from emodet.inference.smoothing import Smoothing
from emodet.inference.sources import Problem, Source, find_sources
from emodet.inference.summary import SourceSummary, Summary
from emodet.modelfile import PROVIDERS
from emodet.termination import Terminated, raise_on_sigterm

__all__ = ["main"]

UInt8 = npt.NDArray[np.uint8]

_LEAST_SIDE = 8  # pixels; nothing smaller shows a face

_EXAMPLES = """\
examples:
  python -m emodet.predict photo.jpg
  python -m emodet.predict holiday/ 'more/**/*.png' --output found --rows csv --annotate
  python -m emodet.predict interview.mp4 --output found --annotate --min-confidence 0.5
  python -m emodet.predict 0 --show                       (camera 0; q ends)
  python -m emodet.predict rtsp://user:word@host/stream --rows jsonl --every 5
  curl -s https://example.org/face.jpg | python -m emodet.predict - --rows jsonl

exit status: 0 all inputs done, 1 some failed, 2 a mistake in the call, 130 stopped by Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Its arguments; None takes them from the command line.

    Returns:
        The exit status, as the module's first lines say.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        with raise_on_sigterm(), _pillow_allows(options.max_pixels):
            return _Run(options).run()
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our rows has enough; Python must not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class _Run:
    """One call of the command: what was asked for, and what is open while it runs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._folder: Path | None = options.output
        self._rows: str | None = options.rows or ("jsonl" if self._folder else None)
        self._check()
        if options.threads is not None:
            cv2.setNumThreads(options.threads)
        self._smoothing = Smoothing(seconds=options.smooth)
        self._recognizer = Recognizer(
            options.model,
            detector=options.detector,
            threads=options.threads,
            providers=options.providers,
            min_confidence=options.min_confidence,
        )
        self._summary = Summary(min_confidence=options.min_confidence)

    def run(self) -> int:
        """Do every input; returns the exit status."""
        options = self._options
        sources = find_sources(options.sources, leave_out=self._folder)
        self._tell(f"model: {self._recognizer.model.name}; faces: {self._recognizer.detector.description}")
        status = 0
        with (
            Outputs(
                self._recognizer,
                folder=self._folder,
                rows=self._rows,
                stream=sys.stdout,
                annotate=options.annotate or options.explain,
                show=options.show,
                hide=options.blur_faces,
                explain=options.explain,
            ) as self._outputs,
            self._progress(total=len(sources), unit="input", hidden=len(sources) < 2) as self._bar,
        ):
            try:
                self._every(sources)
            except WindowClosed:
                pass
            except KeyboardInterrupt as stop:
                self._tell("stopped: what was open is finished")
                status = 143 if isinstance(stop, Terminated) else 130
        self._finish()
        return status or (1 if self._summary.failed else 0)

    def _check(self) -> None:
        """Refuse what can be known to be wrong before anything is loaded."""
        options = self._options
        for name in ("annotate", "explain"):
            if getattr(options, name) and self._folder is None and not options.show:
                raise EmodetError(f"--{name} writes pictures: name the folder for them with --output DIR")
        if self._rows == "parquet" and self._folder is None:
            raise EmodetError("--rows parquet cannot go to standard output: name a folder with --output DIR")
        if options.blur_faces and not (options.annotate or options.explain or options.show):
            raise EmodetError("--blur-faces hides faces in pictures: use it with --annotate, --explain or --show")
        screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if options.show and sys.platform.startswith("linux") and not screen:
            raise EmodetError("--show needs a screen, and there is none here (DISPLAY is not set)")
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".emodet-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as problem:
            raise EmodetError(f"--output {self._folder}: cannot be written to ({problem.strerror})") from None

    def _every(self, sources: Sequence[Source | Problem]) -> None:
        # The next picture is decoded while this one is recognised.
        with closing(read_ahead(self._decoded(sources), capacity=1)) as decoded:
            for source, image, error in decoded:
                counts = self._summary.begin(source.name)
                try:
                    if error is not None or isinstance(source, Problem):
                        raise error or EmodetError(source.name)
                    if image is None:
                        self._video(source, counts)
                    else:
                        self._still(source, image, counts)
                except EmodetError as problem:
                    counts.error = str(problem)
                    self._tell(f"error: {problem}", always=True)
                    if self._options.strict or isinstance(problem, RowsError):
                        return
                self._bar.update()

    def _decoded(
        self, sources: Sequence[Source | Problem]
    ) -> Generator[tuple[Source | Problem, UInt8 | None, EmodetError | None], None, None]:
        """Each source with its picture, without one for a video, or with what is wrong with it."""
        for source in sources:
            image: UInt8 | None = None
            error: EmodetError | None = None
            if isinstance(source, Problem):
                error = EmodetError(source.message)
            elif source.kind in ("image", "stdin"):
                try:
                    image = _picture(source, self._options.max_pixels)
                except EmodetError as problem:
                    error = problem
            yield source, image, error

    def _still(self, source: Source, image: UInt8, counts: SourceSummary) -> None:
        detector = self._recognizer.detector
        started = time.perf_counter()
        hides = self._options.blur_faces
        found = self._recognizer.detect(image, min_score=min(SCORE_TO_HIDE, detector.min_score) if hides else None)
        faces = self._recognizer.recognise(image, [each for each in found if each.score >= detector.min_score])
        self._summary.meter.add(time.perf_counter() - started)
        counts.add(faces)
        written = self._outputs.still(source, image, faces, [each.box for each in found])
        counts.files.extend(map(str, written))
        if self._rows is None:
            self._say(f"{source.name}: {'no face' if not faces else ''}")
            for face in faces:
                best = sorted(face.probabilities.items(), key=lambda pair: -pair[1])[:3]
                place = ", ".join(str(round(value)) for value in face.box)
                shares = ", ".join(f"{name} {value:.0%}" for name, value in best)
                self._say(f"  {face.emotion:<10} box ({place})  {shares}")

    def _video(self, source: Source, counts: SourceSummary) -> None:
        options = self._options
        live = source.kind == "live"
        video = open_video(source.address, live=live, max_pixels=options.max_pixels, on_event=self._tell)
        live = isinstance(video, LiveVideo)
        meter = Meter()
        total = 0 if isinstance(video, LiveVideo) else video.frame_count
        outputs = self._outputs
        results = recognise_video(
            self._recognizer,
            video,
            smoothing=self._smoothing,
            every=options.every,
            all_frames=outputs.draws,
            hide=options.blur_faces,
            explain=options.explain,
        )
        last = 0
        written = outputs.video(source, video)
        try:
            with closing(results), written, self._progress(total=total or None, unit="frame", name=source.name) as bar:
                for result in results:
                    if result.fresh:
                        counts.add(result.faces)
                        for each in (meter, self._summary.meter):
                            each.add(result.age_s if live else result.recognised_s)
                    written.add(result, meter.note if options.show or live else "")
                    bar.set_postfix_str(meter.note, refresh=False)
                    bar.update(result.frame.index + 1 - last)
                    last = result.frame.index + 1
        finally:
            counts.files.extend(map(str, written.files))
            if isinstance(video, LiveVideo):
                counts.left_out = video.left_out
            if self._rows is None and counts.frames:
                shares = ", ".join(
                    f"{name} {count / counts.faces:.0%}" for name, count in counts.emotions.most_common()
                )
                self._say(f"{source.name}: {counts.frames} frames, {counts.faces} faces: {shares or 'no face'}")

    def _finish(self) -> None:
        if self._folder is not None:
            write_whole(self._summary.to_json().encode(), self._folder / "summary.json")
        lines = self._summary.lines()
        files = [file for source in self._summary.sources for file in source.files]
        if self._outputs.rows_path is not None:
            files.insert(0, str(self._outputs.rows_path))
        if files:
            more = f" and {len(files) - 4} more in {self._folder}" if len(files) > 4 else ""
            lines.append(f"written: {', '.join(files[:4])}{more}")
        failed = self._summary.failed
        if failed:
            lines.append(f"failed: {', '.join(source.name for source in failed[:10])}{' …' * (len(failed) > 10)}")
        for line in lines:
            self._tell(line)

    @contextlib.contextmanager
    def _progress(
        self, *, total: int | None, unit: str, name: str | None = None, hidden: bool = False
    ) -> Iterator["tqdm[None]"]:
        quiet = hidden or self._options.quiet or not sys.stderr.isatty()
        with tqdm(total=total, unit=unit, desc=name, disable=quiet, file=sys.stderr, dynamic_ncols=True) as bar:
            yield bar

    def _say(self, line: str) -> None:
        """A result, for standard output, around a progress bar that may be there."""
        tqdm.write(line.rstrip(), file=sys.stdout)
        sys.stdout.flush()

    def _tell(self, line: str, always: bool = False) -> None:
        """Something about the run, for standard error."""
        if always or not self._options.quiet:
            tqdm.write(line, file=sys.stderr)


def _picture(source: Source, max_pixels: int) -> UInt8:
    name = "standard input" if source.kind == "stdin" else source.name
    try:
        data = sys.stdin.buffer.read() if source.kind == "stdin" else Path(str(source.address)).read_bytes()
    except OSError as problem:
        raise EmodetError(f"{name}: could not be read ({problem.strerror or problem})") from None
    image = decode_rgb(data, name=name, max_pixels=max_pixels)
    height, width = image.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise EmodetError(f"{name}: {width}×{height} pixels are too few to show a face")
    return image


@contextlib.contextmanager
def _pillow_allows(pixels: int) -> Iterator[None]:
    """Raise Pillow's own limit to what the user asked for, and keep it quiet: `decode_rgb` says what is refused."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if before is not None:
            Image.MAX_IMAGE_PIXELS = max(before, pixels)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emodet.predict",
        description="Find faces in pictures, videos, cameras and streams, and say which emotion they show.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="an image, a video, a folder (with all below it), a glob, a camera's number, an rtsp or http address, "
        "or - for an encoded image on standard input",
    )
    what = parser.add_argument_group("recognising")
    what.add_argument("--model", metavar="FILE", help="model file, or int8 or fp32 for one that comes with the package")
    what.add_argument(
        "--detector",
        default="auto",
        metavar="NAME",
        help=f"what finds faces: {', '.join(DETECTORS)}, or yunet:FILE.onnx (default: auto, YuNet where its weights "
        "are at hand, else CenterFace; yunet fetches its weights once; none: each picture is one face)",
    )
    what.add_argument(
        "--min-confidence",
        type=_probability,
        default=0.0,
        metavar="P",
        help='below this probability an emotion is "uncertain"; the summary says how many are not (default: 0)',
    )
    what.add_argument("--explain", action="store_true", help="a heat map of what the answer rests on, beside the face")
    video = parser.add_argument_group("videos, cameras and streams")
    video.add_argument("--every", type=_count, default=1, metavar="N", help="recognise every Nth frame (default: 1)")
    video.add_argument(
        "--smooth",
        type=_seconds,
        default=Smoothing().seconds,
        metavar="SECONDS",
        help="calm each face's reading over about this time; 0 for none (default: %(default)s)",
    )
    out = parser.add_argument_group("results")
    out.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for rows, annotated pictures, timelines and summary.json; files of the same name are replaced",
    )
    out.add_argument(
        "--rows",
        choices=ROW_FORMATS,
        help="one row per face and frame, into DIR, or to standard output without --output "
        "(default: jsonl with --output, else lines for people)",
    )
    out.add_argument("--annotate", action="store_true", help="write annotated pictures, and H.264 videos without sound")
    out.add_argument("--show", action="store_true", help="show them in a window; q or Esc ends")
    out.add_argument("--blur-faces", action="store_true", help="make faces unrecognisable in whatever shows pictures")
    how = parser.add_argument_group("running")
    how.add_argument("--threads", type=_count, metavar="N", help="threads of each part (default: one per core)")
    how.add_argument(
        "--providers",
        type=lambda text: tuple(text.split(",")),
        default=("cpu",),
        metavar="LIST",
        help=f"what runs the model file, the preferred first: {', '.join(PROVIDERS)} (default: cpu)",
    )
    how.add_argument("--strict", action="store_true", help="stop at the first input that fails")
    how.add_argument(
        "--max-pixels",
        type=_count,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse larger pictures, which may be decompression bombs (default: %(default)s)",
    )
    how.add_argument("--quiet", action="store_true", help="no progress and no summary, only results and errors")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _probability(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")


if __name__ == "__main__":
    sys.exit(main())
