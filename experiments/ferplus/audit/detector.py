"""Reliability of detectors on tight crops: missed faces, and faces found in images that FER+'s voters call no face.

python experiments/ferplus/audit/detector.py ferplus.parquet --detector yunet
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from emodet.auditing.image_issues import FRAMINGS, LONGEST_SIDE, MIN_SCORE, framed
from emodet.emotions import FERPLUS_ORDER
from emodet.images import decode_rgb
from emodet.inference.detectors import make_detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--faces", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    table = pq.read_table(arguments.file)
    votes = np.stack([table.column(name).to_numpy() for name in (*FERPLUS_ORDER, "NF")], axis=1)
    clear = np.flatnonzero((votes[:, -1] == 0) & (votes[:, :-1].max(axis=1) >= 8))
    rows = {
        "clear faces (8 of 10 voters agree on an emotion)": np.random.default_rng(arguments.seed).choice(
            clear, arguments.faces, replace=False
        ),
        "no face, according to most of 10 voters": np.flatnonzero(votes[:, -1] >= 6),
    }
    detector = make_detector(arguments.detector)
    print(
        f"{detector.name}, seed {arguments.seed}\n| images | number | score threshold | "
        + " | ".join(map(_column, FRAMINGS))
        + " | found in neither |"
    )
    for name, selected in rows.items():
        scores = np.zeros((len(FRAMINGS), len(selected)))
        for position, row in enumerate(selected.tolist()):
            crop = decode_rgb(table.column("image")[row].as_py())
            for number, (side, border) in enumerate(FRAMINGS):
                found = detector(framed(crop, side, border), longest_side=LONGEST_SIDE, min_score=0.1)
                scores[number, position] = found[0].score if found else 0
        for threshold in (MIN_SCORE, 0.5, 0.7):
            missed = [1 - (each >= threshold).mean() for each in (*scores, scores.max(axis=0))]
            cells = " | ".join(f"{100 * share:.1f} %" for share in missed)
            print(f"| {name} | {len(selected)} | {threshold} | {cells} |")


def _column(framing: tuple[int, float]) -> str:
    return f"not found at {framing[0]} px, border {framing[1]:g}"


if __name__ == "__main__":
    main()
