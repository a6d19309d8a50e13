"""A command in this process, Python in another, and waiting for it."""

import os
import runpy
import subprocess
import sys
import time
import warnings
from unittest.mock import patch

TINY = (
    *("data.num_workers=0", "data.processes=1", "preprocessing.size=48", "net.channels=[4,4,8,8]", "net.features=8"),
    *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false"),
)
"""Overrides under which an epoch of a few faces takes a second; the net keeps its form, not its width."""


def run_command(module, *arguments):
    """Run ``python -m MODULE ARGUMENTS`` in this process and return its exit status."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    GlobalHydra.instance().clear()
    # Lightning leaves the address of its ranks in the environment, which the next training must not find.
    with patch.object(sys, "argv", [module, *arguments]), patch.dict(os.environ), warnings.catch_warnings():
        # Tests that import the command's module before running it as a program do so on purpose.
        warnings.filterwarnings("ignore", ".*found in sys.modules after import of package", RuntimeWarning)
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=False)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        finally:
            # A process that ends forgets it; the next test must not take this command's configuration for its own.
            HydraConfig.instance().cfg = None
    return 0


def python(*arguments, **options):
    """Run ``python ARGUMENTS`` in a process of its own: its status and what it wrote, as text."""
    settings = {"capture_output": True, "text": True, "timeout": 400, "check": False} | options
    return subprocess.run([sys.executable, *map(str, arguments)], **settings)


def wait_for(condition, seconds=240):
    """Return what the condition gives as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still not true after {seconds} s"
        time.sleep(0.02)
    return found
