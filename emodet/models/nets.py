"""Nets by name. A checkpoint says a name from here and plain arguments, never an import path: loading it runs no code
that it brings.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from emodet.errors import EmodetError
from emodet.models.face_resnet import FaceResNet
from emodet.models.residual_cnn import ResidualCNN

__all__ = ["NETS", "build_net"]

NETS: dict[str, Callable[..., nn.Module]] = {"residual_cnn": ResidualCNN, "face_resnet": FaceResNet}
"""To add a net, write a module that maps float (N, 3, H, W) to logits (N, num_classes) and enter it here."""

_TIMM = "timm/"


def build_net(net: Mapping[str, Any], num_classes: int, preprocessing: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a net.

    Args:
        net: ``name``, one of `NETS` or ``timm/`` and timm's own name; the rest are the net's arguments.
        num_classes: Number of logits.
        preprocessing: `Preprocessing.to_dict`'s values, for a net that has an argument of this name.

    Raises:
        EmodetError: The name or an argument is not known, or timm is not installed.
    """
    arguments = dict(net)
    name = str(arguments.pop("name", ""))
    if name.startswith(_TIMM):
        return _timm_net(name.removeprefix(_TIMM), num_classes, arguments)
    if name not in NETS:
        raise EmodetError(f"net.name={name!r}: there are {', '.join(NETS)}, and timm's as {_TIMM}NAME")
    known = set(inspect.signature(NETS[name]).parameters) - {"num_classes"}
    if "preprocessing" in known:
        known.remove("preprocessing")
        arguments_of_input = {"preprocessing": preprocessing}
    else:
        arguments_of_input = {}
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise EmodetError(f"net: {name} has no argument {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return NETS[name](num_classes=num_classes, **arguments, **arguments_of_input)


def _timm_net(name: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        import timm
    except ModuleNotFoundError:
        raise EmodetError(f"net.name={_TIMM}{name} needs timm: pip install 'emodet[timm]'") from None
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:8]}*")[:8]) or "timm.list_models() has the names"
        raise EmodetError(f"net.name={_TIMM}{name}: timm {timm.__version__} has no such net. Similar: {near}")
    try:
        net: nn.Module = timm.create_model(name, num_classes=num_classes, **arguments)
    except TypeError as problem:
        raise EmodetError(f"net: timm's {name} does not take {dict(arguments)} ({problem})") from None
    return net
