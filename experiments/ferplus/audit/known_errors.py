"""Share of the wrong labels of FER2013 that confident learning finds; FER+'s majority is the reference.

python experiments/ferplus/audit/known_errors.py AUDIT_FOLDER/out_of_fold.parquet ferplus.parquet

FER2013's labels replace those of FER+ in the audit. The nets were trained on FER+'s votes, not on FER2013's labels, so
the results are an upper bound for an audit of FER2013 itself.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from emodet.auditing.label_noise import OutOfFoldProbs, find_label_noise
from emodet.data.pack import Table
from emodet.datasets.fer import majority
from emodet.emotions import EMOTIONS, FER2013_ORDER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("probabilities", type=Path, help="out_of_fold.parquet of an audit")
    parser.add_argument("file", type=Path, help="FER+ as Parquet")
    arguments = parser.parse_args()
    columns = ["index", "split", "fer2013_label", *EMOTIONS, "unknown", "NF"]
    rows = pq.read_table(arguments.file, columns=columns)
    votes = np.stack([rows.column(name).to_numpy() for name in (*EMOTIONS, "unknown", "NF")], axis=1)
    truth = majority(votes)
    given = np.array([EMOTIONS.index(FER2013_ORDER[number]) for number in rows.column("fer2013_label").to_pylist()])
    # FER2013 has no class contempt, so these faces cannot have a correct label.
    kept = (truth >= 0) & (truth != EMOTIONS.index("contempt"))
    count = len(truth)
    missing = np.full(count, np.nan, dtype=np.float32)
    table = Table(
        key=np.array([f"{number:05d}" for number in rows.column("index").to_pylist()]),
        split=np.array(rows.column("split").to_pylist()),
        emotion=np.where(kept, given, -1),
        soft_label=np.full((count, 8), np.nan, dtype=np.float32),
        valence=missing,
        arousal=missing,
        subject=np.full(count, ""),
        pixel_hash=np.array([str(number) for number in range(count)]),
    )
    stored = pq.read_table(arguments.probabilities)
    place = {key: row for row, key in enumerate(table.key.tolist())}
    known = [place[key] for key in stored.column("key").to_pylist()]
    probabilities = np.full((count, len(EMOTIONS)), np.nan)
    probabilities[known] = np.stack([stored.column(f"p_{name}").to_numpy() for name in EMOTIONS], axis=1)
    out_of_fold = OutOfFoldProbs(probabilities, "audit")
    print(
        "| split | wrong labels | label issues | wrong labels among them | share of all wrong labels found "
        "| predicted class equals the majority |"
    )
    print("|---|---|---|---|---|---|")
    for each in find_label_noise(table, out_of_fold):
        here = kept & (table.split == each.split)
        wrong = int((given[here] != truth[here]).sum())
        for name, candidates in (
            (each.split, each.candidates),
            (f"{each.split}, probability of the label under 5 %", [it for it in each.candidates if it.p_given < 0.05]),
            (f"{each.split}, another class at 90 % or more", [it for it in each.candidates if it.p_suggested >= 0.9]),
            (f"{each.split}, another class at 95 % or more", [it for it in each.candidates if it.p_suggested >= 0.95]),
        ):
            places = [it.row for it in candidates]
            hit = (given[places] != truth[places]).mean()
            found = (given[places] != truth[places]).sum() / wrong
            as_majority = np.mean([it.suggested == truth[it.row] for it in candidates])
            print(
                f"| {name} | {wrong:,} of {here.sum():,} ({wrong / here.sum():.0%}) | {len(places):,} | {hit:.0%} | "
                f"{found:.0%} | {as_majority:.0%} |"
            )


if __name__ == "__main__":
    main()
