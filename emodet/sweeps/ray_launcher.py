"""Run the jobs of a sweep as tasks of Ray.

Not hydra-ray-launcher: its last version wants cloudpickle below 3, which today's joblib does not work with, and with
one lost worker it loses the results of all others.
"""

import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from emodet.errors import EmodetError

__all__ = ["launch"]

log = logging.getLogger(__name__)


class _Launcher(Protocol):
    init: DictConfig
    remote: DictConfig
    config: DictConfig | None
    hydra_context: HydraContext | None
    task_function: TaskFunction | None


def launch(launcher: _Launcher, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
    """Start the jobs, wait for all of them.

    Args:
        launcher: Set up.
        job_overrides: One list per job.
        first: The first job's number.

    Returns:
        One for each job; that of a task whose worker died has failed.

    Raises:
        EmodetError: Ray is not installed, or cannot be reached.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise EmodetError("launcher=ray needs Ray: pip install 'emodet[cluster]'") from None
    context, function = launcher.hydra_context, launcher.task_function
    assert launcher.config is not None
    assert context is not None
    assert function is not None
    setup_globals()
    Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
    own = not ray.is_initialized()
    if own:
        # Ray sets a handler that leaves at once, without waiting for the runs that were told to stop.
        terminated = signal.getsignal(signal.SIGTERM)
        settings: Any = OmegaConf.to_container(OmegaConf.create(launcher.init), resolve=True)
        try:
            ray.init(**{"log_to_driver": True, "logging_level": logging.WARNING, **settings})
        except (ConnectionError, ValueError, TypeError, RuntimeError) as problem:
            raise EmodetError(f"hydra.launcher.init={settings}: Ray does not start ({problem})") from None
        finally:
            signal.signal(signal.SIGTERM, terminated)
    try:
        arguments: Any = OmegaConf.to_container(OmegaConf.create(launcher.remote), resolve=True)
        # A task that killed its worker would kill the next one too.
        task = ray.remote(**{"max_retries": 0, **arguments})(_run)
        singletons = Singleton.get_state()
        references = []
        for place, overrides in enumerate(job_overrides):
            log.info("\t#%d : %s", first + place, " ".join(filter_overrides(overrides)))
            references.append(
                task.remote(
                    first + place,
                    list(overrides),
                    context,
                    launcher.config,
                    function,
                    singletons,
                )
            )
        return [_returned(reference) for reference in references]
    finally:
        if own:
            ray.shutdown()


def _run(
    number: int,
    overrides: Sequence[str],
    hydra_context: HydraContext,
    config: DictConfig,
    task_function: TaskFunction,
    singletons: Any,
) -> JobReturn:
    """One job, in a worker of Ray."""
    setup_globals()
    Singleton.set_state(singletons)
    composed = hydra_context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(composed):
        composed.hydra.job.id = f"{composed.hydra.job.name}_{number}"
        composed.hydra.job.num = number
    HydraConfig.instance().set_config(composed)
    return run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=composed,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _returned(reference: Any) -> JobReturn:
    import ray

    try:
        returned: JobReturn = ray.get(reference)
    except ray.exceptions.RayError as problem:
        first = next(iter(str(problem).splitlines()), type(problem).__name__)
        return JobReturn(status=JobStatus.FAILED, _return_value=RuntimeError(f"its worker died ({first})"))
    return returned
