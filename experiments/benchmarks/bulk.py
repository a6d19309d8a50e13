"""Recognition of many images: rate of decoding only, rate of recognition, and scaling over worker processes.

    python experiments/benchmarks/bulk.py [--pictures 1000] [--workers 1 2] [--rounds 3] [--parquet]

The images are JPEGs of 640×480 with one face each (the astronaut of scikit-image), in a folder or, with ``--parquet``,
in a column of one file. Workers are those of ``python -m emodet.predict --workers N``, with one thread each. The rate
excludes the first and last batches, so the start of the processes does not count. Rounds alternate between the cases.
Prints medians as Markdown, with the load average; run nothing else on the machine. CPU time is user and system time of
all processes, start included; use it on busy machines.
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
from recognise import moving_faces

from emodet.cpu import available_cores
from emodet.inference.batch import Batch
from emodet.inference.opening import open_images
from emodet.inference.processes import PICTURES, recognise_in_processes
from emodet.inference.recognizer import Recognizer
from emodet.inference.sources import find_sources

TARGET = 0.85
DISTINCT_IMAGES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000, help="number of images")
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, available_cores()}))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parquet", action="store_true", help="one Parquet file instead of a folder")
    arguments = parser.parse_args()
    if arguments.pictures < (least := 6 * PICTURES * max(arguments.workers)):
        parser.error(f"--pictures {arguments.pictures}: {max(arguments.workers)} workers need at least {least}")
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line).split(":")[1]
    print(f"{cpu.strip()}, {available_cores()} cores, Python {platform.python_version()}, OpenCV {cv2.__version__}")
    print(f"{arguments.pictures} images, {arguments.rounds} rounds, load average before {os.getloadavg()[0]:.1f}\n")
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
                found.append(recognition_rate(batch, count, name) if count else decoding_rate(name))
                cpu_ms[count].append(1000 * (sum(os.times()[:4]) - before) / arguments.pictures)
    decoding, *others = (median(found) for found in rates.values())
    one = others[arguments.workers.index(1)] if 1 in arguments.workers else float("nan")
    print(f"Decoding only, one process: {decoding:.0f} images/s, CPU time {median(cpu_ms[0]):.1f} ms per image\n")
    print(
        "| workers | images/s | per worker, relative to decoding only | scaling efficiency | CPU time per image, ms |"
    )
    print("|---:|---:|---:|---:|---:|")
    for count, rate in zip(arguments.workers, others, strict=True):
        shares = f"{rate / decoding / count:.3f} | {rate / count / one:.2f}"
        print(f"| {count} | {rate:.1f} | {shares} | {median(cpu_ms[count]):.1f} |")
    own, worker = (resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    load = os.getloadavg()[0]
    print(f"\nPeak resident memory: {own} MB in the parent process, {worker} MB in a worker.")
    print(f"Load average after: {load:.1f}.")
    most = max(arguments.workers)
    efficiency = others[arguments.workers.index(most)] / most / one
    print(f"Scaling efficiency with {most} workers: target {TARGET}, measured {efficiency:.2f}.")
    sys.exit(0 if efficiency >= TARGET or most == 1 else 1)


def write_pictures(folder: Path, count: int, parquet: bool) -> str:
    """Write a folder of JPEGs, or a Parquet file that contains them; returns its path."""
    files = [cv2.imencode(".jpg", frame[:, :, ::-1])[1].tobytes() for frame in moving_faces(1, DISTINCT_IMAGES)]
    if parquet:
        images = [{"bytes": files[number % DISTINCT_IMAGES], "path": f"{number}.jpg"} for number in range(count)]
        pyarrow.parquet.write_table(pyarrow.table({"image": images}), folder / "faces.parquet")
        return str(folder / "faces.parquet")
    for number in range(count):
        (folder / f"{number:06}.jpg").write_bytes(files[number % DISTINCT_IMAGES])
    return str(folder)


def decoding_rate(name: str) -> float:
    started = time.perf_counter()
    count = sum(item.image_rgb is not None for item in open_images(find_sources([name])))
    return count / (time.perf_counter() - started)


def recognition_rate(batch: Batch, count: int, name: str) -> float:
    """Images per second with `count` workers, without the first and last two batches of each."""
    times, errors = [], 0
    for finished in recognise_in_processes(batch, find_sources([name]), count):
        times.append(time.perf_counter())
        errors += sum(done.counts.error is not None or done.counts.faces != 1 for done in finished)
    assert not errors, f"{errors} images without exactly one face"
    steady = times[2 * count : -2 * count]
    return PICTURES * (len(steady) - 1) / (steady[-1] - steady[0])


if __name__ == "__main__":
    main()
