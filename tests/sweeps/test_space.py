"""The notation of a search space, as a user types it."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from emodet.errors import EmodetError
from emodet.sweeps.space import SearchSpace, search_space


def read(*typed: str, params: tuple[str, ...] = ()) -> SearchSpace:
    parser = OverridesParser.create()
    return search_space(parser.parse_overrides(list(params)), parser.parse_overrides(list(typed)))


@pytest.mark.parametrize(
    ("typed", "distribution"),
    [
        ("lr=interval(1e-4,1e-2)", FloatDistribution(1e-4, 1e-2)),
        ("lr=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("n=int(interval(2,8))", IntDistribution(2, 8)),
        ("n=tag(log,int(interval(2,8)))", IntDistribution(2, 8, log=True)),
        # As everywhere in Hydra, a range ends before its stop.
        ("n=range(1,4)", IntDistribution(1, 3)),
        ("n=range(0,9,step=4)", IntDistribution(0, 8, step=4)),
        ("x=range(0,0.2,step=0.05)", FloatDistribution(0, 0.15, step=0.05)),
        ("a=choice(none,light)", CategoricalDistribution(["none", "light"])),
        ("a=none,light", CategoricalDistribution(["none", "light"])),
        ("a=choice([1,2],[3])", CategoricalDistribution(["[1,2]", "[3]"])),
    ],
)
def test_what_is_typed_is_what_is_searched(typed: str, distribution: object) -> None:
    (found,) = read(typed).varied.values()
    assert found == distribution


def test_the_command_line_replaces_the_configuration() -> None:
    space = read("lr=0.5", "a=choice(x,y)", "seed=3", params=("lr=interval(0.0,1.0)", "a=choice(q,r)", "b=1,2"))
    assert space.fixed == ("lr=0.5", "seed=3")
    assert dict(space.varied) == {"a": CategoricalDistribution(["x", "y"]), "b": CategoricalDistribution(["1", "2"])}
    assert space.overrides({"a": "x", "b": "2"}) == ["lr=0.5", "seed=3", "a=x", "b=2"]


def test_every_choice_and_both_ends_are_reached_before_the_first_trial() -> None:
    corners = read("c=1", "a=x,y,z", "b=interval(0.0,1.0)").corners()
    assert {corner[1] for corner in corners} == {"a=x", "a=y", "a=z"}
    assert {corner[2] for corner in corners} == {"b=0.0", "b=1.0"}
    assert len(corners) == 5


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("seed=1,2,3", "a search takes one seed"),
        ("lr=0.1", "nothing to search in"),
        ("lr=tag(log,interval(0.0,1.0))", "lr=tag(log,interval(0.0,1.0)): not a range to search in"),
        ("n=range(3,3)", "not a range to search in (it is empty)"),
    ],
)
def test_what_cannot_be_searched_is_refused(typed: str, message: str) -> None:
    with pytest.raises(EmodetError) as problem:
        read(typed)
    assert message in str(problem.value)
