"""What Hydra needs to compose a command's configuration: its keys, and the resolvers of ``conf/``."""

import os
from collections.abc import Mapping
from time import gmtime, strftime
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from emodet.cpu import available_cores
from emodet.schema import defaults


def share_of_cores(at_once: int) -> int:
    """Threads for each of `at_once` runs side by side; with `workers_beside` its share of the cores."""
    return max(1, available_cores() // max(1, at_once) - workers_beside(at_once))


def workers_beside(at_once: int) -> int:
    """Data workers for each of `at_once` runs side by side; none where its share is one core."""
    return min(8, available_cores() // max(1, at_once) // 2)


def run_id() -> str:
    """Name of a run's folder: date, time and process; in a SLURM job its id, by which a requeued job finds it."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{job}_{task}" if job else os.environ.get("SLURM_JOB_ID")
    return f"slurm-{job}" if job else f"{strftime('%Y-%m-%d_%H-%M-%S', gmtime())}_{os.getpid()}"


def net_title(net: Mapping[str, Any]) -> str:
    """Short name of a net for the names of runs: its class, or the model of timm."""
    return str(net.get("model") or str(net.get("_target_")).rpartition(".")[2])


for _resolver in (share_of_cores, workers_beside, net_title):
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)
OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)


def register_schema(config_name: str, schema: type) -> None:
    """Store a command's keys, so that Hydra composes its configuration."""
    # Groups accept any key while they are composed, as those of a user's class are not known before; `checked` is the
    # judge of all of them.
    loose = {
        key: OmegaConf.create(value, flags={"struct": False}) if isinstance(value, dict) else value
        for key, value in defaults(schema, composed=False).items()
    }
    ConfigStore.instance().store(name=f"{config_name}_schema", node=loose)
