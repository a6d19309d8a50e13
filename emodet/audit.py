"""Look for what is wrong with a data set: ``python -m emodet.audit data=NAME data.root=/path``.

It finds pictures that occur more than once, labels that nets disagree with, classes in the wrong order, bad pictures
and crops without a face; shows them on one page that nothing is sent from; and proposes corrections, which training
takes with ``data.corrections=FILE``. ``quick=true`` leaves out what takes long.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.audit", extra="audit", needs=("cleanlab", "imagehash", "scipy", "sklearn"))

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig

from emodet.auditing.answers import answered_classes, some_of_each_class
from emodet.auditing.class_order import OrderFinding, by_answers, by_valence_arousal
from emodet.auditing.duplicates import CopyRules, copy_groups, group_numbers
from emodet.auditing.findings import Findings, UndetectedFaces
from emodet.auditing.label_noise import find_label_noise
from emodet.auditing.looks import look_at
from emodet.auditing.out_of_fold import Plan, out_of_fold
from emodet.auditing.probabilities import Held, read_probabilities, write_probabilities
from emodet.auditing.proposals import ProposalRules, propose
from emodet.auditing.quality import QualityRules, judge, stored_sides
from emodet.auditing.results import in_words, write_results
from emodet.auditing.undetected import LEAST_SCORE, LONGEST_SIDE, RELIABILITY, detection_scores
from emodet.commands import command, to_plain_dict
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError
from emodet.inference.detectors import Detector, make_detector
from emodet.modelfile import ModelFile, Precision, read_model_file, shipped_model
from emodet.training.assembly import build_data
from emodet.training.console import quiet_lightning
from emodet.training.folder import provenance
from emodet.training.signals import Interrupted

log = logging.getLogger(__name__)

_ASKED_PER_CLASS = 300


@command("audit")
def main(config: DictConfig) -> None:
    """Look at every picture once, ask nets, a model file and a detector, and write down what they say."""
    quiet_lightning()
    settings = to_plain_dict(config)
    if "threads" in settings:
        torch.set_num_threads(settings["threads"])
    if "corrections" in settings["data"]:
        raise EmodetError(
            "data.corrections: the audit looks at a data set as it was released, so that its proposals fit it; leave "
            "corrections out here"
        )
    # Refused here rather than after the hours that nets take.
    rules = Rules.of(settings)
    data = build_data(settings)
    data.prepare_data()
    data.setup()
    folder = Path(settings.get("output") or _place(data)).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        findings = examine(settings, rules, data, folder)
    except Interrupted as stop:
        print(f"stopped by {stop}; the same command goes on from here", file=sys.stderr)
        sys.exit(stop.exit_status)
    details = {"fingerprint": data.fingerprint, **provenance("emodet.audit")}
    write_results(findings, data.pack, folder, details, gallery=settings["gallery"], pictures=settings["pictures"])
    print(f"{in_words(findings)}\n\npage:        {folder / 'audit.html'}\ncorrections: {folder / 'corrections.csv'}")


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What the audit goes by, and whom it asks besides the nets that it trains."""

    copies: CopyRules
    quality: QualityRules
    proposals: ProposalRules
    plan: Plan
    model: ModelFile | None
    detector: Detector | None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Rules":
        """From the configuration's values.

        Raises:
            EmodetError: One is out of its range, or what it names is not there.
        """
        if settings["gallery"] < 0:
            raise EmodetError(f"gallery={settings['gallery']}: how many pictures to show, 0 or more")
        if "probabilities" in settings and not Path(settings["probabilities"]).expanduser().is_file():
            raise EmodetError(f"probabilities={settings['probabilities']}: there is no such file")
        if settings.get("detector_faces", 1) < 1:
            raise EmodetError(f"detector_faces={settings['detector_faces']}: 1 or more, or null for all")
        threads = settings.get("threads")
        asks_detector = not settings["quick"] and settings["detector"] != "none"
        return cls(
            CopyRules(**settings["copies"]),
            QualityRules(**settings["quality"]),
            ProposalRules(**settings["proposals"]),
            Plan(**settings["out_of_fold"]),
            _model(settings["model"], threads),
            make_detector(settings["detector"], threads=threads) if asks_detector else None,
        )


def examine(settings: Mapping[str, Any], rules: Rules, data: EmotionDataModule, folder: Path) -> Findings:
    """Everything that the audit looks at; what `folder` holds of an earlier call is not done again."""
    table, manifest = data.pack.table, data.pack.manifest
    looks = look_at(data.pack)
    photographs = group_numbers(table, looks, rules.copies)
    groups = copy_groups(table, photographs)
    quality = judge(looks, rules.quality)
    skipped: list[str] = []
    held = answers_of_nets(settings, rules.plan, data, photographs, folder)
    if held is None:
        skipped.append("Label noise was not looked at: quick=true leaves out the nets that it needs.")
    noise = None if held is None else find_label_noise(table, held)
    sides = None if settings["quick"] else sides_of(data)
    if sides is None:
        skipped.append("The stored pictures' sizes were not looked at: quick=true leaves them out.")
    unfound = faces_not_found(settings, rules.detector, data)
    if unfound is None:
        skipped.append("No detector looked for faces: quick=true or detector=none leaves it out.")
    return Findings(
        title=str(manifest["title"]),
        table=table,
        class_names=data.class_names,
        published=manifest["expected"],
        left_out=manifest.get("left_out", {}),
        unreadable=len(manifest.get("unreadable", ())),
        groups=groups,
        quality=quality,
        sides=sides,
        crop_side=data.preprocessing.size,
        order=tuple(class_order(settings["seed"], rules.model, data, held)),
        noise=noise,
        answered_by="" if held is None else held.made_by,
        unfound=unfound,
        corrections=propose(table, quality, groups, noise or (), rules.proposals),
        skipped=tuple(skipped),
    )


def answers_of_nets(
    settings: Mapping[str, Any],
    plan: Plan,
    data: EmotionDataModule,
    photographs: npt.NDArray[np.int64],
    folder: Path,
) -> Held | None:
    """What nets say of faces that they were not trained on: read, trained for, or None where it is to be quick."""
    table = data.pack.table
    if "probabilities" in settings:
        return read_probabilities(Path(settings["probabilities"]).expanduser(), table, data.class_names)
    if settings["quick"]:
        return None
    held = out_of_fold(settings, data, photographs, folder, plan)
    write_probabilities(held, table, data.class_names, folder / "out_of_fold.parquet")
    return held


def class_order(
    seed: int, model: ModelFile | None, data: EmotionDataModule, held: Held | None
) -> Iterator[OrderFinding]:
    """What valence and arousal, a model file and the nets of train say of each split, of each data set apart."""
    table, names = data.pack.table, data.class_names
    source = data.source_of(np.arange(len(table)))
    for number in range(len(data.sources)):
        for split in ("train", "val", "test"):
            of = f" of {data.source_names[number]}" if data.source_names else ""
            here = (table.split == split) & (source == number) & (table.emotion >= 0) & (table.emotion < len(names))
            rows = np.flatnonzero(here)
            found = by_valence_arousal(
                table.emotion[rows], table.valence[rows], table.arousal[rows], f"valence and arousal ({split}{of})"
            )
            if found is not None:
                yield found
            if model is not None and rows.size:
                some = some_of_each_class(table.emotion, rows, _ASKED_PER_CLASS, seed)
                answers = answered_classes(model, data.pack, some, names)
                yield by_answers(table.emotion[some], answers, names, f"the {model.name} ({split}{of})")
            # On train they repeat whatever order they were taught.
            if held is not None and split != "train" and (known := rows[held.known[rows]]).size:
                told = held.probabilities[known].argmax(axis=1)
                yield by_answers(table.emotion[known], told, names, f"what nets learnt from train ({split}{of})")


def faces_not_found(settings: Mapping[str, Any], detector: Detector | None, data: EmotionDataModule) -> UndetectedFaces | None:
    """What a detector says of the crops, or of as many of them as were asked for; None without a detector."""
    if detector is None:
        return None
    rows, most = np.arange(len(data.pack), dtype=np.int64), settings.get("detector_faces")
    if most is not None and most < len(rows):
        drawn = np.random.default_rng([settings["seed"], 0xFACE]).choice(rows, most, replace=False)
        rows = np.sort(drawn)

    def find(picture: npt.NDArray[np.uint8]) -> float:
        found = detector(picture, longest_side=LONGEST_SIDE, min_score=LEAST_SCORE)
        return found[0].score if found else 0.0

    return UndetectedFaces(detector.name, rows, detection_scores(data.pack, rows, find), RELIABILITY)


def sides_of(data: EmotionDataModule) -> npt.NDArray[np.float64]:
    """How many pixels each face has where it is stored, NaN where not known: float64 (N,)."""
    known: dict[str, float] = {}
    for name, source in data.sources.items():
        before = f"{name}:" if name else ""
        sides = stored_sides(source.open_reader(data.preprocessing), source.crop)
        known |= {f"{before}{key}": side for key, side in sides.items()}
    return np.array([known.get(key, np.nan) for key in data.pack.table.key.tolist()])


def _model(name: str, threads: int | None) -> ModelFile | None:
    if name == "none":
        return None
    if name in get_args(Precision):
        return shipped_model(cast(Precision, name), threads=threads)
    return read_model_file(Path(name).expanduser(), threads=threads)


def _place(data: EmotionDataModule) -> Path:
    name = "-".join(data.source_names) or str(data.pack.manifest["reader"])
    outputs = Path(os.environ.get("EMODET_OUTPUTS") or "outputs")
    return outputs / "audit" / f"{name}-{data.preprocessing.size}px-{data.fingerprint[:8]}"


if __name__ == "__main__":
    main()
