"""Objects from plain-data specs, ``{"_target_": "package.module.Class", **arguments}``.

What a user's command line or configuration files name is built as it is. What a checkpoint, a run folder or a card
brings is checked first: `require_trusted` accepts classes of a few packages, of the expected kind, and nothing else.
"""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from emodet.errors import EmodetError

__all__ = ["TRUSTED_PACKAGES", "build", "require_trusted", "target_of"]

TRUSTED_PACKAGES = ("emodet", "lightning", "torch", "torchmetrics", "albumentations")
"""Packages whose classes a stored spec may name. The user adds others with ``trust=[PACKAGE]``."""


def target_of(spec: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Import the callable that a spec names; `key` is the configuration key for the error message.

    Raises:
        EmodetError: There is no ``_target_``, or it cannot be imported.
    """
    path = spec.get("_target_")
    if not isinstance(path, str) or "." not in path:
        raise EmodetError(f"{key}._target_={path}: the path of a class was expected, as in mypackage.MyClass")
    try:
        found = get_object(path)
    except Exception as problem:
        reason = str(problem).splitlines()[-1] if str(problem) else type(problem).__name__
        raise EmodetError(f"{key}._target_={path}: cannot be imported ({reason})") from None
    if not callable(found):
        raise EmodetError(f"{key}._target_={path}: not a class or function")
    return typing.cast(Callable[..., Any], found)


def build(spec: Mapping[str, Any], key: str, **supplied: Any) -> Any:
    """Build a spec's object with its own arguments and `supplied` ones.

    `supplied` arguments that the target does not take are left out, so that a class needs only those it uses.

    Raises:
        EmodetError: See `target_of`; or the target does not take the arguments.
    """
    target = target_of(spec, key)
    parameters = inspect.signature(target).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        supplied = {name: value for name, value in supplied.items() if name in parameters}
    try:
        return instantiate({**spec, "_partial_": True}, _convert_="all")(**supplied)
    except (TypeError, ValueError, AssertionError, InstantiationException) as problem:
        reason = str(problem.__cause__ or problem) or type(problem).__name__
        raise EmodetError(f"{key}: {spec['_target_']} does not accept {_arguments(spec)} ({reason})") from problem


def require_trusted(spec: Any, kinds: type | tuple[type, ...], where: str, packages: Iterable[str] = ()) -> None:
    """Refuse specs from a file that name anything but a class of a trusted package, of an expected kind.

    Functions are accepted where they are emodet's own and annotated to return such a class. Nested specs are checked
    by the same rule.

    Args:
        spec: Plain data, any nesting.
        kinds: Base classes that a target must have.
        where: The file and key, for the error message.
        packages: Root packages that the user trusts besides `TRUSTED_PACKAGES`.

    Raises:
        EmodetError: A target is refused.
    """
    if isinstance(spec, Mapping):
        if "_target_" in spec:
            _require_target(spec, kinds, where, (*TRUSTED_PACKAGES, *packages))
        for name, value in spec.items():
            require_trusted(value, kinds, f"{where}.{name}", packages)
    elif isinstance(spec, list | tuple):
        for value in spec:
            require_trusted(value, kinds, where, packages)


def _require_target(
    spec: Mapping[str, Any], kinds: type | tuple[type, ...], where: str, packages: tuple[str, ...]
) -> None:
    path = str(spec["_target_"])
    root = path.partition(".")[0]
    if root not in packages:
        raise EmodetError(
            f"{where}._target_={path}: refused, because a file may only name classes of {', '.join(packages)}; if you "
            f"trust it, add trust=[{root}]"
        )
    target = target_of(spec, where)
    if root not in TRUSTED_PACKAGES:
        return
    made = target if inspect.isclass(target) else typing.get_type_hints(target).get("return")
    own = inspect.isclass(target) or root == "emodet"
    # The class itself must be of the package: a module's imports are reachable under its name too.
    home = str(getattr(target, "__module__", "")).partition(".")[0]
    if not (own and inspect.isclass(made) and issubclass(made, kinds) and home in packages):
        expected = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
        raise EmodetError(f"{where}._target_={path}: refused, because it is no {expected}")


def _arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if not name.startswith("_")}
