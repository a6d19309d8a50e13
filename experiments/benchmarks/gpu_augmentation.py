"""Augmentation where the faces lie (data.device) beside that of worker processes: pictures, distributions, speed.

    python experiments/benchmarks/gpu_augmentation.py [--sheet FILE.png] [--size 96] [--rounds 5] [--only PART]

Everything is computed on drawn faces. On the CPU both ways have one thread, and speed is of processor time, which other
programs on the machine do not take. Where torch finds a CUDA device, it is measured too, in time that passes: with the
faces there, and the host waiting for the last batch alone. Prints Markdown.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import numpy.typing as npt
import torch
from omegaconf import OmegaConf
from PIL import Image

from emodet.commands import conf_folder
from emodet.data.augmentation import Augmentation
from emodet.data.device_augmentation import DeviceAugmentation
from emodet.synthetic.faces import draw_face
from emodet.evaluation.contact_sheet import contact_sheet

UInt8 = npt.NDArray[np.uint8]
NAMES = ("light", "standard", "strong", "live")
BATCH = 128
COLUMNS = 10
DRAWS = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheet", type=Path, help="write the picture here")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("sheet", "distributions", "speeds"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if arguments.sheet:
        write_sheet(arguments.sheet, arguments.size)
    if arguments.only == "sheet":
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, one thread, torch {torch.__version__}, OpenCV {cv2.__version__}"
    )
    if arguments.only != "speeds":
        print_distributions()
    if arguments.only != "distributions":
        print_speeds(arguments.size, arguments.rounds)


def configured(name: str) -> Augmentation:
    """An augmentation of ``conf/augmentation``."""
    steps = OmegaConf.to_container(OmegaConf.load(f"{conf_folder()}/augmentation/{name}.yaml"))
    return Augmentation(steps["steps"])  # type: ignore[index, call-overload, arg-type]


def on(device: str, augmentation: Augmentation) -> Callable[[UInt8, int], UInt8]:
    """The same on a device, from arrays to arrays."""
    place = torch.device(device)
    there = DeviceAugmentation(augmentation, place)
    return lambda crops, seed: there(torch.from_numpy(crops).to(place), seed).cpu().numpy()


def drawn(count: int, size: int) -> UInt8:
    """Different drawn people, one emotion after the other."""
    return np.stack([draw_face(number % 8, np.random.default_rng(number), size).image for number in range(count)])


def write_sheet(file: Path, size: int) -> None:
    """The faces, and below for each configuration what worker processes and what a device makes of them."""
    faces = drawn(COLUMNS, size)
    rows, captions = [*faces], ["as it is\n"] * COLUMNS
    for name in NAMES[1:3]:
        augmentation = configured(name)
        for way, augment in (("worker", augmentation), ("device", on("cpu", augmentation))):
            for seed in (1, 2):
                rows += [*augment(faces, seed)]
                captions += [f"{name}\n{way}"] * COLUMNS
    # With a palette a third as large.
    sheet = Image.fromarray(contact_sheet(rows, captions, COLUMNS, tile=60)).quantize(256, dither=Image.Dither.NONE)
    sheet.save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB\n")


def print_distributions() -> None:
    """Per configuration and figure: mean and deviation over the draws both ways, and the distance between them."""
    faces = np.repeat(drawn(8, 48), DRAWS // 8, axis=0)
    print(f"\n{DRAWS} draws on eight faces of 48 px. Two samples of one distribution are further apart than")
    print(f"{np.sqrt(-np.log(0.01 / 2) / DRAWS):.3f} (Kolmogorov-Smirnov) once in a hundred times.\n")
    print("| augmentation | figure per face | workers | device | distance |")
    print("|---|---|---:|---:|---:|")
    for name in NAMES:
        augmentation = configured(name)
        ones, others = (figures(way(faces, 5), faces) for way in (augmentation, on("cpu", augmentation)))
        for figure, one in ones.items():
            other = others[figure]
            shown = [f"{values.mean():.2f} ± {values.std():.2f}" for values in (one, other)]
            print(f"| {name} | {figure} | {shown[0]} | {shown[1]} | {distance(one, other):.3f} |")


def figures(found: UInt8, before: UInt8) -> dict[str, npt.NDArray[np.float64]]:
    """Of each face, in levels of 255."""
    x = found.astype(np.float64)
    half = x.shape[2] // 2
    return {
        "brightness": x.mean(axis=(1, 2, 3)),
        "deviation of its pixels": x.std(axis=(1, 2, 3)),
        "difference to the face as it is": np.abs(x - before).mean(axis=(1, 2, 3)),
        "difference of neighbours": np.abs(np.diff(x, axis=2)).mean(axis=(1, 2, 3)),
        "right half less left": x[:, :, half:].mean(axis=(1, 2, 3)) - x[:, :, :half].mean(axis=(1, 2, 3)),
        "colourfulness": np.ptp(x, axis=3).mean(axis=(1, 2)),
    }


def distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The largest difference between two cumulative distributions, of values rounded to a tenth of a level."""
    one, other = np.round(one, 1), np.round(other, 1)
    places = np.unique(np.concatenate([one, other]))
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def print_speeds(size: int, rounds: int) -> None:
    """Faces a second of augmentation alone, in turns."""
    crops = drawn(BATCH, size)
    there = {"cpu": torch.from_numpy(crops)}
    if torch.cuda.is_available():
        there["cuda"] = there["cpu"].cuda()
    print(f"\nFaces/s of augmentation alone, batches of {BATCH} at {size} px: median of {rounds} (lowest, highest).\n")
    columns = ["albumentations, one face at a time", *(f"device={name}" for name in there)]
    print(f"| augmentation | {' | '.join(columns)} |")
    print("|---|" + "---:|" * len(columns))
    for name in NAMES:
        augmentation = configured(name)
        found: dict[str, list[float]] = {"workers": [], **{device: [] for device in there}}
        on_devices = {device: DeviceAugmentation(augmentation, tensor.device) for device, tensor in there.items()}
        for seed in range(rounds):
            found["workers"].append(rate(partial(augmentation, crops), seed, 4, time.process_time))
            for device, augment in on_devices.items():
                batches, clock = (4, time.process_time) if device == "cpu" else (100, synchronised)
                found[device].append(rate(partial(augment, there[device]), seed, batches, clock))
        cells = [f"{median(speeds):,.0f} ({min(speeds):,.0f}, {max(speeds):,.0f})" for speeds in found.values()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    if "cuda" not in there:
        print("\nCUDA: not measured: no GPU at hand.")


def rate(augment: Callable[[int], object], seed: int, batches: int, clock: Callable[[], float]) -> float:
    """Faces a second over some batches, after one that does not count."""
    augment(seed)
    began = clock()
    for number in range(batches):
        augment(1000 * seed + number)
    return batches * BATCH / (clock() - began)


def synchronised() -> float:
    """The time, once the GPU has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
