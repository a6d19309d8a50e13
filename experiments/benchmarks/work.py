"""CPU time per face of packing, training, data loading and serving, of this checkout against another one.

    python experiments/benchmarks/work.py --against FOLDER [--keys old] [--rounds 3]

FOLDER is another checkout of emodet (`git worktree add FOLDER COMMIT`), run by the same Python with the same pictures.
Every command runs with less and with more work; the difference of the CPU times (user and system, all processes),
divided by the additional faces, leaves out imports and start. The checkouts run in turns. Prints Markdown.
"""

import argparse
import contextlib
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from emodet.emotions import EMOTIONS
from emodet.synthetic.faces import draw_face

HERE = Path(__file__).parents[2]
FACES = (1024, 5120)
EPOCHS = (1, 9)
REQUESTS = (40, 240)
# Configuration keys of this checkout, and of one before their renaming on 2026-11-26.
KEYS = {
    "new": ["data.num_workers=0", "scheduler=constant"],
    "old": ["data.workers=0", "schedule=constant"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--keys", choices=KEYS, default="new", help="configuration keys of the other checkout")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    checkouts = {arguments.against.resolve(): KEYS[arguments.keys], HERE: KEYS["new"]}
    print(f"{processor()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n")
    print("| CPU time per face, ms | other | this | ratio |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder)
        for title, case in {
            "packing, 224 to 96 pixels": packed,
            "training, 48 pixels, batches of 64, augmentation `standard`": trained,
            "the same with 2 channels instead of 32: loading and augmenting": loaded,
            "POST /v1/recognize, 640×480, one face": served,
        }.items():
            times: dict[Path, list[float]] = {checkout: [] for checkout in checkouts}
            for _ in range(arguments.rounds):
                for checkout, keys in checkouts.items():
                    times[checkout].append(case(checkout, keys, folder))
            before, after = (1000 * median(values) for values in times.values())
            print(f"| {title} | {before:.3g} | {after:.3g} | {after / before:.2f} |", flush=True)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if "model name" in line)


def write_pictures(folder: Path) -> None:
    """Write class folders with few and with many drawn faces as JPEG; no two are equal."""
    drawn = [draw_face(number % 8, number, 224).image for number in range(64)]
    for count in FACES:
        for number in range(count):
            place = folder / str(count) / EMOTIONS[number % 8] / f"{number:05}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 8, (224, 224, 3), dtype=np.uint8)
            cv2.imwrite(str(place), cv2.cvtColor(cv2.add(drawn[number % 64], noise), cv2.COLOR_RGB2BGR))


def cpu_s(checkout: Path, command: list[str], folder: Path) -> float:
    """CPU time of a command and its processes."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "EMODET_OUTPUTS": str(folder)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def data(folder: Path, count: int, packs: Path) -> list[str]:
    return ["data=class_folders", f"data.root={folder / str(count)}", f"data.packs={packs}", "data.processes=1"]


def packed(checkout: Path, keys: list[str], folder: Path) -> float:
    times = []
    for count in FACES:
        packs = folder / "packs"
        shutil.rmtree(packs, ignore_errors=True)
        times.append(cpu_s(checkout, ["emodet.prepare", *data(folder, count, packs)], folder))
    return (times[1] - times[0]) / (FACES[1] - FACES[0])


def trained(checkout: Path, keys: list[str], folder: Path, more: tuple[str, ...] = ()) -> float:
    packs = folder / f"packs-{checkout.name}"
    words = [*data(folder, FACES[0], packs), "experiment=baseline", *keys, *more]
    words += [
        "optimizer=adamw",
        "augmentation=standard",
        "preprocessing.size=48",
        "data.batch_size=64",
        "logger=csv",
        "threads=1",
        "trainer.accelerator=cpu",
    ]
    times = [cpu_s(checkout, ["emodet.train", *words, f"trainer.max_epochs={epochs}"], folder) for epochs in EPOCHS]
    return (times[1] - times[0]) / (EPOCHS[1] - EPOCHS[0]) / (0.9 * FACES[0])


def loaded(checkout: Path, keys: list[str], folder: Path) -> float:
    return trained(checkout, keys, folder, ("net.channels=[2,2,2,2]",))


def served(checkout: Path, keys: list[str], folder: Path) -> float:
    """CPU time of the server, per request beyond the first ones."""
    picture = (checkout if (checkout / "emodet/pictures").is_dir() else HERE) / "emodet/pictures/portrait.jpg"
    image = cv2.resize(cv2.imread(str(picture)), (640, 480))
    encoded = cv2.imencode(".jpg", image)[1].tobytes()
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "emodet.app", "--port", "0", "--threads", "1", "--detector", "centerface"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert server.stdout is not None
    with contextlib.ExitStack() as stack:
        stack.callback(server.wait)
        stack.callback(server.send_signal, signal.SIGINT)
        found = next(match for line in server.stdout if (match := re.search(r"http://\S+:\d+/", line)))
        times = []
        for count in (REQUESTS[0], REQUESTS[1] - REQUESTS[0]):
            for _ in range(count):
                urllib.request.urlopen(urllib.request.Request(f"{found[0]}v1/recognize", data=encoded)).read()
            times.append(tree_cpu_s(server.pid))
    return (times[1] - times[0]) / (REQUESTS[1] - REQUESTS[0])


def tree_cpu_s(pid: int) -> float:
    """CPU time so far of a process and its living and finished children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(tree_cpu_s(int(child)) for child in children)


if __name__ == "__main__":
    main()
