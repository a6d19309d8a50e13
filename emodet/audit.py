"""Audit a data set: ``python -m emodet.audit data=NAME data.root=/path``.

Finds duplicates, label issues, wrong class orders, image issues and crops without a face. Writes a self-contained page,
the figures as JSON, and a file of proposed corrections, which a training reads with ``data.corrections=FILE``.
``quick=true`` trains no net and runs no detector.
"""

from emodet.installation import exit_with
from emodet.laboratory import begin

begin("audit", __name__, __doc__, extra="audit", needs=("cleanlab", "imagehash", "scipy", "sklearn"))

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from emodet.auditing.class_order import check_class_order
from emodet.auditing.duplicates import copy_groups, number_photographs
from emodet.auditing.findings import Findings, propose, write_results
from emodet.auditing.image_issues import LONGEST_SIDE, MIN_SCORE, detect_faces, find_image_issues, measure_images
from emodet.auditing.label_noise import find_label_noise, predict_out_of_fold, write_probabilities
from emodet.auditing.options import OutOfFoldOptions, ProposalOptions
from emodet.commands import command
from emodet.data.datamodule import EmotionDataModule
from emodet.errors import EmodetError, require
from emodet.files import default_outputs, expanded
from emodet.inference.detectors import make_detector
from emodet.modelfile import SHIPPED, model_path, read_model_file
from emodet.schema import without_none
from emodet.training.assembly import build_data
from emodet.training.folder import provenance
from emodet.training.progress import quiet_lightning
from emodet.training.ranks import set_threads
from emodet.training.signals import Interrupted


@command("audit")
def main(values: dict[str, Any]) -> None:
    """Run the checks, write the results and print a summary."""
    quiet_lightning()
    settings = without_none(values)
    set_threads(settings.get("threads"))
    audit = Audit(settings)  # raises for invalid values before the slow part
    data = build_data(settings)
    data.prepare_data()
    data.setup()
    folder = expanded(settings.get("output") or _default_folder(data))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        findings = audit.examine(data, folder)
    except Interrupted as stop:
        print(f"stopped by {stop}; run the same command to continue", file=sys.stderr)
        sys.exit(stop.exit_status)
    details = {"fingerprint": data.fingerprint, **provenance("emodet.audit")}
    write_results(findings, folder, details, gallery=settings["gallery"], pictures=settings["pictures"])
    print(f"{findings.summary()}\n\npage:        {folder / 'audit.html'}\ncorrections: {folder / 'corrections.csv'}")


class Audit:
    """The checks and their options.

    Args:
        settings: Settings of the command, see `emodet.config.AuditConfig`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if "corrections" in settings.get("data", {}):
            raise EmodetError("data.corrections: the audit checks a data set as released; leave corrections out")
        require(settings["gallery"] >= 0, "gallery", settings["gallery"], "a number of images to show, 0 or more")
        faces = settings.get("detector_faces")
        require(faces is None or faces >= 1, "detector_faces", faces, "1 or more, or null for all")
        self.settings, threads = settings, settings.get("threads")
        self.proposals = ProposalOptions(**settings["proposals"])
        self.out_of_fold = OutOfFoldOptions(**settings["out_of_fold"])
        model = settings["model"]
        self.model = None if model == "none" else read_model_file(model_path(model), threads=threads)
        detects = not settings["quick"] and settings["detector"] != "none"
        self.detector = make_detector(settings["detector"], threads=threads) if detects else None

    def examine(self, data: EmotionDataModule, folder: Path) -> Findings:
        """Run the checks. A fold whose predictions are already in `folder` is not trained again."""
        table, settings, model = data.pack.table, self.settings, self.model
        lacking = [] if model is None else [name for name in data.class_names if name not in model.info.class_names]
        if lacking and settings["model"] not in SHIPPED:
            raise EmodetError(f"model={settings['model']}: lacks {', '.join(lacking)}; model=none leaves it out")
        stats = measure_images(data.pack)
        photographs = number_photographs(table, stats)
        groups, images = copy_groups(table, photographs), find_image_issues(stats)
        out_of_fold = noise = undetected = None
        if not settings["quick"]:
            out_of_fold = predict_out_of_fold(settings, data, photographs, folder, self.out_of_fold)
            write_probabilities(out_of_fold, table, data.class_names, folder / "out_of_fold.parquet")
            noise = find_label_noise(table, out_of_fold)
        if self.detector is not None:
            search = partial(self.detector, longest_side=LONGEST_SIDE, min_score=MIN_SCORE)
            max_faces = settings.get("detector_faces")
            undetected = detect_faces(
                data.pack, lambda image: bool(search(image)), self.detector.name, max_faces, settings["seed"]
            )
        skipped = {
            f"Class order: not checked by model={settings['model']}, which lacks {', '.join(lacking)}.": bool(lacking),
            "Label issues: not checked, because quick=true trains no nets.": noise is None,
            "Face detection: not checked, because of quick=true or detector=none.": undetected is None,
        }
        return Findings(
            pack=data.pack,
            groups=groups,
            images=images,
            order=tuple(check_class_order(data, None if lacking else model, out_of_fold, settings["seed"])),
            noise=noise,
            predicted_by="" if out_of_fold is None else out_of_fold.made_by,
            undetected=undetected,
            corrections=propose(table, images, groups, noise or (), self.proposals, data.pack.class_names),
            skipped=tuple(sentence for sentence, is_skipped in skipped.items() if is_skipped),
        )


def _default_folder(data: EmotionDataModule) -> Path:
    name = "-".join(data.source_names) or str(data.pack.manifest["reader"])
    return default_outputs() / "audit" / f"{name}-{data.preprocessing.size}px-{data.fingerprint[:8]}"


if __name__ == "__main__":
    exit_with(main)
