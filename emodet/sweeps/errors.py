"""A sweep that cannot start says why in one sentence, as every command does."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from hydra.plugins.sweeper import Sweeper

from emodet.errors import EmodetError

__all__ = ["told"]


def told(sweep: Callable[[Sweeper, Sequence[str]], Any], sweeper: Sweeper, arguments: Sequence[str]) -> Any:
    """Run `sweep`; an `EmodetError` ends in its message and exit status 2."""
    try:
        return sweep(sweeper, arguments)
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
