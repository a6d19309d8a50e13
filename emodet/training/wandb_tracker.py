"""A run in Weights & Biases, online or offline: offline nothing is missing, and `wandb sync` sends it."""

import json
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from emodet.data.pack import Pack
from emodet.errors import EmodetError
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import Evaluation
from emodet.training.folder import RunFolder
from emodet.training.tracker import Tracker
from emodet.training.wandb_charts import (
    confusion_matrix,
    faces_by_confidence,
    recall_by_class,
    reliability,
    valence_arousal,
)

__all__ = ["WandbTracker", "open_wandb"]

log = logging.getLogger(__name__)

UInt8 = npt.NDArray[np.uint8]

# Seconds: for the service to answer at the start, and for what is left to be uploaded at the end. What does not get
# through is on disk.
_TIMEOUTS = {"init_timeout": 20.0, "login_timeout": 10.0, "finish_timeout": 120.0}
_MODES = {"dryrun": "offline", "run": "online"}
_ABOUT_A_PACK = ("title", "reader", "fingerprint", "redistributable", "counts", "preprocessing", "crop", "packed")


class WandbTracker(Tracker, WandbLogger):
    """Charts are Weights & Biases' own, files are artifacts, and the pack's manifest is the one that a run uses.

    Where the network goes away, what is sent after that goes into an offline run of the same id.

    Args:
        folder: The run's folder; everything lies in its ``wandb/``, files that wait to be uploaded included.
        run_id: Of this run and all that continue it.
        offline: Whether to log offline; else as wandb's environment and settings say.
        keeps_files: Whether checkpoints and model files become artifacts.
        init: Further arguments of `wandb.init`.
    """

    title = "Weights & Biases"

    def __init__(self, folder: Path, run_id: str, *, offline: bool, keeps_files: bool, **init: Any) -> None:
        if offline:
            init["mode"] = "offline"
        super().__init__(save_dir=folder, id=run_id, **init)
        # Lightning hands it on although wandb warns of it.
        self._wandb_init.pop("anonymous", None)
        self.folder, self.keeps_files = folder, keeps_files
        self.logs: list[Path] = []
        # Artifacts are copied before they are uploaded; by default into the user's home, where pictures of a run would
        # outlive its folder.
        self._own_data_folder = "WANDB_DATA_DIR" not in os.environ
        if self._own_data_folder:
            os.environ["WANDB_DATA_DIR"] = str((folder / "wandb").resolve())

    @rank_zero_only
    def start(self) -> None:
        """Open the run, where Lightning would wait for the first metric.

        Raises:
            Exception: The service cannot be reached; wandb has several kinds.
        """
        self.logs.append(Path(self.experiment.dir).parent)
        for handler in logging.getLogger("wandb").handlers:
            # On a full disk each line for its debug.log would print a traceback.
            handler.handleError = lambda record: None  # type: ignore[method-assign]

    @rank_zero_only
    def describe(self, made_of: Mapping[str, Any]) -> None:
        # Nested: the service shows and filters `optimizer.lr`, while it advises against dots in names.
        self.attempt("the configuration", lambda: self.experiment.config.update(dict(made_of), allow_val_change=True))

    @rank_zero_only
    def use_pack(self, pack: Pack) -> None:
        def tell() -> None:
            import wandb

            about = {key: pack.manifest[key] for key in _ABOUT_A_PACK if key in pack.manifest}
            artifact = wandb.Artifact(f"pack-{pack.fingerprint[:12]}", "dataset", metadata=about)
            artifact.add_file(str(pack.folder / "manifest.json"))
            # Not `use_artifact`: it refuses offline, and online waits for the upload. This is what it calls.
            self.experiment._log_artifact(artifact, is_user_created=True, use_after_commit=True)

        self.attempt("the pack's manifest", tell)

    @rank_zero_only
    def add_picture(self, name: str, picture: UInt8) -> None:
        def chart() -> Any:
            import wandb

            return wandb.Image(picture)

        self._log(name, chart)

    @rank_zero_only
    def add_evaluation(self, split: str, evaluation: Evaluation, predictions: Predictions) -> None:
        charts: dict[str, Callable[[str], Any]] = {
            "confusion_matrix": lambda title: confusion_matrix(predictions, title),
            "reliability": lambda title: reliability(evaluation, title),
            "faces_by_confidence": lambda title: faces_by_confidence(evaluation, title),
            "recall_by_class": lambda title: recall_by_class(evaluation, title),
            **{name: partial(valence_arousal, predictions, name) for name in evaluation.dimensions},
        }
        for name, chart in charts.items():
            title = f"{name.replace('_', ' ')}: {evaluation.data}, {evaluation.split}"
            self._log(f"{split}/{name}", partial(chart, title))

    @rank_zero_only
    def add_errors(
        self, split: str, predictions: Predictions, worst: Sequence[int], pictures: Sequence[UInt8] | None
    ) -> None:
        def chart() -> Any:
            import wandb

            names = predictions.class_names
            rows: list[list[Any]] = []
            for place, index in enumerate(worst):
                row = [
                    predictions.keys[index],
                    names[predictions.emotion[index]],
                    names[predictions.predicted[index]],
                    float(predictions.confidence[index]),
                    *(float(share) for share in predictions.probabilities[index]),
                ]
                rows.append(row if pictures is None else [wandb.Image(pictures[place]), *row])
            columns = [] if pictures is None else ["face"]
            columns += ["key", "emotion", "answer", "confidence", *(f"p_{name}" for name in names)]
            return wandb.Table(list[str | int](columns), rows)

        self._log(f"{split}/worst_errors", chart)

    @rank_zero_only
    def add_files(self, kind: str, files: Sequence[Path], about: Mapping[str, Any], aliases: Sequence[str]) -> None:
        def tell() -> None:
            import wandb

            artifact = wandb.Artifact(f"{kind}-{self.version}", "model", metadata=dict(about))
            for file in files:
                artifact.add_file(str(file))
            self.experiment.log_artifact(artifact, aliases=["latest", *aliases])

        if self.keeps_files:
            self.attempt(f"the {kind.replace('-', ' ')}", tell)

    @rank_zero_only
    def finish(self, figures: Mapping[str, Any]) -> None:
        self.attempt("the final figures", lambda: self.experiment.summary.update(dict(figures)))

    @rank_zero_only
    def close(self, status: int) -> None:
        if self._experiment is not None:
            disabled = self.experiment.disabled
            # The one that was opened last may have been opened by itself.
            run = self._experiment
            if not Tracker.attempt(self, "the end of the run", lambda: run.finish(exit_code=status)):
                # Or the next run of this process would go on in this one.
                _forget_the_service()
            self._experiment = None
            if not disabled:
                self._say_what_is_left()
        if self._own_data_folder:
            os.environ.pop("WANDB_DATA_DIR", None)

    def _log(self, name: str, chart: Callable[[], Any]) -> None:
        # Made anew for each attempt: what was handed over once cannot be handed over again.
        self.attempt(name, lambda: self.experiment.log({name: chart()}))

    def attempt(self, what: str, tell: Callable[[], None]) -> bool:
        run = self.experiment
        if run.offline or run.disabled:
            return super().attempt(what, tell)
        try:
            tell()
        except Exception as problem:
            log.warning("%s could not be sent (%s); this run goes on offline", what, type(problem).__name__)
            if not super().attempt("the end of its online part", lambda: run.finish(exit_code=0)):
                return False
            self._experiment = None
            self._wandb_init.update(mode="offline", settings=None)
            return super().attempt("an offline run", self.start) and super().attempt(what, tell)
        return True

    def _say_what_is_left(self) -> None:
        offline = [folder for folder in self.logs if folder.name.startswith("offline-")]
        for folder in offline:
            if _ends_early(folder):
                log.warning(
                    "%s is not whole: its log ends before the run did, because the disk was full or wandb's own "
                    "process died. Metrics and figures are in the run's folder all the same (metrics.csv, run.json)",
                    folder,
                )
        if offline:
            online = ["--include-online"] if len(offline) < len(self.logs) else []
            command = " ".join(["wandb", "sync", *online, *map(str, self.logs)])
            log.info("Weights & Biases was offline: send this run with  %s", command)


def open_wandb(settings: Mapping[str, Any], run: RunFolder, name: str) -> WandbTracker:
    """Start a run, or go on with the one that ``run.json`` names: online with credentials, offline without.

    Args:
        settings: `LoggerConfig`'s values.
        run: The run's folder.
        name: The run's name.

    Raises:
        EmodetError: wandb is not installed.
    """
    try:
        import wandb  # noqa: F401
    except ModuleNotFoundError:
        raise EmodetError("logger=wandb needs wandb: pip install 'emodet[train]', or use logger=csv") from None
    project = settings["project"]
    known = run.facts().get("wandb", {}) if (run.path / "run.json").is_file() else {}
    continued = known.get("id") if known.get("project") == project else None
    # A sweep's agent chooses the id.
    run_id = os.environ.get("WANDB_RUN_ID") or continued or secrets.token_hex(4)
    init = {"project": project, "name": name, **{key: settings.get(key) for key in ("entity", "group", "tags")}}
    mode = os.environ.get("WANDB_MODE") or ("online" if _has_credentials() else "offline")

    def made(offline: bool) -> WandbTracker:
        chosen = {} if offline else {key: value for key, value in _TIMEOUTS.items() if _not_in_environment(key)}
        return WandbTracker(
            run.path,
            run_id,
            offline=offline,
            keeps_files=settings.get("artifacts", True),
            **init,
            **({"settings": chosen} if chosen else {}),
        )

    tracker = made(_MODES.get(mode, mode) == "offline")
    try:
        tracker.start()
    except Exception as problem:  # wandb raises several kinds, some of them its transport's
        log.warning("Weights & Biases cannot be reached (%s); this run is logged offline", problem)
        # Or the attempt would still hold the run's id.
        _forget_the_service()
        tracker.close(1)
        tracker = made(offline=True)
        try:
            tracker.start()
        except Exception as again:
            raise EmodetError(f"logger=wandb: wandb cannot start, not even offline ({again}); use logger=csv") from None
    _remember(run, tracker, project)
    return tracker


@rank_zero_only
def _remember(run: RunFolder, tracker: WandbTracker, project: str) -> None:
    started = tracker.experiment
    if started.disabled:
        return
    run.write_facts({"wandb": {"id": started.id, "project": project, "url": None if started.offline else started.url}})
    if started.offline:
        log.info("Weights & Biases is offline: this run is logged in %s", tracker.logs[-1])


def _forget_the_service() -> None:
    """End wandb's own process; the next run starts another."""
    import wandb

    with suppress(Exception):
        wandb.teardown()
    # Where the process is dead, that goes only half of the way.
    wandb.run = None


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    try:
        return netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


def _not_in_environment(setting: str) -> bool:
    return f"WANDB_{setting.upper()}" not in os.environ


def _ends_early(folder: Path) -> bool:
    """Whether an ended run's log has no end, as wandb reads it; wandb itself drops in silence what a full disk refuses.

    A version of wandb that cannot tell leaves the question open.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)["state"] in ("running", "unknown")
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return False
