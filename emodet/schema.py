"""Configuration schema: derive keys, types and defaults from signatures, and check composed values against them.

A field annotated with `Group` is a group of keys; any other field is a key.
"""

import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from emodet.errors import EmodetError, nearest
from emodet.models.build import target_of

RENAMED_KEYS: Mapping[str, str] = {
    "data.selection": "data.val_from",
    "data.balanced": "data.sampling=balanced",
    "training.select_by": "training.monitor",
    "training.sharpness": "training.sam_rho",
    "training.mixing_chance": "training.mix_prob",
    "training.resolutions": "training.progressive_sizes",
    "training.keep": "callbacks.best.keep",
    "training.patience": "callbacks.early_stopping.patience, with callbacks=[default,early_stopping]",
    "training.weight_averaging": "callbacks.ema.decay, with callbacks=[default,ema]",
    "net.name": "net=NAME, or net._target_=PACKAGE.CLASS",
    "net.arguments": "net.KEY for each argument",
    "optimizer.name": "optimizer=NAME, or optimizer._target_=PACKAGE.CLASS",
    "scheduler.name": "scheduler=NAME",
    "logger.name": "logger=NAME, or logger.NAME._target_=PACKAGE.CLASS",
    **{f"logger.{key}": f"callbacks.run_logger.{key}" for key in ("pictures", "artifacts")},
    **{f"logger.{key}": f"logger.wandb.{key}" for key in ("project", "entity", "group", "tags")},
    "role": "split",
    "loss.valence_arousal": "training.valence_arousal",
    "sweep": "hydra.sweeper.n_trials, study and params, and hydra.launcher.n_jobs",
}
"""Renamed keys and their new names, for the error of an unknown key."""


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_OF_CLASS = "{_target_: PACKAGE.CLASS, …}"


class Value(NamedTuple):
    """A key with a value. A key without a default is `required`, and null in the defaults."""

    hint: Any
    default: Any
    required: bool


@dataclass(frozen=True)
class Group:
    """A group of keys: the arguments of `target`, or of the class that the group names as ``_target_``.

    Attributes:
        target: Function or class whose arguments are the keys; None if the group names its class.
        without: Arguments that are not keys.
        unset: Whether keys that are not set are null. ``no``: they have their defaults. ``at first``: they are null
            during composition and have their defaults afterwards, except for `of_sources` in a mix of data sets.
            ``always``: they stay null, which stands for the value of the checkpoint's own run.
        of_sources: Keys that stay null in a mix, where ``sources`` is set.
        optional: Nested groups that are null unless they are chosen.
        also: Pairs (argument, value) of values that are valid although they are not of the argument's type.
        by_name: Whether the group is a mapping from names to groups or null.
    """

    target: Callable[..., Any] | None = None
    without: tuple[str, ...] = ()
    unset: Literal["no", "at first", "always"] = "no"
    of_sources: tuple[str, ...] = ()
    optional: Mapping[str, "Group"] = field(default_factory=dict)
    also: tuple[tuple[str, Any], ...] = ()
    by_name: bool = False

    def keys(self, target: Callable[..., Any]) -> "dict[str, Group | Value]":
        """Return the keys of the group: the arguments of `target`, and `optional`."""
        try:
            hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
        except (NameError, TypeError):  # a user's class with annotations that cannot be evaluated
            hints = {}
        keys: dict[str, Group | Value] = {}
        for name, parameter in inspect.signature(target).parameters.items():
            if name in self.without or name == "self" or parameter.kind in _VARIADIC:
                continue
            hint, required = hints.get(name, Any), parameter.default is parameter.empty
            markers = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Group)]
            keys[name] = markers[0] if markers else Value(hint, None if required else parameter.default, required)
        return {**keys, **self.optional}

    def defaults(self, composed: bool) -> dict[str, Any]:
        """See `defaults`."""
        keys = {} if self.target is None else self.keys(self.target)
        plain = {
            name: _plain(each.default) if isinstance(each, Value) else each.defaults(composed)
            for name, each in keys.items()
        }
        nulls = dict.fromkeys(plain if self.unset != "no" and not composed else self.optional)
        return {**plain, **nulls}


def defaults(command: type, composed: bool = True) -> dict[str, Any]:
    """Return the default values of a command's keys, nested and plain; groups that name their class are empty.

    Without `composed`, keys that are null during composition are null; see `Group.unset`.
    """
    return Group(command).defaults(composed)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list | set):
        return [_plain(member) for member in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    return str(value) if isinstance(value, Path) else value


def checked(command: type, values: Mapping[str, Any], replaced: Sequence[str] = ()) -> dict[str, Any]:
    """Check composed values against a command's keys and types, and add the defaults of classes that groups name.

    A ``_target_`` among `replaced`, the dotted keys of the command line, replaces the group's class: options of the old
    class are removed, except those that the command line sets too.
    """
    return _checked(Group(command), values, "", set(replaced))


def _checked(group: Group, values: Any, path: str, given: set[str]) -> dict[str, Any]:
    """Check a group; `path` is its key followed by a dot, or empty for the whole configuration."""
    if group.by_name and isinstance(values or {}, Mapping):
        one = replace(group, by_name=False)
        every = (values or {}).items()
        return {name: None if each is None else _checked(one, each, f"{path}{name}.", given) for name, each in every}
    target, is_spec, is_open = group.target, group.target is None, False
    result: dict[str, Any] = {}
    if not isinstance(values, Mapping):
        if target is None and path[:-1] in RENAMED_KEYS:
            raise unknown_key(path[:-1], ())
        expected = f"a group of keys ({', '.join(group.keys(target))})" if target else _OF_CLASS
        raise EmodetError(f"{path[:-1]}={values}: expected {expected}")
    if target is None:
        if "_target_" not in values:
            return dict(values)
        if f"{path}_target_" in given:
            values = {name: value for name, value in values.items() if name.startswith("_") or f"{path}{name}" in given}
        target = target_of(values, path[:-1])
        is_open = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(target).parameters.values())
    keys = group.keys(target)
    if is_spec:
        own = ((name, key) for name, key in keys.items() if isinstance(key, Value) and not key.required)
        result = {"_target_": None} | {name: _plain(key.default) for name, key in own if _is_plain(key.default)}
    for name, value in values.items():
        key = keys.get(name)
        if isinstance(key, Group):
            is_null = value is None and key.target is not None
            result[name] = None if is_null else _checked(key, value, f"{path}{name}.", given)
        elif (name, value) in group.also or (key is None and (is_open or (is_spec and name.startswith("_")))):
            result[name] = value
        elif key is None:
            known = [f"{path}{each}" for each in keys]
            raise unknown_key(f"{path}{name}", known, values["_target_"] if is_spec else "")
        elif value is None and group.unset != "no":
            is_of_sources = values.get("sources") is not None and name in group.of_sources
            result[name] = None if group.unset == "always" or is_of_sources else _plain(key.default)
        else:
            result[name] = _converted_or_error(value, key.hint, f"{path}{name}")
    return result


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def without_none(value: Any) -> Any:
    """Remove the keys whose value is None from nested values, but not from the arguments of a ``_target_``."""
    if isinstance(value, dict):
        is_spec = "_target_" in value
        return {str(key): without_none(member) for key, member in value.items() if is_spec or member is not None}
    return [without_none(member) for member in value] if isinstance(value, list) else value


def unknown_key(key: str, known: Sequence[str], target: str = "") -> EmodetError:
    """Return the error for an unknown key, with its new name, the nearest known key, or all known keys."""
    for old, new in RENAMED_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return EmodetError(f"{key}: renamed to {new}")
    return EmodetError(f"{key}: {target + ' has' if target else 'there is'} no such key; {nearest(key, known)}")


def _converted_or_error(value: Any, hint: Any, key: str) -> Any:
    try:
        return converted(value, hint)
    except TypeError:
        expected = getattr(hint, "__name__", str(hint)) if inspect.isclass(hint) else str(hint)
        expected = expected.replace("typing.", "").replace("collections.abc.", "").replace("Literal", "one of ")
        expected = re.sub(r"^Optional\[(.+)\]$", r"\1 or null", expected).replace(" | None", " or null")
        raise EmodetError(f"{key}={value}: expected {expected}") from None


def converted(value: Any, hint: Any) -> Any:
    """Convert a value to type `hint`: a whole float to int, a number to text; raise `TypeError` if it does not fit.

    Where an object is expected, its spec is returned as it is: `emodet.models.build` judges it.
    """
    # Not at the top of the file: keys are read, for `--help`, without it.
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            hint, config=ConfigDict(arbitrary_types_allowed=True, coerce_numbers_to_str=True)
        )
        found = _plain(adapter.validate_python(value))
    except PydanticUserError:  # a type of the user's that pydantic does not know
        return value
    except ValidationError as problem:
        if isinstance(value, Mapping) and any(each["type"] == "is_instance_of" for each in problem.errors()):
            return value
        raise TypeError from None
    if isinstance(found, bool) != isinstance(value, bool) or found != found:  # a truth value is no number, nor is NaN
        raise TypeError
    return found if isinstance(found, dict) or _is_plain(found) else value
