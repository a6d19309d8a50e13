"""Recognition of many pictures: its rate, that of decoding alone, and how it grows with worker processes.

    python experiments/benchmarks/bulk.py [--pictures 1000] [--workers 1 2] [--rounds 3] [--parquet]

The pictures are JPEGs of 640×480, each with one face (the astronaut's of scikit-image), in a folder or, with
``--parquet``, in a column of one file. Workers are those of ``python -m emodet.predict --workers N``, with one thread
each; the rate is taken between the first and last batches, so that starting the processes does not count. Rounds go
in turns, medians are printed, as Markdown, with the load of the machine: nothing else should run on it. CPU time is
user and system time of all processes with their start, for machines that are busy.
"""

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cv2
import pyarrow
import pyarrow.parquet
from recognise import wandering_faces

from emodet.cpu import available_cores
from emodet.inference.batch import Batch
from emodet.inference.opening import open_images
from emodet.inference.processes import PICTURES, recognise_in_processes
from emodet.inference.recognizer import Recognizer
from emodet.inference.sources import find_sources

WANTED = 0.85
DRAWN = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, available_cores()}))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parquet", action="store_true")
    arguments = parser.parse_args()
    if arguments.pictures < (least := 6 * PICTURES * max(arguments.workers)):
        parser.error(f"--pictures {arguments.pictures}: {max(arguments.workers)} workers need {least} or more")
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line).split(":")[1]
    print(f"{cpu.strip()}, {available_cores()} cores, Python {platform.python_version()}, OpenCV {cv2.__version__}")
    print(f"{arguments.pictures} pictures, {arguments.rounds} rounds, load before {os.getloadavg()[0]:.1f}\n")
    cv2.setNumThreads(1)
    batch = Batch(Recognizer(detector="centerface", threads=1), None, quiet=True)
    counts = (0, *arguments.workers)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    cpu_ms: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        name = write_pictures(Path(folder), arguments.pictures, arguments.parquet)
        for _ in range(arguments.rounds):
            for count, found in rates.items():
                before = sum(os.times()[:4])
                found.append(recognised_a_second(batch, count, name) if count else decoded_a_second(name))
                cpu_ms[count].append(1000 * (sum(os.times()[:4]) - before) / arguments.pictures)
    decoding, *others = (median(found) for found in rates.values())
    one = others[arguments.workers.index(1)] if 1 in arguments.workers else float("nan")
    print(f"decoding alone, one process: {decoding:.0f} pictures/s, CPU time {median(cpu_ms[0]):.1f} ms a picture\n")
    print("| workers | pictures/s | of decoding, a worker | of workers × one worker | CPU ms a picture |")
    print("|---:|---:|---:|---:|---:|")
    for count, rate in zip(arguments.workers, others, strict=True):
        shares = f"{rate / decoding / count:.3f} | {rate / count / one:.2f}"
        print(f"| {count} | {rate:.1f} | {shares} | {median(cpu_ms[count]):.1f} |")
    here, there = (resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"\nMost resident memory: {here} MB here, {there} MB in a worker; load {os.getloadavg()[0]:.1f} after.")
    most = max(arguments.workers)
    share = others[arguments.workers.index(most)] / most / one
    print(f"Wanted of {most} workers: {WANTED} × {most} × one worker; measured {share:.2f}.")
    sys.exit(0 if share >= WANTED or most == 1 else 1)


def write_pictures(folder: Path, count: int, parquet: bool) -> str:
    """A folder of JPEGs, or a Parquet file with them."""
    files = [cv2.imencode(".jpg", frame[:, :, ::-1])[1].tobytes() for frame in wandering_faces(1, DRAWN)]
    if parquet:
        images = [{"bytes": files[number % DRAWN], "path": f"{number}.jpg"} for number in range(count)]
        pyarrow.parquet.write_table(pyarrow.table({"image": images}), folder / "faces.parquet")
        return str(folder / "faces.parquet")
    for number in range(count):
        (folder / f"{number:06}.jpg").write_bytes(files[number % DRAWN])
    return str(folder)


def decoded_a_second(name: str) -> float:
    started = time.perf_counter()
    count = sum(item.image_rgb is not None for item in open_images(find_sources([name])))
    return count / (time.perf_counter() - started)


def recognised_a_second(batch: Batch, count: int, name: str) -> float:
    """Pictures a second of so many workers, without the first and last two batches of each."""
    times, errors = [], 0
    for finished in recognise_in_processes(batch, find_sources([name]), count):
        times.append(time.perf_counter())
        errors += sum(done.counts.error is not None or done.counts.faces != 1 for done in finished)
    assert not errors, f"{errors} pictures without their face"
    steady = times[2 * count : -2 * count]
    return PICTURES * (len(steady) - 1) / (steady[-1] - steady[0])


if __name__ == "__main__":
    main()
