"""The sweepers of emodet, where Hydra looks for plugins. It loads this file with every command: keep it light."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class _EmodetSweeper(Sweeper):
    """What both have in common."""

    def __init__(self) -> None:
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a sweep needs, and make the launcher."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )


class GridSweeper(_EmodetSweeper):
    """See `emodet.sweeps.grid`."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the grid."""
        from emodet.sweeps.errors import told
        from emodet.sweeps.grid import run_grid

        return told(run_grid, self, arguments)


class OptunaSweeper(_EmodetSweeper):
    """See `emodet.sweeps.search`."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the search."""
        from emodet.sweeps.errors import told
        from emodet.sweeps.search import run_search

        return told(run_search, self, arguments)


class RayLauncher(Launcher):
    """See `emodet.sweeps.ray_launcher`."""

    def __init__(self, init: DictConfig, remote: DictConfig) -> None:
        self.init, self.remote = init, remote
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what the runs need."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Any, initial_job_idx: int) -> list[JobReturn]:
        """Run jobs as tasks of Ray."""
        from emodet.sweeps.ray_launcher import launch

        return launch(self, job_overrides, initial_job_idx)


@dataclass
class _GridConfig:
    _target_: str = "hydra_plugins.emodet_sweeps.GridSweeper"


@dataclass
class _OptunaConfig:
    _target_: str = "hydra_plugins.emodet_sweeps.OptunaSweeper"


@dataclass
class _RayConfig:
    _target_: str = "hydra_plugins.emodet_sweeps.RayLauncher"
    init: dict[str, Any] = field(default_factory=dict)
    remote: dict[str, Any] = field(default_factory=dict)


_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="emodet_grid", node=_GridConfig, provider="emodet")
_store.store(group="hydra/sweeper", name="emodet_optuna", node=_OptunaConfig, provider="emodet")
_store.store(group="hydra/launcher", name="emodet_ray", node=_RayConfig, provider="emodet")
