"""``data.sources``: the settings of each data set of a mix."""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from emodet.commands import conf_folder, to_plain_dict
from emodet.data.build import SOURCE_KEYS
from emodet.errors import EmodetError

__all__ = ["merged_sources", "resolved_sources"]

# Set for the whole mix, these override the files of the data sets.
_FOR_ALL = ("crop", "labels", "val_from", "max_unreadable")
_ENVIRONMENT = re.compile(r"\$\{oc\.env:(\w+)")


def resolved_sources(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each data set of a mix.

    From ``conf/data/NAME.yaml`` (or the file that its setting ``data`` names), overridden by those of the mix, and by
    those of the data set itself.

    Args:
        data: The data part of a configuration; its ``sources`` are names, or settings by name.

    Raises:
        EmodetError: ``sources`` is empty or invalid, a name is unknown or occurs twice, or a root is not set.
    """
    for_all = {key: data[key] for key in _FOR_ALL if key in data}
    named = _by_name(data["sources"] or {})
    if not named:
        raise EmodetError(
            f"data.sources names no data set; name some, as in data.sources=[affectnet8,rafdb]. There are "
            f"{', '.join(_known())}"
        )
    found = {}
    for name, values in named.items():
        where = f"data.sources: {name}"
        if not isinstance(values, Mapping):
            raise EmodetError(f"{where}: settings were expected, as in {{{name}: {{root: /path}}}}, not {values!r}")
        own = dict(values)
        file = own.pop("data", None)
        environment = None
        composed: dict[str, Any] = {}
        if file is not None or name in _known() or "root" not in own:
            composed, environment = _composed(str(file or name), where)
        found[name] = {**composed, **for_all, **own}
        if "root" not in found[name]:
            said = f" or with the environment variable {environment}" if environment else ""
            raise EmodetError(
                f"{where}: data.root is not set. Say where it lies with "
                f"data.sources={{{name}: {{root: /path}}}}{said}; emodet.prepare data={file or name} says more"
            )
    return found


def merged_sources(own: Any, chosen: Any) -> dict[str, dict[str, Any]]:
    """The data sets of a run with settings overridden or data sets added. Raises an `EmodetError` for a double name."""
    before, after = _by_name(own), _by_name(chosen)
    return {name: {**before.get(name, {}), **after.get(name, {})} for name in (*before, *after)}


def _by_name(sources: Any) -> dict[str, Any]:
    if isinstance(sources, Mapping):
        return {str(name): {} if values is None else values for name, values in sources.items()}
    names = [sources] if isinstance(sources, str) else sources
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise EmodetError(f"data.sources={sources!r}: names of data sets were expected, or settings by name")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EmodetError(f"data.sources={list(names)} names {', '.join(twice)} more than once")
    return {name: {} for name in names}


def _known() -> list[str]:
    with _hydra():
        names = GlobalHydra.instance().config_loader().get_group_options("data")
    return [name for name in names if name != "mixed"]


def _composed(file: str, where: str) -> tuple[dict[str, Any], str | None]:
    """The settings in ``conf/data/FILE.yaml``, and the environment variable that may say the root."""
    if file not in _known():
        raise EmodetError(
            f"{where}: there is no data set {file!r}; there are {', '.join(_known())}. One of your own takes the name "
            "of what it is: {mine: {data: own_csv, root: /path}}"
        )
    with _hydra():
        config = hydra.compose(config_name=f"data/{file}").data
    if not isinstance(config, DictConfig):
        raise EmodetError(f"{where}: conf/data/{file}.yaml holds no settings")
    root = (OmegaConf.to_container(config, resolve=False) or {}).get("root")  # type: ignore[union-attr]
    variable = _ENVIRONMENT.match(str(root))
    settings = {key: value for key, value in to_plain_dict(config).items() if key in (*SOURCE_KEYS, "synthetic")}
    return settings, variable[1] if variable else None


def _hydra() -> Any:
    """Where commands compose from; outside a command, the project's own configuration."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return hydra.initialize_config_dir(conf_folder(), version_base="1.3")
