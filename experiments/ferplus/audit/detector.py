"""How far can a detector be believed that finds no face in a tight crop? FER+'s votes know which pictures are none.

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
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path)
    options.add_argument("--detector", default="auto")
    options.add_argument("--faces", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()

    table = pq.read_table(chosen.file)
    votes = np.stack([table.column(name).to_numpy() for name in (*FERPLUS_ORDER, "NF")], axis=1)
    clear = np.flatnonzero((votes[:, -1] == 0) & (votes[:, :-1].max(axis=1) >= 8))
    rows = {
        "clear faces (8 of 10 agree on an emotion)": np.random.default_rng(chosen.seed).choice(
            clear, chosen.faces, replace=False
        ),
        "no face, say most of 10": np.flatnonzero(votes[:, -1] >= 6),
    }
    detector = make_detector(chosen.detector)
    print(
        f"{detector.name}, seed {chosen.seed}\n| pictures | | minimum score | "
        + " | ".join(map(_named, FRAMINGS))
        + " | either |"
    )
    for name, picked in rows.items():
        scores = np.zeros((len(FRAMINGS), len(picked)))
        for place, row in enumerate(picked.tolist()):
            crop = decode_rgb(table.column("image")[row].as_py())
            for number, (side, border) in enumerate(FRAMINGS):
                found = detector(framed(crop, side, border), longest_side=LONGEST_SIDE, min_score=0.1)
                scores[number, place] = found[0].score if found else 0
        for least in (MIN_SCORE, 0.5, 0.7):
            missed = [1 - (each >= least).mean() for each in (*scores, scores.max(axis=0))]
            cells = " | ".join(f"{100 * share:.1f} %" for share in missed)
            print(f"| {name} | {len(picked)} | {least} | {cells} |")


def _named(framing: tuple[int, float]) -> str:
    return f"not found at {framing[0]} px, border {framing[1]:g}"


if __name__ == "__main__":
    main()
