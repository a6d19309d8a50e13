"""Loggers of a training run: CSV files, and the loggers in the configuration."""

import inspect
import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch import loggers as lightning_loggers
from lightning.pytorch.loggers import CSVLogger, Logger

from emodet.errors import EmodetError
from emodet.installation import install
from emodet.models.build import build, target_of
from emodet.training.folder import RunFolder
from emodet.training.ranks import rank

log = logging.getLogger(__name__)

# Seconds to wait for wandb's service; without the last one, a finished run would not end after a network failure.
_WANDB_TIMEOUTS = {"WANDB_INIT_TIMEOUT": "20", "WANDB_LOGIN_TIMEOUT": "10", "WANDB_FINISH_TIMEOUT": "120"}
_STAGING = os.environ.get("WANDB_DATA_DIR")


def build_loggers(specs: Mapping[str, Any], run: RunFolder) -> list[Logger]:
    """Build the CSV logger, with one file per attempt, and the loggers of `specs`, ``{"wandb": {"_target_": …}}``.

    The default of an argument ``save_dir`` is the run folder.

    Raises:
        EmodetError: A class is not a logger, does not accept its arguments, or needs a package that is not installed.
    """
    csv = CSVLogger(run.path, name="csv", version=str(run.attempts))
    return [csv, *(_built(f"logger.{name}", spec, run) for name, spec in specs.items())]


def _built(key: str, spec: Mapping[str, Any], run: RunFolder) -> Logger:
    supplied = {}
    # Lightning's default is the working directory.
    if "save_dir" in inspect.signature(target_of(spec, key)).parameters and spec.get("save_dir", ".") in (None, "."):
        spec = {name: value for name, value in spec.items() if name != "save_dir"}
        supplied = {"save_dir": str(run.path)}
    try:
        logger = build(spec, key, **supplied)
    except ModuleNotFoundError as problem:
        raise EmodetError(
            f"{key}: {spec['_target_']} needs a package that is not installed ({problem}); those of "
            f"wandb and tensorboard: {install('train', 'tensorboard')}; logger=csv needs none"
        ) from None
    if not isinstance(logger, Logger):
        raise EmodetError(f"{key}._target_={spec['_target_']}: a lightning.pytorch.loggers.Logger was expected")
    return logger


@contextmanager
def closing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Close the loggers at the end of the block; else wandb would log the next training of a multirun there too."""
    status = 1
    try:
        yield
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
        raise
    finally:
        for logger in loggers:
            logger.finalize("failed" if status else "success")
            if isinstance(logger, WandbLogger) and rank() == 0:
                logger.experiment.finish(exit_code=status)


class WandbLogger(lightning_loggers.WandbLogger):
    """Lightning's `WandbLogger` with all files in ``wandb/`` of the run folder; a resumed run continues its wandb run.

    Online with credentials (``WANDB_API_KEY``, netrc), else offline, unless ``WANDB_MODE`` is set. If the service
    cannot be reached at the start, the run is logged offline. In a multirun the group is the last two parts of
    the sweep's folder, and the name ends with the job's number.

    Args:
        save_dir: Run folder.
        name: Name of the run.
        project: Project of the run.
        entity: Team or user; None for the default of the account.
        group: Group of the run.
        tags: Tags of the run.

    Raises:
        EmodetError: wandb does not start, even offline.
    """

    def __init__(
        self,
        save_dir: str,
        name: str | None = None,
        project: str = "emodet",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> None:
        experiment = None
        if rank() == 0:
            run = RunFolder(Path(save_dir))
            init = _identity(run, {"project": project, "name": name, "group": group})
            experiment = _start({**init, "entity": entity, "tags": tags, "dir": save_dir, "resume": "allow"})
            # By default artifacts are staged in the user's home, where pictures would outlast the run folder.
            os.environ["WANDB_DATA_DIR"] = _STAGING or str((run.path / "wandb").resolve())
            experiment.define_metric("trainer/global_step")
            experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
            if not experiment.disabled:
                run.write_facts({"wandb": {**init, "url": None if experiment.offline else experiment.url}})
        super().__init__(save_dir=save_dir, name=name, project=project, experiment=experiment)


def _identity(run: RunFolder, init: Mapping[str, Any]) -> dict[str, Any]:
    """Add the run's id to the arguments of `init`; for a resumed run also its name and group."""
    known = run.facts_so_far().get("wandb", {})
    own = dict(init)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        hydra = HydraConfig.get()
        own["name"] = f"{own['name']}/{hydra.job.num}" if own["name"] else str(hydra.job.num)
        own["group"] = own["group"] or "/".join(Path(hydra.sweep.dir).resolve().parts[-2:])
    if known.get("project") == own["project"]:
        own |= {key: known[key] for key in ("id", "name") if known.get(key)}
        own["group"] = own["group"] or known.get("group")
    # The agent of a wandb sweep sets the id.
    return {**own, "id": os.environ.get("WANDB_RUN_ID") or own.get("id") or secrets.token_hex(4)}


def _start(init: Mapping[str, Any]) -> Any:
    """Call `wandb.init` without prompts; offline if the service cannot be reached."""
    import wandb
    from requests.utils import get_netrc_auth

    for name, seconds in _WANDB_TIMEOUTS.items():
        os.environ.setdefault(name, seconds)
    decided = any(os.environ.get(f"WANDB_{name}") for name in ("MODE", "API_KEY", "IDENTITY_TOKEN_FILE"))
    decided = decided or get_netrc_auth(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai") is not None
    for mode in (None, "offline") if decided else ("offline",):
        try:
            return wandb.init(**init, mode=mode)
        except Exception as problem:  # several types, some of the transport
            reason = f"{type(problem).__name__}: {problem}"
            log.warning("Weights & Biases did not start%s (%s)", "" if mode else "; trying offline", reason)
            wandb.teardown()
    raise EmodetError(f"logger=wandb: wandb does not start, not even offline ({reason}); use logger=csv")
