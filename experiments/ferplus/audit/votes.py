"""Votes of ten people for the label and for the predicted class of label issues; accuracy with and without copies.

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
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("audit", type=Path)
    options.add_argument("file", type=Path)
    options.add_argument("predictions", type=Path, nargs="?")
    chosen = options.parse_args()
    table = pq.read_table(chosen.file, columns=["index", *EMOTIONS])
    shares = np.stack([table.column(name).to_numpy() for name in EMOTIONS], axis=1).astype(float)
    of = dict(zip((f"{number:05d}" for number in table.column("index").to_pylist()), shares, strict=True))
    doubts(chosen.audit, of)
    if chosen.predictions is not None:
        leaks(chosen.audit, chosen.predictions)


def doubts(audit: Path, of: dict[str, np.ndarray]) -> None:
    proposed = {row["key"]: row["action"] for row in read(audit / "corrections.csv") if row["reason"] == "label noise"}
    candidates = [row for row in read(audit / "label_noise.csv") if row["split"] == "train"]
    print("| train | faces | votes for the label | votes for the predicted class | faces with such a vote | without |")
    print("|---|---|---|---|---|---|")
    for name, wanted in (
        ("proposed: relabel", "relabel"),
        ("proposed: exclude", "exclude"),
        ("not proposed", None),
    ):
        rows = [row for row in candidates if proposed.get(row["key"]) == wanted]
        if rows:
            votes = np.array(
                [[of[row["key"]][EMOTIONS.index(row[which])] for which in ("given", "suggested")] for row in rows]
            )
            total = np.array([of[row["key"]].sum() for row in rows])
            given, suggested = (votes / total[:, None]).mean(axis=0)
            seen = (votes[:, 1] > 0).mean()
            print(f"| {name} | {len(rows)} | {given:.2f} | {suggested:.2f} | {seen:.0%} | {1 - seen:.0%} |")
    # What a class that nobody asked about gets: the yardstick.
    everyone = np.array([of[key] / of[key].sum() for key in of if of[key].sum()])
    label = everyone.argmax(axis=1)
    frequent = np.bincount(label, minlength=8).argmax()
    others = everyone[label != frequent]
    print(
        f"\nall faces: share of the label {everyone.max(axis=1).mean():.2f}; "
        f"of {EMOTIONS[frequent]}, where it is not the label, {others[:, frequent].mean():.2f}"
    )


def leaks(audit: Path, predictions: Path) -> None:
    content = json.loads((audit / "audit.json").read_text())
    near, same = set(), set()
    for group in content["groups"]:
        if group["splits"].count("train") and "val" in group["splits"]:
            val = {key for key, split in zip(group["keys"], group["splits"], strict=True) if split == "val"}
            near |= val
            same |= val if group["identical"] else set()
    rows = read(predictions)
    right = np.array([row["emotion"] == row["answer"] for row in rows])
    keys = np.array([row["key"] for row in rows])
    print("\n| val faces | faces | accuracy |\n|---|---|---|")
    for name, mask in (
        ("all", np.ones(len(rows), bool)),
        ("with a copy in train", np.isin(keys, list(near))),
        ("without", ~np.isin(keys, list(near))),
    ):
        print(f"| {name} | {mask.sum():,} | {right[mask].mean():.1%} |")


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


if __name__ == "__main__":
    main()
