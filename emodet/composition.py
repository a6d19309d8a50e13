"""Registration of a command's keys and of the resolvers in ``conf/``, for Hydra's composition."""

import os
from collections.abc import Mapping
from time import gmtime, strftime
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from emodet.cpu import available_cores
from emodet.schema import defaults


def share_of_cores(at_once: int) -> int:
    """Return the number of threads for each of `at_once` parallel runs: its cores less its `workers_beside`."""
    return max(1, available_cores() // max(1, at_once) - workers_beside(at_once))


def workers_beside(at_once: int) -> int:
    """Return the number of data workers for each of `at_once` parallel runs; 0 if a run has one core."""
    return min(8, available_cores() // max(1, at_once) // 2)


def run_id() -> str:
    """Return the name of a run's folder: date, time and process; for a SLURM job its id, which survives a requeue."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{job}_{task}" if job else os.environ.get("SLURM_JOB_ID")
    return f"slurm-{job}" if job else f"{strftime('%Y-%m-%d_%H-%M-%S', gmtime())}_{os.getpid()}"


def net_title(net: Mapping[str, Any]) -> str:
    """Return the short name of a net for run names: its class, or its timm model."""
    return str(net.get("model") or str(net.get("_target_")).rpartition(".")[2])


for _resolver in (share_of_cores, workers_beside, net_title):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)
OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)


def register_schema(config_name: str, schema: type) -> None:
    """Register a command's keys in Hydra's config store."""
    # During composition groups accept any key, since the arguments of a user's class are not known yet; `checked`
    # validates them afterwards.
    loose = {
        key: OmegaConf.create(value, flags={"struct": False}) if isinstance(value, dict) else value
        for key, value in defaults(schema, composed=False).items()
    }
    ConfigStore.instance().store(name=f"{config_name}_schema", node=loose)
