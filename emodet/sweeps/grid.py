"""Run every combination of what is listed."""

import sys
from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.sweeper import Sweeper

from emodet.sweeps.launching import Ended, Job
from emodet.sweeps.session import Session

__all__ = ["run_grid"]


def run_grid(sweeper: Sweeper, arguments: Sequence[str]) -> list[Ended]:
    """Run the grid that the configuration and the command line list, and compare its runs.

    Args:
        sweeper: Set up, with its launcher.
        arguments: The command line's overrides.

    Returns:
        How its runs ended.
    """
    session = Session(sweeper)
    parser = OverridesParser.create(config_loader=session.config_loader)
    overrides = parser.parse_overrides([*session.params(), *arguments])
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    jobs = [Job(number, tuple(each)) for number, each in enumerate(combinations)]
    session.check([job.overrides for job in jobs])
    batch = session.settings["sweep"].get("batch", len(jobs))
    with session.running("grid") as running:
        ended: list[Ended] = []
        for first in range(0, len(jobs), batch):
            ended.extend(running.launch(jobs[first : first + batch]))
        if any(each.problem is not None for each in ended):
            print("the sweep ends with status 1: not all of its runs finished", file=sys.stderr)
            running.status = 1
    return ended
