"""How a run ended, where it did not reach its report: written into its folder, for those who compare runs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from emodet.errors import EmodetError
from emodet.training.folder import RunFolder, now

__all__ = ["ending_noted"]


@contextmanager
def ending_noted(run: RunFolder) -> Iterator[None]:
    """Note a failure or a signal in ``run.json``; a disk that is full keeps it from that, and nothing else.

    The keys are ``failed`` (with a message) and ``interrupted`` (with the signal's name).
    """
    try:
        yield
    except Exception as problem:
        kind = "" if isinstance(problem, EmodetError) else f"{type(problem).__name__}: "
        _note(run, failed=f"{kind}{problem}")
        raise
    except KeyboardInterrupt:
        _note(run, interrupted="SIGINT")
        raise
    except SystemExit as leaving:
        if isinstance(leaving.code, int) and leaving.code > 128:
            _note(run, interrupted=signal.Signals(leaving.code - 128).name)
        raise


def _note(run: RunFolder, **facts: Any) -> None:
    if getattr(rank_zero_only, "rank", 0) == 0:
        with suppress(OSError):
            run.path.mkdir(parents=True, exist_ok=True)
            run.write_facts({**facts, "left": now()})
