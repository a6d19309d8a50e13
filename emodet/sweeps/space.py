"""What a search varies: Hydra's own notation for sweeps, read as Optuna's distributions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emodet.errors import EmodetError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution

__all__ = ["SearchSpace", "search_space"]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What varies, and what does not.

    Attributes:
        varied: Key to distribution.
        fixed: Overrides, as they were typed, that every trial has.
    """

    varied: Mapping[str, "BaseDistribution"]
    fixed: tuple[str, ...]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """A trial's overrides: the fixed ones, then its values."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def corners(self) -> list[list[str]]:
        """Overrides that reach every choice and both ends of every range, one key at a time."""
        from optuna.distributions import CategoricalDistribution

        first: dict[str, Any] = {}
        ends: dict[str, Sequence[Any]] = {}
        for key, distribution in self.varied.items():
            if isinstance(distribution, CategoricalDistribution):
                ends[key] = distribution.choices
            else:
                ends[key] = (distribution.low, distribution.high)  # type: ignore[attr-defined]
            first[key] = ends[key][0]
        return [self.overrides({**first, key: value}) for key, values in ends.items() for value in values]

    def described(self) -> dict[str, Any]:
        """The distributions as plain values, to store and to compare."""
        from optuna.distributions import distribution_to_json

        return {key: json.loads(distribution_to_json(each)) for key, each in sorted(self.varied.items())}


def search_space(params: Sequence["Override"], typed: Sequence["Override"]) -> SearchSpace:
    """Sort overrides into what is searched and what is fixed.

    Args:
        params: Those of the configuration.
        typed: Those of the command line, which replace the configuration's of the same key.

    Raises:
        EmodetError: Nothing is searched, seeds are, or a range makes no sense.
    """
    given = {override.get_key_element(): override for override in (*params, *typed)}
    varied: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for key, override in given.items():
        if override.is_sweep_override():
            varied[key] = _distribution(key, override)
        else:
            fixed.append(f"{key}={override.get_value_element_as_str()}" if not override.is_delete() else key)
    if "seed" in varied:
        raise EmodetError(
            "seed: a search takes one seed, or it would choose the luckiest; compare its best trials over several "
            "seeds afterwards, with sweep=seeds"
        )
    if not varied:
        raise EmodetError("sweep.params: nothing to search in; write ranges as optimizer.lr='interval(1e-4, 1e-2)'")
    return SearchSpace(varied, tuple(fixed))


def _distribution(key: str, override: "Override") -> "BaseDistribution":
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    typed = override.input_line or key
    log = isinstance(value, IntervalSweep | RangeSweep) and "log" in value.tags
    try:
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            if low is None or high is None:
                raise ValueError("both ends are needed")
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low), float(high), log=log)
        if isinstance(value, RangeSweep):
            numbers = [round(float(number), 12) for number in value.range()]
            if not numbers:
                raise ValueError("it is empty")
            if all(number.is_integer() for number in numbers) and isinstance(value.step, int):
                # Optuna has no log scale with steps.
                return IntDistribution(
                    int(min(numbers)), int(max(numbers)), log=log, step=1 if log else abs(int(value.step))
                )
            return FloatDistribution(min(numbers), max(numbers), step=None if log else abs(float(value.step)), log=log)
    except (ValueError, TypeError) as problem:
        raise EmodetError(f"{typed}: not a range to search in ({problem})") from None
    return CategoricalDistribution(list(override.sweep_string_iterator()))
