"""What the audit's own arithmetic costs for a whole AffectNet: made hashes, thumbnails, labels, answers; no pictures.

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

SHARES = (0.26, 0.468, 0.088, 0.049, 0.022, 0.013, 0.087, 0.013)  # AffectNet's training faces


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--faces", type=int, default=300_000)
    chosen = options.parse_args()
    table, stats, out_of_fold = made(chosen.faces)
    print(f"{chosen.faces:,} faces; before: {peak():.0f} MB\n| step | seconds of CPU | peak, MB |\n|---|---|---|")
    numbers = timed("find copies (radius 8, mirrored too)", lambda: number_photographs(table, stats))
    groups = timed("sort copies into groups", lambda: copy_groups(table, numbers))
    images = timed("find image issues", lambda: find_image_issues(stats))
    timed("5 folds", lambda: assign_folds(table.emotion, numbers, 5, 0))
    noise = timed("confident learning", lambda: find_label_noise(table, out_of_fold))
    found = timed("propose", lambda: propose(table, images, groups, noise, ProposalOptions()))
    print(f"\n{len(groups):,} groups, {len(found):,} proposals")


def made(count: int) -> tuple[Table, ImageStats, OutOfFoldProbs]:
    """A tenth of the faces are copies of others, with a few bits and grey values changed."""
    generator = np.random.default_rng(0)
    copied = generator.integers(0, count, count // 10)
    hashes = generator.integers(0, 2**63, (2, count), dtype=np.uint64)
    hashes[:, : len(copied)] = hashes[:, copied] ^ (
        np.uint64(1) << generator.integers(0, 63, len(copied)).astype(np.uint64)
    )
    thumbnails = generator.integers(0, 256, (count, 16, 16), dtype=np.uint8)
    thumbnails[: len(copied)] = thumbnails[copied]
    emotion = generator.choice(8, count, p=np.array(SHARES) / sum(SHARES))
    figures = generator.lognormal(5, 0.5, (3, count)).astype(np.float32)
    blank = np.full(count, np.nan, dtype=np.float32)
    table = Table(
        key=np.array([f"train_set/images/{number}.jpg" for number in range(count)]),
        split=np.where(np.arange(count) % 75 == 0, "val", "train"),
        emotion=emotion,
        soft_label=np.full((count, 8), np.nan, dtype=np.float32),
        valence=blank,
        arousal=blank,
        subject=np.full(count, ""),
        pixel_hash=np.array([f"{number:024x}" for number in range(count)]),
    )
    shares = generator.dirichlet(np.full(8, 0.3), count)
    shares[np.arange(count), np.where(generator.random(count) < 0.6, emotion, 0)] += 1.0
    brightness, contrast = np.full(count, 128, np.float32), np.full(count, 50, np.float32)
    stats = ImageStats(hashes, thumbnails, figures[0], brightness, contrast)
    return table, stats, OutOfFoldProbs(shares / shares.sum(axis=1, keepdims=True), "made")


def timed(name: str, step: Callable[[], Any]) -> Any:
    start = time.process_time()
    result = step()
    print(f"| {name} | {time.process_time() - start:.1f} | {peak():.0f} |", flush=True)
    return result


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
