"""One sweep from its first check to its comparison; what a grid and a search have in common."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf, open_dict

from emodet.commands import to_plain_dict
from emodet.errors import EmodetError
from emodet.training.assembly import build_data
from emodet.training.folder import now
from emodet.sweeps.launching import Ended, Job, Stopping, launch
from emodet.sweeps.plan import Plan

__all__ = ["Running", "Session"]


@dataclass(slots=True)
class Running:
    """A sweep under way.

    Attributes:
        folder: The sweep's.
        status: What the command will exit with.
    """

    folder: Path
    status: int
    _launcher: Launcher
    _plan: Plan
    _stopping: Stopping

    def launch(self, jobs: Sequence[Job]) -> list[Ended]:
        """Start runs, wait for them, and say which failed; nothing is started once the sweep was stopped.

        Raises:
            SystemExit: It was stopped.
        """
        self._plan.add({job.number: job.overrides for job in jobs})
        ended = launch(self._launcher, jobs, self._stopping)
        for each in ended:
            if each.problem is not None:
                print(f"run {each.job.number} did not finish: {each.problem}", file=sys.stderr)
        return ended

    @property
    def stopped(self) -> bool:
        """Whether a signal asked for its end."""
        return self._stopping.received is not None


class Session:
    """What a sweep needs of Hydra's sweeper.

    Args:
        sweeper: Set up, with its launcher.
    """

    def __init__(self, sweeper: Sweeper) -> None:
        assert sweeper.config is not None
        assert sweeper.hydra_context is not None
        assert sweeper.launcher is not None
        self._config: DictConfig = sweeper.config
        self._launcher: Launcher = sweeper.launcher
        self.config_loader: ConfigLoader = sweeper.hydra_context.config_loader
        HydraConfig.instance().set_config(self._config)
        self.folder = Path(str(self._config.hydra.sweep.dir)).resolve()
        self.settings = to_plain_dict(_without_hydra(self._config))

    def params(self) -> list[str]:
        """The configuration's own overrides."""
        return [f"{key}={value}" for key, value in self.settings["sweep"].get("params", {}).items()]

    def check(self, runs: Iterable[Sequence[str]]) -> None:
        """Compose runs without starting any: an unknown key, choice or type of value stops before the first one.

        Then make the packs that they will ask for: once, not in every run that starts at the same time.

        Raises:
            EmodetError: Hydra would have let it pass, or there is no data for any run.
        """
        data: dict[str, dict[str, Any]] = {}
        for overrides in runs:
            config = self.config_loader.load_sweep_config(self._config, list(overrides))
            HydraConfig.instance().set_config(config)
            settings = to_plain_dict(_without_hydra(config))
            data[json.dumps([settings["data"], settings.get("preprocessing")], sort_keys=True)] = settings
        HydraConfig.instance().set_config(self._config)
        problems = []
        for settings in data.values():
            try:
                build_data(settings).prepare_data()
            except EmodetError as problem:
                problems.append(problem)
        if problems and len(problems) == len(data):
            raise problems[0]

    @contextmanager
    def running(self, kind: str, study: Path | None = None) -> Iterator[Running]:
        """Make the folder, take over signals, and whatever happens in the block compare what there is at its end.

        Raises:
            SystemExit: With the signal's status where it was stopped, else with `Running.status` if that is not 0.
        """
        plan = Plan(self.folder)
        plan.start(kind, study)
        OmegaConf.save(self._config, self.folder / "multirun.yaml")
        with Stopping(self.folder) as stopping:
            running = Running(self.folder, 0, self._launcher, plan, stopping)
            try:
                yield running
            finally:
                self._finish(plan, stopping)
        if stopping.received is not None:
            sys.exit(128 + stopping.received)
        if running.status:
            sys.exit(running.status)

    def _finish(self, plan: Plan, stopping: Stopping) -> None:
        from emodet.sweeps.comparison_files import compare

        plan.note(ended=now(), interrupted=stopping.received)
        try:
            print(compare([self.folder], self.folder))
        except EmodetError as problem:
            print(f"error: no comparison: {problem}", file=sys.stderr)


def _without_hydra(config: DictConfig) -> Any:
    plain = config.copy()
    OmegaConf.set_readonly(plain, False)
    with open_dict(plain):
        plain.pop("hydra")
    return plain
