"""The command `python -m emodet.predict SOURCE…`: find faces and recognise their emotions.

Exit status: 0 if all inputs were read, 1 if any failed, 2 for a mistake in the call, 130 after Ctrl-C.
"""

import argparse
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

import cv2
from PIL import Image

from emodet.errors import EmodetError
from emodet.files import write_atomically
from emodet.images import MAX_PIXELS
from emodet.inference.batch import Batch, opened, result_path
from emodet.inference.capture import read_ahead
from emodet.inference.detectors import DETECTORS
from emodet.inference.faces import MIN_CONFIDENCE
from emodet.inference.pipeline import StreamOptions
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import ROW_FORMATS, RowsError, RowWriter
from emodet.inference.sinks import WindowClosed
from emodet.inference.sources import RESULT_ENDINGS, FoundSources, find_sources, printable
from emodet.inference.tracking import Smoothing
from emodet.onnx_session import PROVIDERS
from emodet.termination import Terminated, raise_on_sigterm

__all__ = ["main"]

_EXAMPLES = """\
examples:
  python -m emodet.predict photo.jpg
  python -m emodet.predict holiday/ 'more/**/*.png' --output found --rows csv --annotate
  python -m emodet.predict interview.mp4 --output found --annotate --min-confidence 0.5
  python -m emodet.predict 0 --show                       (camera 0; q ends)
  python -m emodet.predict rtsp://user:word@host/stream --rows jsonl --every 5
  curl -s https://example.org/face.jpg | python -m emodet.predict - --rows jsonl

exit status: 0 all inputs read, 1 some failed, 2 a mistake in the call, 130 stopped by Ctrl-C
"""
_SOURCES = f"""an image, a video, a folder (with everything below), a glob, a camera index, an rtsp or http address, or
- for an encoded image on standard input; folders and globs pass over hidden files and results of earlier runs
(*{", *".join(RESULT_ENDINGS)})"""
_DETECTORS = f"""face detector: {", ".join(DETECTORS)}, or yunet:FILE.onnx (default: auto, YuNet if its weights are
there, else CenterFace; yunet downloads them once; none: each picture is one face)"""
_MIN_CONFIDENCE = """below it an emotion is "uncertain"; auto: the model file's threshold for 95 %% right on val
(default: %(default)s)"""
_PRIOR = """balanced: predict rare emotions more often, at a cost in accuracy (default: %(default)s)"""
_ROWS = """one row per face and frame, into DIR, or to standard output without --output (default: jsonl with --output,
else text)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or those of the command line; returns the exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.ERROR if options.quiet else logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        # File names hold characters that the terminal may not have; rows are UTF-8.
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            utf8 = {"encoding": "utf-8"} if stream is sys.stdout and options.rows else {}
            reconfigure(errors="backslashreplace", **utf8)
    try:
        with raise_on_sigterm(), _pillow_limit(options.max_pixels):
            return _run(options)
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except Terminated:
        return 143
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our rows has enough; Python must not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: argparse.Namespace) -> int:
    _check(options)
    if options.threads is not None:
        cv2.setNumThreads(options.threads)
    recognizer = Recognizer(
        options.model,
        detector=options.detector,
        threads=options.threads,
        providers=options.providers,
        min_confidence=options.min_confidence,
        prior=options.prior,
    )
    found = find_sources(options.sources)
    rows = options.rows or ("jsonl" if options.output else None)
    _refuse_overwriting(found, options.output, rows)
    rows_path = options.output / f"faces.{rows}" if options.output else None
    status = 0
    with contextlib.ExitStack() as stack:
        writer = None
        if rows is not None:
            names, mark = recognizer.model.info.class_names, options.csv_bom
            writer = stack.enter_context(RowWriter(rows, rows_path or sys.stdout, names, byte_order_mark=mark))
        batch = Batch(
            recognizer,
            writer,
            folder=options.output,
            annotate=options.annotate or options.explain,
            show=options.show,
            stream=StreamOptions(Smoothing(options.smooth), options.every, options.blur_faces, options.explain),
            max_pixels=options.max_pixels,
            quiet=options.quiet,
        )
        batch.summary.skipped = found.skipped
        batch.report(f"model: {recognizer.model.name}; faces: {recognizer.detector.description}")
        try:
            # The next image is decoded while this one is recognised.
            with closing(read_ahead(opened(found.sources, options.max_pixels), capacity=1)) as items:
                for item in items:
                    if not batch.recognise(item) and options.strict:
                        break
        except WindowClosed:
            pass
        except RowsError as error:
            batch.report(f"error: {error}", always=True)
        except KeyboardInterrupt as stop:
            batch.report("stopped: open files are finished")
            status = 143 if isinstance(stop, Terminated) else 130
    if options.output is not None:
        try:
            write_atomically(options.output / "summary.json", batch.summary.to_json())
        except OSError as error:
            raise EmodetError(f"{options.output / 'summary.json'}: could not be written ({error.strerror})") from None
    for line in batch.summary.lines():
        batch.report(line)
    if rows_path is not None:
        batch.report(f"rows: {printable(rows_path)}")
    return status or (1 if batch.summary.failed else 0)


def _check(options: argparse.Namespace) -> None:
    """Refuse what is known to be wrong before anything is loaded."""
    for name in ("annotate", "explain"):
        if getattr(options, name) and options.output is None and not options.show:
            raise EmodetError(f"--{name} writes pictures: name a folder for them with --output DIR")
    if options.rows == "parquet" and options.output is None:
        raise EmodetError("--rows parquet cannot go to standard output: name a folder with --output DIR")
    if options.csv_bom and options.rows != "csv":
        raise EmodetError("--csv-bom is for spreadsheets: use it with --rows csv")
    if options.blur_faces and not (options.annotate or options.explain or options.show):
        raise EmodetError("--blur-faces hides faces in pictures: use it with --annotate, --explain or --show")
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if options.show and sys.platform.startswith("linux") and not screen:
        raise EmodetError("--show needs a screen, and there is none here (DISPLAY is not set)")
    if options.output is None:
        return
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        probe = options.output / f".emodet-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        raise EmodetError(f"--output {options.output}: cannot be written to ({problem.strerror})") from None


def _refuse_overwriting(found: FoundSources, folder: Path | None, rows: str | None) -> None:
    """Refuse a run whose results would replace one of its inputs, under whatever name."""
    if folder is None:
        return
    inputs: dict[tuple[int, int], str] = {}
    results = [folder / "summary.json", folder / f"faces.{rows}"]
    for source in found.sources:
        if source.error is None:
            results.extend(result_path(folder, source, ending) for ending in RESULT_ENDINGS)
        if isinstance(source.address, Path):
            with contextlib.suppress(OSError):
                status = source.address.stat()
                inputs[status.st_dev, status.st_ino] = source.name
    for result in results:
        with contextlib.suppress(OSError):
            status = result.stat()
            if name := inputs.get((status.st_dev, status.st_ino)):
                raise EmodetError(
                    f"--output {folder}: {result.name} would replace the input {name}; name another folder"
                )


@contextlib.contextmanager
def _pillow_limit(pixels: int) -> Iterator[None]:
    """Raise Pillow's own limit to what the user asked for; `decode_rgb` enforces it."""
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
        description="Find faces in images, videos, cameras and streams, and recognise their emotions.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=_SOURCES)
    add = parser.add_argument_group("recognition").add_argument
    add("--model", metavar="FILE", help="model file, or int8 or fp32 for a shipped one")
    add("--detector", default="auto", metavar="NAME", help=_DETECTORS)
    add("--min-confidence", type=_probability, default=MIN_CONFIDENCE, metavar="P", help=_MIN_CONFIDENCE)
    add("--prior", choices=("trained", "balanced"), default="trained", help=_PRIOR)
    add("--explain", action="store_true", help="add a heat map of what each prediction rests on")
    add = parser.add_argument_group("videos, cameras and streams").add_argument
    add("--every", type=_count, default=1, metavar="N", help="recognise every Nth frame (default: 1)")
    smooth = "time constant of smoothing per face; 0 for none (default: %(default)s)"
    add("--smooth", type=_seconds, default=Smoothing().seconds, metavar="SECONDS", help=smooth)
    add = parser.add_argument_group("results").add_argument
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for rows, pictures, timelines, summary.json; replaces results",
    )
    add("--rows", choices=ROW_FORMATS, help=_ROWS)
    add("--csv-bom", action="store_true", help="begin CSV with a byte-order mark, as spreadsheets expect")
    add("--annotate", action="store_true", help="write annotated pictures, and H.264 videos with their sound")
    add("--show", action="store_true", help="show them in a window; q or Esc ends")
    add("--blur-faces", action="store_true", help="make faces unrecognisable in pictures and videos")
    add = parser.add_argument_group("run").add_argument
    add("--threads", type=_count, metavar="N", help="threads per network (default: one per core)")
    providers = f"execution providers of the model file, preferred first: {', '.join(PROVIDERS)} (default: cpu)"
    add("--providers", type=lambda text: tuple(text.split(",")), default=("cpu",), metavar="LIST", help=providers)
    add("--strict", action="store_true", help="stop at the first input that fails")
    pixels = "refuse larger images and frames, which may be decompression bombs (default: %(default)s)"
    add("--max-pixels", type=_count, default=MAX_PIXELS, metavar="N", help=pixels)
    add("--quiet", action="store_true", help="print results and errors only")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _probability(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 0 to 1 nor auto")


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")


if __name__ == "__main__":
    sys.exit(main())
