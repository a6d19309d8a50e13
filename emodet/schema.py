"""Keys, types and defaults of a configuration, derived from signatures, and the check of composed values against them.

A field annotated with `Arguments` is a group with the arguments of one callable; one with `Spec` names its class itself
(``_target_``); one with `Specs` holds several of these by name.
"""

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

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
    **dict.fromkeys(("shard", "merge"), "no key: one machine packs a data set"),
    "data.device": "no key: workers load and augment the faces",
    "data.changed": "no key: force=true makes a pack again",
    "loss.valence_arousal": "training.valence_arousal",
    "sweep": "hydra.sweeper.n_trials, study and params, and hydra.launcher.n_jobs",
    **dict.fromkeys(("copies", "quality"), "no key: the audit has fixed thresholds"),
}
"""Old keys and what takes their place, where that is not the nearest key; consulted for keys that are not known."""


@dataclass(frozen=True)
class Arguments:
    """Marks a group of keys that are the arguments of `target`, but for those in `without`.

    Attributes:
        target: Whose signature it is.
        without: Its arguments that are no keys.
        unset: ``no``: defaults are there from the start. ``at first``: keys are null until everything is composed, then
            they get their defaults; in a mix of data sets only those that no data set has of its own. ``always``: keys
            that nobody sets stay null, as those of a checkpoint's own run take their place.
        of_sources: Keys that stay null in a mix, where ``sources`` is set.
        optional: Nested groups that are null unless they are chosen.
    """

    target: Callable[..., Any]
    without: tuple[str, ...] = ()
    unset: Literal["no", "at first", "always"] = "no"
    of_sources: tuple[str, ...] = ()
    optional: Mapping[str, "Arguments"] = field(default_factory=dict)

    def keys(self) -> "Keys":
        """The keys of the group."""
        return {**keys_of(self.target, self.without), **self.optional}

    def defaults(self, composed: bool) -> dict[str, Any]:
        """See `defaults`."""
        values = _defaults(keys_of(self.target, self.without), composed) | dict.fromkeys(self.optional)
        return values if self.unset == "no" or composed else dict.fromkeys(values)


@dataclass(frozen=True)
class Spec:
    """Marks a group that names its own class: ``{_target_: …, **arguments}``.

    Attributes:
        without: Arguments that are supplied.
        also: Pairs of an argument and a value that it may have besides those of its type.
    """

    without: tuple[str, ...] = ()
    also: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Specs:
    """Marks a group of named specs, each of which may be null."""


@dataclass(frozen=True)
class Value:
    """A key that holds a value."""

    hint: Any
    default: Any = None


Keys = Mapping[str, Arguments | Spec | Specs | Value]


def keys_of(target: Callable[..., Any], without: Sequence[str] = ()) -> Keys:
    """The keys of a signature."""
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # a class of the user's whose annotations cannot be evaluated
        hints = {}
    keys = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if name in without or name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name, Any)
        markers = getattr(hint, "__metadata__", ())
        default = None if parameter.default is parameter.empty else parameter.default
        keys[name] = markers[0] if markers else Value(hint, default)
    return keys


def defaults(command: type, composed: bool = True) -> dict[str, Any]:
    """Plain nested values of a command's keys before anything is chosen; specs are empty.

    `composed` is whether keys that are null while a configuration is composed have their defaults.
    """
    return _defaults(keys_of(command), composed)


def _defaults(keys: Keys, composed: bool) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, entry in keys.items():
        if isinstance(entry, Arguments):
            plain[name] = entry.defaults(composed)
        else:
            plain[name] = _plain(entry.default) if isinstance(entry, Value) else {}
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(member) for member in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(member) for key, member in value.items()}
    return str(value) if isinstance(value, Path) else value


def checked(command: type, values: Mapping[str, Any], replaced: Sequence[str] = ()) -> dict[str, Any]:
    """Check composed values against a command's keys and types, and fill in the defaults of specs' classes.

    A ``_target_`` among `replaced`, the dotted keys of the command line, replaces the group's class: options of the
    class that was there go, but for those that the command line gives too.
    """
    return _checked(keys_of(command), values, "", set(replaced))


def _checked(
    keys: Keys, values: Mapping[str, Any], path: str, given: set[str], group: Arguments | None = None
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{path}{name}"
        if name not in keys:
            raise unknown_key(key, [f"{path}{known}" for known in keys])
        entry = keys[name]
        if isinstance(entry, Spec):
            result[name] = _checked_spec(entry, value, key, given)
        elif isinstance(entry, Specs):
            result[name] = {
                each: None if spec is None else _checked_spec(Spec(), spec, f"{key}.{each}", given)
                for each, spec in (value or {}).items()
            }
        elif isinstance(entry, Arguments):
            if value is not None and not isinstance(value, Mapping):
                raise EmodetError(f"{key}={value}: a group of keys was expected ({', '.join(entry.keys())})")
            result[name] = value and _checked(entry.keys(), value, f"{key}.", given, entry)
        elif value is not None or group is None or group.unset == "no":
            result[name] = _converted_or_error(value, entry.hint, key)
        else:
            is_of_sources = values.get("sources") is not None and name in group.of_sources
            result[name] = None if group.unset == "always" or is_of_sources else _plain(entry.default)
    return result


def _checked_spec(spec: Spec, values: Any, key: str, given: set[str]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        if key in RENAMED_KEYS:
            raise unknown_key(key, ())
        raise EmodetError(f"{key}={values}: {{_target_: PACKAGE.CLASS, …}} was expected")
    if "_target_" not in values:
        return dict(values)
    if f"{key}._target_" in given:
        values = {name: value for name, value in values.items() if name.startswith("_") or f"{key}.{name}" in given}
    target = target_of(values, key)
    keys = keys_of(target, spec.without)
    parameters = inspect.signature(target).parameters.values()
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    own = {}
    for name, value in values.items():
        if (name, value) in spec.also:
            own[name] = value
        elif isinstance(entry := keys.get(name), Value):
            own[name] = _converted_or_error(value, entry.hint, f"{key}.{name}")
        elif is_open or name.startswith("_") or name in keys:
            own[name] = value
        else:
            raise unknown_key(f"{key}.{name}", [f"{key}.{known}" for known in keys], values["_target_"])
    filled = {
        parameter.name: _plain(parameter.default)
        for parameter in parameters
        if parameter.name in keys and parameter.default is not parameter.empty and _is_plain(parameter.default)
    }
    return {"_target_": values["_target_"], **filled, **own}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)


def unknown_key(key: str, known: Sequence[str], target: str = "") -> EmodetError:
    """The error for a key that is not among `known`: its new name, or the nearest one, or all of them."""
    for old, new in RENAMED_KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return EmodetError(f"{key}: renamed; now it is {new}")
    return EmodetError(f"{key}: {target + ' has' if target else 'there is'} no such key; {nearest(key, known)}")


def _converted_or_error(value: Any, hint: Any, key: str) -> Any:
    try:
        return converted(value, hint)
    except TypeError:
        expected = getattr(hint, "__name__", str(hint)) if inspect.isclass(hint) else str(hint)
        expected = expected.replace("typing.", "").replace("collections.abc.", "").replace("Literal", "one of ")
        raise EmodetError(f"{key}={value}: {expected} was expected") from None


def converted(value: Any, hint: Any) -> Any:
    """`value` as `hint` describes it; whole floats become ints where those are expected, numbers become text.

    `TypeError` where it does not fit.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return converted(value, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _first_that_fits(value, arguments)
    kind, is_number = origin or hint, isinstance(value, int | float) and not isinstance(value, bool)
    if kind is Literal:
        fits = value in arguments
    elif kind in (None, type(None)):
        fits = value is None
    elif kind is bool:
        fits = isinstance(value, bool)
    elif kind is int:
        fits = is_number and float(value).is_integer()
        value = int(value) if fits else value
    elif kind is float:
        fits = is_number and not math.isnan(value)
    elif kind in (str, Path):
        fits = isinstance(value, str) or is_number
        value = str(value)
    elif kind in (list, tuple, set, Sequence):
        fits = isinstance(value, list | tuple)
        of_members = arguments[0] if len(arguments) in (1, 2) else Any
        value = [converted(member, of_members) for member in value] if fits else value
    else:
        fits = kind not in (dict, Mapping) or isinstance(value, Mapping)
    if not fits:
        raise TypeError
    return value


def _first_that_fits(value: Any, hints: Sequence[Any]) -> Any:
    exact = [hint for hint in hints if inspect.isclass(hint) and type(value) is hint]
    # No text is an object: `optimizer.lr=abc` is none of float | torch.Tensor.
    is_object = [inspect.isclass(hint) and hint.__module__.partition(".")[0] == "torch" for hint in hints]
    fitting = [hint for hint, no in zip(hints, is_object, strict=True) if not (no and isinstance(value, str))]
    for hint in (*exact, *fitting):
        try:
            return converted(value, hint)
        except TypeError:
            continue
    raise TypeError
