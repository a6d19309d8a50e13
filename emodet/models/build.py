"""Objects from plain-data specs, ``{"_target_": "package.module.Class", **arguments}``, as Hydra writes them.

Specs from a user's command line or configuration files are built without a check. Specs from a checkpoint, a run folder
or a card are checked first: `require_trusted` accepts only classes of the expected type from trusted packages.
"""

import inspect
import pydoc
import typing
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from emodet.errors import EmodetError

TRUSTED_PACKAGES = ("emodet", "lightning", "torch", "torchmetrics", "albumentations")
"""Packages whose classes a stored spec can name. Users add packages with ``trust=[PACKAGE]`` or `trust`; an installed
package adds its nets with entry points of the group ``emodet.nets``."""

OBJECT = "_object_"
"""Key under which a checkpoint stores the class name of an argument that was an object."""

_trusted: set[str] = set()


def trust(*packages: str) -> None:
    """Allow stored specs to name classes of these root packages in this process. Only the user may decide this."""
    _trusted.update(package.partition(".")[0] for package in packages if package)


def trust_argument() -> str:
    """Return `` 'trust=[mylab]'`` for a command that loads results of this process, or empty text if not needed."""
    packages = sorted(_trusted.difference(TRUSTED_PACKAGES))
    return f" 'trust=[{','.join(packages)}]'" if packages else ""


def target_of(spec: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Import the callable that a spec names; `key` is the configuration key for the error message.

    Raises:
        EmodetError: There is no ``_target_``, or it cannot be imported.
    """
    if OBJECT in spec:
        raise EmodetError(
            f"{key}: it was given as an object of {spec[OBJECT]}, which a file does not hold; pass {key}= to "
            f"load_from_checkpoint, or train with {key}={{'_target_': '{spec[OBJECT]}'}} and its arguments"
        )
    path = spec.get("_target_")
    if not isinstance(path, str) or "." not in path:
        raise EmodetError(f"{key}._target_={path}: the path of a class was expected, as in mypackage.MyClass")
    try:
        found = pydoc.locate(path)
    except pydoc.ErrorDuringImport as problem:
        raise EmodetError(f"{key}._target_={path}: cannot be imported ({str(problem).splitlines()[-1]})") from None
    if found is None:
        module = path.rpartition(".")[0]
        place = f"it is not in {module}" if pydoc.locate(module) else f"no module {module} here or in PYTHONPATH"
        raise EmodetError(f"{key}._target_={path}: cannot be imported ({place})")
    if not callable(found):
        raise EmodetError(f"{key}._target_={path}: not a class or function")
    return typing.cast(Callable[..., Any], found)


def build(spec: Mapping[str, Any], key: str, *positional: Any, **supplied: Any) -> Any:
    """Build the object of a spec with its own, `positional` and `supplied` arguments; nested specs are built too.

    `supplied` arguments that the target does not accept are omitted, so that a class declares only those it uses.

    Raises:
        EmodetError: See `target_of`; or the target does not accept the arguments.
    """
    target = target_of(spec, key)
    parameters = inspect.signature(target).parameters
    arguments = {name: value for name, value in spec.items() if not name.startswith("_")}
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        known = sorted(set(parameters) - set(supplied))
        if unknown := sorted(set(arguments) - set(known)):
            raise EmodetError(
                f"{key}.{unknown[0]}: {spec['_target_']} has no such argument; there are {', '.join(known)}"
            )
        supplied = {name: value for name, value in supplied.items() if name in parameters}
    try:
        own = {name: _built(value, f"{key}.{name}") for name, value in arguments.items()}
        return target(*positional, **own, **supplied)
    except (TypeError, ValueError, AssertionError) as problem:
        reason = str(problem) or type(problem).__name__
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        chosen = {name: it for name, it in arguments.items() if name not in defaults or it != defaults[name]}
        raise EmodetError(f"{key}: {spec['_target_']} does not accept {chosen} ({reason})") from problem


def require_trusted(spec: Any, kinds: type | tuple[type, ...], where: str) -> None:
    """Check that specs from a file name only classes of trusted packages with an expected base class.

    Functions are accepted if they belong to emodet and are annotated to return such a class. Nested specs are checked
    by the same rule. `kinds` are base classes; `where` is file and key, for the error message.

    Raises:
        EmodetError: A target is not allowed.
    """
    trusted = (*TRUSTED_PACKAGES, *_trusted)
    registered = {entry.value.replace(":", ".") for entry in entry_points(group="emodet.nets")}
    for place, each in specs_in(spec, where):
        path = str(each["_target_"])
        root = path.partition(".")[0]
        if root not in trusted and path not in registered:
            raise EmodetError(
                f"{place}._target_={path}: refused, because a file may only name classes of {', '.join(trusted)}; if "
                f"you trust it, add trust=[{root}]"
            )
        target = target_of(each, place)
        if root not in TRUSTED_PACKAGES:
            continue
        made = target if inspect.isclass(target) else typing.get_type_hints(target).get("return")
        own = inspect.isclass(target) or root == "emodet"
        # The class itself must belong to the package, because a module's imports are reachable under its name too.
        home = str(getattr(target, "__module__", "")).partition(".")[0]
        if not (own and inspect.isclass(made) and issubclass(made, kinds) and home in trusted):
            expected = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
            raise EmodetError(f"{place}._target_={path}: refused, because it is no {expected}")


def specs_in(values: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield key and spec of every spec in nested plain data with the key `where`."""
    if isinstance(values, Mapping):
        if "_target_" in values:
            yield where, values
        for name, value in values.items():
            yield from specs_in(value, f"{where}.{name}")
    elif isinstance(values, list | tuple):
        for value in values:
            yield from specs_in(value, where)


def spec_of(argument: Any) -> dict[str, Any] | None:
    """Return the stored form of an argument: a spec unchanged, an object as the name of its class."""
    if argument is None or isinstance(argument, Mapping):
        return None if argument is None else dict(argument)
    return {OBJECT: f"{type(argument).__module__}.{type(argument).__qualname__}"}


def _built(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, key)
        return {name: _built(member, f"{key}.{name}") for name, member in value.items()}
    return [_built(member, key) for member in value] if isinstance(value, list | tuple) else value
