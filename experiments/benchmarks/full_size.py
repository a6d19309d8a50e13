"""AffectNet at full size, generated: time, memory and disk of packing, splitting, balanced sampling and loading.

    python experiments/benchmarks/full_size.py [--share 1] [--size 96] [--workers 2] [--folder DIR] [--json FILE]

Writes 287,651 training and 4,000 validation faces in the layout of 2017, with 68 landmarks in each row, into a
temporary folder. Each face is a JPEG of 112 pixels, and no two are equal (drawn faces with an individual pattern). Each
step runs in a separate process; its memory is that of all its processes, shared pages counted once (the sum of Pss,
sampled). Prints Markdown, with the load average; run nothing else on the machine.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emodet.datasets.affectnet import TRAIN_COUNTS, VALIDATION_COUNTS
from emodet.emotions import EMOTIONS
from emodet.synthetic.faces import draw_face

COLUMNS = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression valence arousal"
DISTINCT_FACES = 512
SIDE = 112
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="share of the faces, for a quick test")
    parser.add_argument("--size", type=int, default=96, help="crop size in pixels")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the loader")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--step", choices=sorted(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step is not None:
        print(json.dumps(STEPS[arguments.step](arguments)))
        return
    figures: dict[str, Any] = {"machine": machine(), "load before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="emodet-full-size-", dir=arguments.folder) as folder:
        arguments.folder = Path(folder)
        start = time.perf_counter()
        faces = write_release(arguments.folder / "release", arguments.share)
        figures["faces"], figures["generation s"] = faces, time.perf_counter() - start
        figures["release bytes"] = disk_of(arguments.folder / "release")
        prepare = [sys.executable, "-m", "emodet.prepare", *settings(arguments)]
        figures["list"] = measured([*prepare, "list=true"], arguments)
        figures["prepare"] = measured(prepare, arguments)
        figures["pack bytes"] = disk_of(arguments.folder / "packs")
        figures["prepare again"] = measured(prepare, arguments)
        figures["verify"] = measured([*prepare, "verify=true"], arguments)
        for step in STEPS:
            own = [sys.executable, __file__, "--step", step, "--folder", folder]
            own += ["--size", str(arguments.size), "--workers", str(arguments.workers)]
            figures[step] = measured(own, arguments)
        write_small_pack(arguments)
        for context in ("fork", "spawn"):
            figures[f"workers, {context}"] = private_memory(arguments, context)
    figures["load after"] = os.getloadavg()[0]
    report(figures)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2))


def machine() -> list[str]:
    name = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return [f"{name}, {os.cpu_count()} cores", f"Python {platform.python_version()}, OpenCV {cv2.__version__}"]


# Generating the release


def write_release(root: Path, share: float) -> int:
    """Write a release in the layout of 2017; returns its number of faces."""
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(draw, range(DISTINCT_FACES), chunksize=32))
        lists = root / "Manually_Annotated_file_lists"
        lists.mkdir(parents=True)
        total = 0
        for name, counts in (("training.csv", TRAIN_COUNTS), ("validation.csv", VALIDATION_COUNTS)):
            emotions = np.repeat(np.arange(8), [max(2, round(counts[emotion] * share)) for emotion in EMOTIONS])
            np.random.default_rng(total).shuffle(emotions)
            pieces = np.array_split(np.arange(total, total + len(emotions)), 64)
            for _ in pool.map(write_pictures, [root] * 64, pieces, [drawn] * 64):
                pass
            with (lists / name).open("w", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream, lineterminator="\n")
                writer.writerow(COLUMNS.split())
                for number, emotion in enumerate(emotions.tolist(), start=total):
                    writer.writerow([image_path(number), 8, 8, 96, 96, landmarks(number), emotion, 0.25, -0.125])
            total += len(emotions)
    return total


def draw(number: int) -> np.ndarray:
    cv2.setNumThreads(0)
    return draw_face(number % 8, number, SIDE).image


def image_path(number: int) -> str:
    """Path of an image in AffectNet's naming: a number as folder, a hash as file name."""
    return f"{number % 1200 + 1}/{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:024x}.jpg"


def landmarks(number: int) -> str:
    return ";".join(f"{(number * 7 + point * 13) % 9600 / 100:.2f}" for point in range(136))


def write_pictures(root: Path, numbers: np.ndarray, drawn: list[np.ndarray]) -> None:
    cv2.setNumThreads(0)
    for number in numbers.tolist():
        picture = drawn[number % DISTINCT_FACES].copy()
        # Encode the number in 20 black or white squares, so that no two crops are equal.
        bits = np.array([number >> bit & 1 for bit in range(20)], np.uint8).reshape(2, 10) * 255
        picture[-20:, 1:101] = np.kron(bits, np.ones((10, 10), np.uint8))[:, :, None]
        file = root / "Manually_Annotated" / "Manually_Annotated_Images" / image_path(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(cv2.imencode(".jpg", picture[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))[1].tobytes())


def disk_of(folder: Path) -> int:
    """Allocated disk space, not the sum of file sizes."""
    return 512 * sum(path.lstat().st_blocks for path in folder.rglob("*"))


# The steps


def settings(arguments: argparse.Namespace) -> list[str]:
    return [
        *("data=affectnet", f"data.root={arguments.folder / 'release'}", f"data.packs={arguments.folder / 'packs'}"),
        f"preprocessing.size={arguments.size}",
    ]


def data_module(arguments: argparse.Namespace, *, processes: int | None = None, **options: Any) -> Any:
    from emodet.data.datamodule import EmotionDataModule
    from emodet.data.sources import Source

    source = Source(arguments.folder / "release", packs=arguments.folder / "packs", processes=processes)
    values: dict[str, Any] = {"batch_size": BATCH, "num_workers": arguments.workers, "sampling": "balanced"}
    return EmotionDataModule(source, {"size": arguments.size}, **values | options)


def start(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds from the end of imports to the first batch, as in `emodet.train`: from disk and from the page cache."""
    import emodet.train  # noqa: F401  all imports of training

    found = {}
    for name in ("from disk", "from the page cache"):
        if name == "from disk":
            drop_from_page_cache(arguments.folder / "packs")
        times = [time.perf_counter()]
        data = data_module(arguments)
        data.prepare_data()
        times.append(time.perf_counter())
        data.setup()
        times.append(time.perf_counter())
        loader = data.train_dataloader()
        first = next(iter(loader))
        times.append(time.perf_counter())
        assert len(first["emotion"]) == BATCH
        del loader
        parts = ("prepare_data", "setup", "first batch")
        found |= {
            f"{part}, {name}": after - before for part, before, after in zip(parts, times, times[1:], strict=False)
        }
        found[f"total, {name}"] = times[-1] - times[0]
    return found


def drop_from_page_cache(folder: Path) -> None:
    os.sync()
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def split(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds for opening the pack, assigning splits, and the balanced order of one epoch."""
    from emodet.data.faces import sampling_weights
    from emodet.data.pack import Pack
    from emodet.data.splits import assign_splits

    found = {}
    (folder,) = (arguments.folder / "packs").iterdir()
    start = time.perf_counter()
    pack = Pack(folder)
    found["open the pack"] = time.perf_counter() - start
    start = time.perf_counter()
    table = pack.table
    found["read the table"] = time.perf_counter() - start
    start = time.perf_counter()
    splits = assign_splits(table, table.emotion >= 0, "auto", 0)
    found["assign splits"] = time.perf_counter() - start
    data = data_module(arguments, num_workers=0)
    data.setup()
    start = time.perf_counter()
    sampling_weights(table.emotion[splits.train], "balanced")
    next(iter(data.train_dataloader().batch_sampler))
    found["balanced order of one epoch"] = time.perf_counter() - start
    return found | {f"faces in {name}": len(getattr(splits, name)) for name in ("train", "val", "test")}


def epoch(arguments: argparse.Namespace) -> dict[str, float]:
    """One epoch of balanced batches, without augmentation and training."""
    data = data_module(arguments)
    data.setup()
    start = time.perf_counter()
    counts = np.zeros(8, dtype=np.int64)
    for batch in data.train_dataloader():
        counts += np.bincount(batch["emotion"].numpy(), minlength=8)
    seconds = time.perf_counter() - start
    ratio = float(counts.max() / counts.min())
    return {"time": seconds, "faces": int(counts.sum()), "most frequent class / least frequent class": ratio}


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {"split": split, "start": start, "epoch": epoch}


# Measurement


def measured(command: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a command: wall time, peak memory of all its processes, and the values that its last line gives as JSON."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            peak[0] = max(peak[0], sum(memory_of(each)["Pss"] for each in process_tree(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output}")
    last = output.strip().splitlines()[-1]
    values = json.loads(last) if last.startswith("{") else {}
    return {"wall s": time.perf_counter() - start, "peak bytes": peak[0], **values}


def process_tree(parent: int) -> list[int]:
    """IDs of a process and its descendants."""
    found = [parent]
    for number in found:
        for task in Path(f"/proc/{number}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def memory_of(process: int) -> dict[str, int]:
    """Memory of a process in bytes, by kind."""
    kinds = dict.fromkeys(("Pss", "Private_Clean", "Private_Dirty"), 0)
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return kinds
    for line in lines:
        name, _, amount = line.partition(":")
        if name in kinds:
            kinds[name] = int(amount.split()[0]) * 1024
    return kinds


def write_small_pack(arguments: argparse.Namespace) -> None:
    """Write and pack 320 faces, as a reference for the memory of workers."""
    write_release(arguments.folder / "small" / "release", 0.001)
    small = argparse.Namespace(**vars(arguments) | {"folder": arguments.folder / "small"})
    data_module(small, processes=1).prepare_data()


def private_memory(arguments: argparse.Namespace, context: str) -> dict[str, int]:
    """Private memory of four workers of the loader in total, less that of four workers on the pack of 320 faces."""
    sums = {}
    for name, folder in (("small", arguments.folder / "small"), ("full", arguments.folder)):
        script = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import argparse
from pathlib import Path
from full_size import data_module, memory_of
if __name__ == "__main__":
    data = data_module(argparse.Namespace(folder=Path({str(folder)!r}), size={arguments.size}, workers=4))
    data.setup()
    loader = data.train_dataloader()
    loader.multiprocessing_context = {context!r}
    batches = loader._get_iterator()
    for _ in range(8):
        next(batches)
    every = [memory_of(worker.pid) for worker in batches._workers]
    print(json.dumps({{kind: sum(each[kind] for each in every) for kind in ("Private_Clean", "Private_Dirty")}}))
    batches._shutdown_workers()
"""
        file = arguments.folder / "workers.py"
        file.write_text(script)
        output = subprocess.run([sys.executable, file], capture_output=True, text=True, check=True).stdout
        sums[name] = json.loads(output.strip().splitlines()[-1])
    return {kind: sums["full"][kind] - sums["small"][kind] for kind in sums["full"]}


def report(figures: dict[str, Any]) -> None:
    print("## Machine\n\n" + "\n".join(f"- {line}" for line in figures["machine"]))
    print(f"- load average {figures['load before']:.1f} before, {figures['load after']:.1f} after\n")
    print(
        f"{figures['faces']:,} faces; the release takes {figures['release bytes'] / 1e9:.2f} GB on disk, the pack "
        f"{figures['pack bytes'] / 1e9:.2f} GB.\n"
    )
    print("| step | wall time, s | peak memory, GB |\n|---|---:|---:|")
    for step in ("list", "prepare", "prepare again", "verify", *STEPS):
        print(f"| {step} | {figures[step]['wall s']:.1f} | {figures[step]['peak bytes'] / 1e9:.2f} |")
    for step in STEPS:
        print(f"\n| {step} | value (times in s) |\n|---|---:|")
        for name, value in figures[step].items():
            if name not in ("wall s", "peak bytes"):
                print(f"| {name} | {value:,.2f} |" if isinstance(value, float) else f"| {name} | {value:,} |")
    print("\n| start method of four workers | private dirty memory, MB | private clean memory, MB |\n|---|---:|---:|")
    for context in ("fork", "spawn"):
        found = figures[f"workers, {context}"]
        print(f"| {context} | {found['Private_Dirty'] / 1e6:.0f} | {found['Private_Clean'] / 1e6:.0f} |")


if __name__ == "__main__":
    main()
