"""The command `python -m emodet.predict SOURCE…`: find faces and recognise their emotions.

Exit status: 0 if all inputs were read, 1 if any failed, 2 for an invalid command line, 130 after Ctrl-C.
"""

import argparse
import contextlib
import itertools
import logging
import os
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2

from emodet.cpu import available_cores
from emodet.errors import EmodetError, os_errors
from emodet.files import claimed, write_atomically
from emodet.images import MAX_PIXELS, raise_pillow_limit
from emodet.inference.batch import Batch, Recognised
from emodet.inference.capture import read_ahead
from emodet.inference.detectors import DETECTORS
from emodet.inference.faces import MIN_CONFIDENCE
from emodet.inference.opening import open_images
from emodet.inference.pipeline import StreamOptions, WindowClosed
from emodet.inference.recognizer import Recognizer
from emodet.inference.rows import ROW_FORMATS, RowsError, RowWriter
from emodet.inference.sources import RESULT_ENDINGS, Source, count_sources, find_sources, printable
from emodet.inference.summary import Progress, Summary
from emodet.inference.tracking import Smoothing
from emodet.installation import Terminated, command_parser, count, exit_status, exit_with, number
from emodet.onnx_session import PROVIDERS

_EXAMPLES = """\
examples:
  python -m emodet.predict photo.jpg
  python -m emodet.predict holiday/ 'more/**/*.png' --output found --rows csv --annotate
  python -m emodet.predict interview.mp4 --output found --annotate --min-confidence 0.5
  python -m emodet.predict 0 --show                       (camera 0; q ends)
  python -m emodet.predict rtsp://user:word@host/stream --rows jsonl --every 5
  python -m emodet.predict @paths.txt --output found --resume      (continue a stopped run)
  python -m emodet.predict faces.parquet --column image --output found --rows csv --workers 8
  curl -s https://example.org/face.jpg | python -m emodet.predict - --rows jsonl

exit status: 0 all inputs read, 1 some failed, 2 invalid command line, 130 stopped by Ctrl-C
"""
_PARALLEL_FROM = 64  # minimum number of inputs for one process per core
_SOURCES = f"""an image, a video, a folder (with everything below), a glob, @FILE (a list with one path per line), a
Parquet file with a column of paths or images, a camera index, an rtsp or http address, or - for an encoded image on
standard input; folders and globs skip hidden files and results of earlier runs (*{", *".join(RESULT_ENDINGS)})"""
_WORKERS = f"""number of processes; each recognises a batch of images or one video (default: one per core for
{_PARALLEL_FROM} or more inputs, else 1)"""
_RESUME = """continue after the same command was stopped: append to the rows in DIR and skip the inputs in them; without
rows, start a new run (jsonl and csv)"""
_DETECTORS = f"""face detector: {", ".join(DETECTORS)}, or yunet:FILE.onnx (default: auto, which is YuNet if its weights
are installed, else CenterFace; yunet downloads its weights once; none: each picture is one face)"""
_MIN_CONFIDENCE = """emotions with a lower probability are "uncertain"; auto: the model file's threshold for 95 %% right
on val (default: %(default)s)"""
_PRIOR = """balanced: predict rare emotions more often, at a cost in accuracy (default: %(default)s)"""
_ROWS = """write one row per face and frame, into DIR or, without --output, to standard output (default: jsonl with
--output, else text)"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv`, by default the arguments of the process; returns the exit status."""
    options = _parser().parse_args(argv)
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.ERROR if options.quiet else logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        # File names can contain characters that the terminal's encoding lacks; rows are UTF-8.
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            utf8 = {"encoding": "utf-8"} if stream is sys.stdout and options.rows else {}
            reconfigure(errors="backslashreplace", **utf8)
    raise_pillow_limit(options.max_pixels)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    _check(options)
    rows = options.rows or ("jsonl" if options.output else None)
    summary = Summary()
    found = find_sources(options.sources, column=options.column, skip=summary.skip)
    sources = _refuse_overwriting(found, options.sources, options.output, rows)
    head = list(itertools.islice(sources, _PARALLEL_FROM))
    parallel = len(head) == _PARALLEL_FROM and not options.show and all(it.kind in ("image", "video") for it in head)
    workers = options.workers or (available_cores() if parallel else 1)
    if options.threads is not None:
        cv2.setNumThreads(options.threads)
    recognizer = Recognizer(
        options.model,
        detector=options.detector,
        threads=options.threads or (1 if workers > 1 else None),
        providers=options.providers,
        min_confidence=options.min_confidence,
        prior=options.prior,
    )
    rows_path = options.output / f"faces.{rows}" if options.output else None
    with contextlib.ExitStack() as stack:
        progress = writer = None
        if options.output is not None:
            stack.enter_context(claimed(options.output, "--output"))
        if rows_path is not None and rows != "parquet":
            settings = _settings(options, rows, recognizer)
            progress = stack.enter_context(Progress(rows_path, settings, resume=options.resume))
        if rows is not None:
            names, append = recognizer.model.info.class_names, progress is not None and progress.resumed
            target, mark = rows_path or sys.stdout, options.csv_bom
            writer = stack.enter_context(RowWriter(rows, target, names, byte_order_mark=mark, append=append))
        batch = Batch(
            recognizer,
            writer,
            folder=options.output,
            annotate=options.annotate or options.explain,
            show=options.show,
            stream=StreamOptions(Smoothing(options.smooth), options.every, options.blur_faces, options.explain),
            max_pixels=options.max_pixels,
            quiet=options.quiet,
            summary=summary,
        )
        batch.report(f"model: {recognizer.model.name}; faces: {recognizer.detector.description}")
        status = _recognise(options, batch, progress, itertools.chain(head, sources), workers)
    if options.output is not None:
        try:
            write_atomically(options.output / "summary.json", summary.to_json())
        except OSError as problem:
            batch.report(f"error: {options.output / 'summary.json'}: could not be written ({problem})", always=True)
            status = status or 1
    for line in summary.lines():
        batch.report(line)
    if rows_path is not None:
        batch.report(f"rows: {printable(rows_path)}")
    return status or (1 if summary.failed else 0)


def _recognise(
    options: argparse.Namespace, batch: Batch, progress: Progress | None, sources: Iterator[Source], workers: int
) -> int:
    """Recognise the inputs that have no results yet; returns an exit status, 0 unless the run ended early."""
    if progress is not None:
        batch.summary.earlier = progress.earlier
        sources = (source for source in sources if source.name not in progress)
    bar: Any = contextlib.nullcontext()
    if workers > 1:
        from tqdm import tqdm  # deferred: not needed for a photo

        pause_s = 0.2 if sys.stderr.isatty() else 60
        bar = tqdm(unit="input", file=sys.stderr, disable=options.quiet, mininterval=pause_s, smoothing=0.05)
        threading.Thread(target=_count_inputs, args=(options, batch.summary.earlier, bar), daemon=True).start()
    try:
        with bar, closing(_results(options, batch, sources, workers)) as results:
            for finished in results:
                for done in finished:
                    batch.finish(done)
                if progress is not None:
                    progress.add([done.counts for done in finished])
                if workers > 1:
                    bar.update(len(finished))
                if batch.window_closed or (options.strict and batch.summary.failed):
                    break
    except WindowClosed:  # during a video, which --resume recognises again
        pass
    except RowsError as error:
        batch.report(f"error: {error}", always=True)
        return 1
    except KeyboardInterrupt as stop:
        batch.report("stopped; open files were completed")
        return 143 if isinstance(stop, Terminated) else 130
    return 0


def _results(
    options: argparse.Namespace, batch: Batch, sources: Iterator[Source], workers: int
) -> Generator[list[Recognised], None, None]:
    if workers > 1:
        from emodet.inference.processes import recognise_in_processes  # deferred: not needed for a photo

        yield from recognise_in_processes(batch, sources, workers, threads=options.threads or 1)
        return
    pipes = [text for text in options.sources if text == "-" or Path(text).is_fifo() or Path(text).is_char_device()]
    images = open_images(sources, options.max_pixels)
    # A thread decodes the next image during recognition; not for pipes, as only the main thread can be interrupted.
    with closing(images if pipes else read_ahead(images, capacity=1)) as items:
        for item in items:
            video = item.image_rgb is None and item.counts.error is None
            yield [batch.video(item.source)] if video else batch.pictures([item])


def _count_inputs(options: argparse.Namespace, earlier: int, bar: Any) -> None:
    """Count the inputs in the background, for the remaining time; a list from a pipe can be read only once."""
    if any(text.startswith("@") and not Path(text[1:]).is_file() for text in options.sources):
        return
    with contextlib.suppress(EmodetError, OSError, ValueError):  # reported where they are read
        bar.total = count_sources(options.sources, column=options.column) - earlier


def _settings(options: argparse.Namespace, rows: str | None, recognizer: Recognizer) -> dict[str, Any]:
    """Return the settings that must be equal in a resumed run."""
    names = ("prior", "every", "smooth", "annotate", "explain", "blur_faces", "max_pixels", "column")
    values = {name: getattr(options, name) for name in names}
    values |= {"rows": rows, "min_confidence": recognizer.min_confidence}
    return {"model_sha256": recognizer.model.sha256, "detector": recognizer.detector.description, **values}


def _check(options: argparse.Namespace) -> None:
    """Raise `EmodetError` for options that exclude each other, before anything is loaded."""
    folder, drawn = options.output, options.annotate or options.explain
    if drawn and folder is None and not options.show:
        raise EmodetError("--annotate and --explain write pictures: name a folder for them with --output DIR")
    if options.rows == "parquet" and folder is None:
        raise EmodetError("--rows parquet cannot go to standard output: name a folder with --output DIR")
    if options.resume and (folder is None or options.rows == "parquet"):
        raise EmodetError("--resume appends to rows: name their folder with --output DIR, and use jsonl or csv")
    if options.show and (options.workers or 1) > 1:
        raise EmodetError(f"--show needs one process, not --workers {options.workers}")
    if options.csv_bom and options.rows != "csv":
        raise EmodetError("--csv-bom is for spreadsheets: use it with --rows csv")
    if options.blur_faces and not (drawn or options.show):
        raise EmodetError("--blur-faces hides faces in pictures: use it with --annotate, --explain or --show")
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if options.show and sys.platform.startswith("linux") and not screen:
        raise EmodetError("--show needs a screen (DISPLAY is not set); --annotate --output DIR writes files instead")
    if folder is not None:
        with os_errors(f"--output {folder}: cannot be written to"):
            folder.mkdir(parents=True, exist_ok=True)


def _refuse_overwriting(
    sources: Iterator[Source], named: Sequence[str], folder: Path | None, rows: str | None
) -> Iterator[Source]:
    """Yield the inputs; raise `EmodetError` if a result could replace an input, a list or a table."""
    if folder is None:
        yield from sources
        return
    place, names = folder.resolve(), ("summary.json", "progress.jsonl", f"faces.{rows}")
    refusal = f"--output {folder}: a result would replace the input %s; name another folder"
    for text in named:
        if Path(text.removeprefix("@")).resolve() in [place / name for name in names]:
            raise EmodetError(refusal % printable(text))
    for source in sources:
        path = source.address
        if isinstance(path, Path) and (path.name.endswith((*RESULT_ENDINGS, *names)) or path.is_symlink()):
            file = path.resolve()
            if (file.name.endswith(RESULT_ENDINGS) and place in file.parents) or file in (place / n for n in names):
                raise EmodetError(refusal % source.name)
        yield source


def _parser() -> argparse.ArgumentParser:
    purpose = "Find faces in images, videos, cameras and streams, and recognise their emotions."
    parser = command_parser("predict", purpose, _EXAMPLES)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=_SOURCES)
    add = parser.add_argument_group("recognition").add_argument
    add("--model", metavar="FILE", help="model file, or a shipped one: int8 (default), accurate (twice the time), fp32")
    add("--detector", default="auto", metavar="NAME", help=_DETECTORS)
    add("--min-confidence", type=_probability, default=MIN_CONFIDENCE, metavar="P", help=_MIN_CONFIDENCE)
    add("--prior", choices=("trained", "balanced"), default="trained", help=_PRIOR)
    add("--explain", action="store_true", help="add a heat map of the regions that each prediction depends on")
    add = parser.add_argument_group("videos, cameras and streams").add_argument
    add("--every", type=count, default=1, metavar="N", help="recognise every Nth frame (default: 1)")
    smooth = "time constant of the smoothing of each face; 0 for none (default: %(default)s)"
    seconds = number("a number of seconds from 0 to 3600", 0, 3600)
    add("--smooth", type=seconds, default=Smoothing().seconds, metavar="SECONDS", help=smooth)
    add = parser.add_argument_group("results").add_argument
    output = "folder for rows, pictures, timelines and summary.json; existing results are replaced"
    add("--output", type=Path, metavar="DIR", help=output)
    add("--rows", choices=ROW_FORMATS, help=_ROWS)
    add("--csv-bom", action="store_true", help="begin CSV with a byte-order mark, as spreadsheets expect")
    add("--annotate", action="store_true", help="write annotated pictures, and H.264 videos with their sound")
    add("--show", action="store_true", help="show annotated pictures in a window; q or Esc quits")
    add("--blur-faces", action="store_true", help="make faces unrecognisable in pictures and videos")
    add("--column", metavar="NAME", help="column of Parquet files with paths or images, if there are several")
    add = parser.add_argument_group("run").add_argument
    add("--workers", type=count, metavar="N", help=_WORKERS)
    add("--resume", action="store_true", help=_RESUME)
    add("--threads", type=count, metavar="N", help="threads per network (default: one per core; 1 with --workers)")
    providers = f"execution providers of the model file, preferred first: {', '.join(PROVIDERS)} (default: cpu)"
    add("--providers", type=lambda text: tuple(text.split(",")), default=("cpu",), metavar="LIST", help=providers)
    add("--strict", action="store_true", help="stop at the first input that fails")
    pixels = "reject larger images and frames, which may be decompression bombs (default: %(default)s)"
    add("--max-pixels", type=count, default=MAX_PIXELS, metavar="N", help=pixels)
    add("--quiet", action="store_true", help="print results and errors only")
    return parser


def _probability(text: str) -> Any:
    return "auto" if text == "auto" else number("a number from 0 to 1, nor auto", 0, 1)(text)


if __name__ == "__main__":
    exit_with(main)
