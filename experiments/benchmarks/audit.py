"""CPU time and memory of the audit at the size of AffectNet, on random hashes, labels and probabilities without images.

python experiments/benchmarks/audit.py --faces 300000
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from emodet.auditing.duplicates import copy_groups, number_photographs
from emodet.auditing.findings import propose
from emodet.auditing.image_issues import ImageStats, find_image_issues
from emodet.auditing.label_noise import OutOfFoldProbs, assign_folds, find_label_noise
from emodet.auditing.options import ProposalOptions
from emodet.data.pack import Table

CLASS_SHARES = (0.26, 0.468, 0.088, 0.049, 0.022, 0.013, 0.087, 0.013)  # AffectNet's training faces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=300_000)
    arguments = parser.parse_args()
    table, stats, out_of_fold = random_inputs(arguments.faces)
    print(f"{arguments.faces:,} faces; before: {peak_mb():.0f} MB")
    print("| step | CPU time, s | peak memory, MB |\n|---|---|---|")
    numbers = timed("find copies (radius 8, mirrored too)", lambda: number_photographs(table, stats))
    groups = timed("group copies", lambda: copy_groups(table, numbers))
    images = timed("find image issues", lambda: find_image_issues(stats))
    timed("5 folds", lambda: assign_folds(table.emotion, numbers, 5, 0))
    noise = timed("confident learning", lambda: find_label_noise(table, out_of_fold))
    found = timed("proposals", lambda: propose(table, images, groups, noise, ProposalOptions()))
    print(f"\n{len(groups):,} groups, {len(found):,} proposals")


def random_inputs(count: int) -> tuple[Table, ImageStats, OutOfFoldProbs]:
    """Inputs of the audit. A tenth of the faces are copies: their hashes differ from the original's by one bit."""
    rng = np.random.default_rng(0)
    originals = rng.integers(0, count, count // 10)
    hashes = rng.integers(0, 2**63, (2, count), dtype=np.uint64)
    hashes[:, : len(originals)] = hashes[:, originals] ^ (
        np.uint64(1) << rng.integers(0, 63, len(originals)).astype(np.uint64)
    )
    thumbnails = rng.integers(0, 256, (count, 16, 16), dtype=np.uint8)
    thumbnails[: len(originals)] = thumbnails[originals]
    emotion = rng.choice(8, count, p=np.array(CLASS_SHARES) / sum(CLASS_SHARES))
    measures = rng.lognormal(5, 0.5, (3, count)).astype(np.float32)
    missing = np.full(count, np.nan, dtype=np.float32)
    table = Table(
        key=np.array([f"train_set/images/{number}.jpg" for number in range(count)]),
        split=np.where(np.arange(count) % 75 == 0, "val", "train"),
        emotion=emotion,
        soft_label=np.full((count, 8), np.nan, dtype=np.float32),
        valence=missing,
        arousal=missing,
        subject=np.full(count, ""),
        pixel_hash=np.array([f"{number:024x}" for number in range(count)]),
    )
    probabilities = rng.dirichlet(np.full(8, 0.3), count)
    probabilities[np.arange(count), np.where(rng.random(count) < 0.6, emotion, 0)] += 1.0
    brightness, contrast = np.full(count, 128, np.float32), np.full(count, 50, np.float32)
    stats = ImageStats(hashes, thumbnails, measures[0], brightness, contrast)
    return table, stats, OutOfFoldProbs(probabilities / probabilities.sum(axis=1, keepdims=True), "random")


def timed(name: str, step: Callable[[], Any]) -> Any:
    start = time.process_time()
    result = step()
    print(f"| {name} | {time.process_time() - start:.1f} | {peak_mb():.0f} |", flush=True)
    return result


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
