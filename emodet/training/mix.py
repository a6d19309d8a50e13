"""Settings of the data sets of a mix, ``data.sources``: from ``conf/data`` and from the mix."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from emodet.command_line import conf_folder
from emodet.data.sources import SOURCE_KEYS
from emodet.errors import EmodetError, require
from emodet.schema import without_none

# Keys which, set for a whole mix, override the files of its data sets.
_FOR_ALL = ("crop", "labels", "val_from", "max_unreadable")


def resolved_sources(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of each data set of a mix, by its name. ``sources`` are names, or settings by name.

    The values in ``conf/data/NAME.yaml`` (or the file that the setting ``data`` names) are overridden by the settings
    of the mix, and those by the data set's own settings.
    """
    for_all = {key: data[key] for key in _FOR_ALL if key in data}
    named = _by_name(data["sources"] or {})
    # Inside a command, Hydra searches the folders of that command; elsewhere, search the project's ``conf/``.
    is_composing = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_composing else hydra.initialize_config_dir(conf_folder(), version_base="1.3"):
        known = [name for name in GlobalHydra.instance().config_loader().get_group_options("data") if name != "mixed"]
        if not named:
            raise EmodetError(
                "data.sources is empty: name data sets, as in data.sources=[affectnet8,rafdb]. There are "
                f"{', '.join(known)}"
            )
        return {name: {**_of_file(name, own, known), **for_all, **own} for name, own in named.items()}


def merged_sources(own: Any, chosen: Any) -> dict[str, dict[str, Any]]:
    """Return the data sets `own` of a run, with settings overridden and data sets added by `chosen`."""
    before, after = _by_name(own), _by_name(chosen)
    return {name: {**before.get(name, {}), **after.get(name, {})} for name in (*before, *after)}


def _by_name(sources: Any) -> dict[str, dict[str, Any]]:
    expected = "names of data sets, each once, or settings by name, as in {rafdb: {root: /path}}"
    if isinstance(sources, Mapping):
        are_settings = all(isinstance(values, Mapping | None) for values in sources.values())
        require(are_settings, "data.sources", sources, expected)
        return {str(name): dict(values or {}) for name, values in sources.items()}
    names = [sources] if isinstance(sources, str) else sources
    are_names = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    require(are_names and len(set(names)) == len(names), "data.sources", sources, expected)
    return {name: {} for name in names}


def _of_file(name: str, own: dict[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Read the settings in ``conf/data/NAME.yaml``, or in the file that ``data`` names; remove that key from `own`."""
    file = own.pop("data", None)
    if file is None and name not in known and "root" in own:
        return {}
    file = str(file or name)
    if file not in known:
        raise EmodetError(
            f"data.sources: {name}: there is no data set {file!r}; there are {', '.join(known)}. For a data set of "
            "your own, name its layout with data, as in {mine: {data: own_csv, root: /path}}"
        )
    settings = without_none(OmegaConf.to_container(hydra.compose(config_name=f"data/{file}").data, resolve=True))
    return {key: value for key, value in settings.items() if key in (*SOURCE_KEYS, "synthetic")}
