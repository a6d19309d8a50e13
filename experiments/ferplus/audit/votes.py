"""FER+ votes for the label and for the predicted class of label issues; accuracy on val faces with and without copies.

python experiments/ferplus/audit/votes.py AUDIT_FOLDER ferplus.parquet [predictions.csv of an evaluation on val]
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from emodet.emotions import EMOTIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audit", type=Path, help="output folder of emodet.audit")
    parser.add_argument("file", type=Path, help="FER+ as Parquet")
    parser.add_argument("predictions", type=Path, nargs="?")
    arguments = parser.parse_args()
    table = pq.read_table(arguments.file, columns=["index", *EMOTIONS])
    shares = np.stack([table.column(name).to_numpy() for name in EMOTIONS], axis=1).astype(float)
    votes_of = dict(zip((f"{number:05d}" for number in table.column("index").to_pylist()), shares, strict=True))
    label_issues(arguments.audit, votes_of)
    if arguments.predictions is not None:
        accuracy_by_copies(arguments.audit, arguments.predictions)


def label_issues(audit: Path, votes_of: dict[str, np.ndarray]) -> None:
    proposed = {row["key"]: row["action"] for row in read(audit / "corrections.csv") if row["reason"] == "label noise"}
    candidates = [row for row in read(audit / "label_noise.csv") if row["split"] == "train"]
    print("| train | faces | votes for the label | votes for the predicted class | with a vote for it | without |")
    print("|---|---|---|---|---|---|")
    for name, action in (
        ("proposed: relabel", "relabel"),
        ("proposed: exclude", "exclude"),
        ("not proposed", None),
    ):
        rows = [row for row in candidates if proposed.get(row["key"]) == action]
        if rows:
            votes = np.array(
                [[votes_of[row["key"]][EMOTIONS.index(row[which])] for which in ("given", "suggested")] for row in rows]
            )
            total = np.array([votes_of[row["key"]].sum() for row in rows])
            given, suggested = (votes / total[:, None]).mean(axis=0)
            seen = (votes[:, 1] > 0).mean()
            print(f"| {name} | {len(rows)} | {given:.2f} | {suggested:.2f} | {seen:.0%} | {1 - seen:.0%} |")
    # For comparison: votes for the label, and for the most frequent class where it is not the label.
    shares = np.array([votes / votes.sum() for votes in votes_of.values() if votes.sum()])
    label = shares.argmax(axis=1)
    frequent = np.bincount(label, minlength=8).argmax()
    others = shares[label != frequent]
    print(
        f"\nAll faces: share of the votes for the label {shares.max(axis=1).mean():.2f}; "
        f"for {EMOTIONS[frequent]}, where it is not the label, {others[:, frequent].mean():.2f}"
    )


def accuracy_by_copies(audit: Path, predictions: Path) -> None:
    content = json.loads((audit / "audit.json").read_text())
    with_copy = set()
    for group in content["groups"]:
        if group["splits"].count("train") and "val" in group["splits"]:
            keys_and_splits = zip(group["keys"], group["splits"], strict=True)
            with_copy |= {key for key, split in keys_and_splits if split == "val"}
    rows = read(predictions)
    correct = np.array([row["emotion"] == row["answer"] for row in rows])
    keys = np.array([row["key"] for row in rows])
    print("\n| val | faces | accuracy |\n|---|---|---|")
    for name, mask in (
        ("all", np.ones(len(rows), bool)),
        ("with a copy in train", np.isin(keys, list(with_copy))),
        ("without a copy in train", ~np.isin(keys, list(with_copy))),
    ):
        print(f"| {name} | {mask.sum():,} | {correct[mask].mean():.1%} |")


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    main()
