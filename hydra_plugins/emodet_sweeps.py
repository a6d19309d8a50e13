"""Hydra plugin: the sweeper that searches with Optuna. Hydra imports it with every command, so it stays light."""

import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class OptunaSweeperConfig:
    """Options of ``hydra.sweeper`` with ``sweep=optuna``.

    Attributes:
        n_trials: Trials in all, those that the study file already holds included.
        n_jobs: Trials that are handed to the launcher together.
        study: Journal file of the study; an existing one is continued.
        seed: Of the sampler.
        n_startup_trials: Random trials before the sampler (TPE) learns from earlier ones.
        pruner: Arguments of `optuna.pruners.PercentilePruner`, epochs as steps; null prunes nothing.
        params: Key to search range, in Hydra's sweep syntax; the command line adds to it and replaces it.
    """

    _target_: str = "hydra_plugins.emodet_sweeps.OptunaSweeper"
    n_trials: int = 24
    n_jobs: int = 1
    study: str = "${hydra.sweep.dir}/study.journal"
    seed: int = 0
    n_startup_trials: int = 8
    pruner: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)


class OptunaSweeper(Sweeper):
    """Searches hyper-parameters with Optuna. Arguments: see `OptunaSweeperConfig`."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search; a mistake in its options ends in one message and exit status 2."""
        from emodet.errors import EmodetError
        from emodet.installation import install

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        try:
            if find_spec("optuna") is None:
                raise EmodetError(f"sweep=optuna needs optuna: {install('sweep')}")
            from emodet.sweeps.optuna_search import search

            return search(self.options, self.config, self.hydra_context.config_loader, self.launcher, arguments)
        except EmodetError as problem:
            print(f"error: {problem}", file=sys.stderr)
            sys.exit(2)


ConfigStore.instance().store(group="hydra/sweeper", name="emodet_optuna", node=OptunaSweeperConfig, provider="emodet")
