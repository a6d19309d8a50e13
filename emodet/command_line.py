"""Checks of a Hydra command's arguments before Hydra parses them (keys, choices, paths), and ``--help``.

Plain ``--help`` does not import Hydra, whose import takes longer than everything else.
"""

import argparse
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from emodet.errors import EmodetError, errors_of, nearest
from emodet.files import expanded
from emodet.installation import named, spelled
from emodet.schema import checked, defaults, unknown_key

# Keys whose value is a path, which can contain special characters of Hydra's grammar.
_PATHS = ("root", "packs", "corrections", "checkpoint", "model", "init_from", "resume", "output", "dir")


def _schema(command: str) -> type:
    from emodet.config import SCHEMAS  # takes 0.2 s, which a list of the experiments does not need

    return SCHEMAS[command]


def conf_folder() -> str:
    """Return the folder ``conf``: next to the package in a checkout, inside the package when it is installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise EmodetError(f"the configuration is neither in {package} nor next to it: install emodet again")


def groups_of(command: str) -> list[str]:
    """Return the config groups of a command."""
    return list(_default_choices(_yaml(Path(conf_folder()) / f"{command}.yaml")))


def choices(group: str, typed: Sequence[str] = ()) -> dict[str, Path]:
    """Return the choices of a config group and their files, in ``conf/`` and in the folder of ``--config-dir``."""
    found = {}
    for folder in (Path(conf_folder()), *_config_dir(typed)):
        files = (folder / group).rglob("*.yaml")
        found.update({file.relative_to(folder / group).with_suffix("").as_posix(): file for file in files})
    return dict(sorted(found.items()))


def key_of(argument: str) -> str:
    """Return the key of an argument ``KEY=VALUE``, ``+KEY=VALUE`` or ``~KEY``."""
    return argument.lstrip("+~").partition("=")[0]


def checked_arguments(command: str, typed: Sequence[str]) -> list[str]:
    """Check the arguments of a command and quote paths for Hydra.

    Raises `EmodetError` for an unknown key or choice, and for a list where a group takes one choice. Hydra would print
    a message of its parser.
    """
    groups, keys = groups_of(command), list(defaults(_schema(command)) if typed else ())
    sweeps = bool({"-m", "--multirun"} & set(typed))
    for argument in typed:
        key = key_of(argument)
        if argument.startswith("--") and (name := key.lstrip("-")).split(".")[0] in (*keys, *groups):
            raise EmodetError(f"{argument}: there is no such option; keys are written without dashes, as {name}=VALUE")
        if "=" not in argument or argument.startswith("-") or key.startswith("hydra"):
            continue
        group, first = key.partition("@")[0], key.split(".")[0]
        if group in groups and not any(each.startswith("hydra.searchpath") for each in typed):
            _check_choice(group, argument.partition("=")[2], choices(group, typed), sweeps)
        elif first not in (*keys, *groups):
            raise unknown_key(first, [*keys, *(group for group in groups if group not in keys)])
    quoted_paths = [_quoted_path(argument, sweeps) for argument in typed]
    for argument in quoted_paths:
        if "=" in argument and not argument.startswith("-"):
            _require_grammar(argument)
    return quoted_paths


def require_experiment(command: str, typed: Sequence[str]) -> None:
    """Raise `EmodetError` for a training without an experiment; Hydra would do so only after seconds of imports."""
    if command == "train" and not any(it.startswith(("-", "experiment", "+experiment", "resume=")) for it in typed):
        known = ", ".join(choices("experiment"))
        raise EmodetError(f"nothing to train: give experiment=NAME, or resume=RUN. The experiments are {known}")


def _require_grammar(argument: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key = argument.partition("=")[0]
    examples = f"""'{key}="a=1 (ü)"' or '{key}=["a=1 (ü)"]'"""
    way_out = f"put text in double quotes within the shell's single ones, as in {examples}"
    with errors_of(argument, way_out, HydraException):
        OverridesParser.create().parse_override(argument)


def _check_choice(group: str, value: str, known: Mapping[str, Path], sweeps: bool) -> None:
    several = group in ("callbacks", "logger")
    if value.startswith("[") and not several:
        raise EmodetError(
            f"{group}={value}: one choice was expected, as in {group}=NAME; --multirun {group}=a,b runs several"
        )
    if value.startswith("{") or "${" in value or "(" in value:
        return
    for choice in value.strip("[]'\"").split(",") if several or sweeps else [value.strip("'\"")]:
        if (choice := choice.strip()) and choice not in known:
            raise EmodetError(f"{group}={choice}: there is no such choice; {nearest(choice, known)}")


def _quoted_path(argument: str, sweeps: bool) -> str:
    key, given, value = argument.partition("=")
    is_path = key_of(key).rpartition(".")[2] in _PATHS and "/" not in key
    if not given or not is_path or not value or value[0] in "'\"" or value == "null":
        return argument
    path = expanded(value)
    value = str(path) if value.startswith("~") else value
    # Hydra parses lists of paths, interpolations and the values of a sweep, unless a file has that name.
    if (value[0] in "[{" or "${" in value or ("," in value and sweeps)) and not path.exists():
        return f"{key}={value}"
    return f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """Quote text for Hydra's grammar."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(value, Quote.single).with_quotes()


def help_text(command: str, purpose: str, typed: Sequence[str]) -> str:
    """Return the text of ``--help``: purpose, examples, experiments, groups, and keys with their values.

    If the arguments `typed` set an experiment, a group or a key, the values are those of the composed configuration.
    """
    groups = groups_of(command)
    usage = "experiment=NAME " if command == "train" else ""
    lines = [f"usage: {named(command)} {usage}[GROUP=CHOICE …] [KEY=VALUE …]", ""]
    lines += [spelled(purpose.replace("``", "`")).strip(), "", "examples:"]
    head = (Path(conf_folder()) / f"{command}.yaml").read_text(encoding="utf-8").partition("\ndefaults:")[0]
    lines += [spelled(line.removeprefix("# ")) for line in head.splitlines()[1:]]
    if "experiment" in groups:
        lines += ["", "experiments (experiment=NAME):"]
        lines += [f"  {name:<20} {_purpose(file)}" for name, file in choices("experiment", typed).items()]
    lines += ["", "groups (GROUP=CHOICE):"]
    lines += [f"  {group:<14} {', '.join(choices(group, typed))}" for group in groups if group != "experiment"]
    checked = checked_arguments(command, typed)
    overrides = [argument for argument in checked if "=" in argument and not argument.startswith("-")]
    values = _composed(command, overrides, typed) if overrides else _default_values(command)
    own = "; a class of your own: net._target_=mypackage.MyNet" if "net" in values else ""
    lines += ["", f"keys with their values (KEY=VALUE){own}:", ""]
    described = _descriptions(_schema(command))
    for key, value in values.items():
        lines += textwrap.wrap(described.get(key, ""), 120, initial_indent="# ", subsequent_indent="# ")
        lines += _lines(key, value)
    return "\n".join(lines)


def _config_dir(typed: Sequence[str]) -> list[Path]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", type=Path, nargs=1, default=[])
    folder: list[Path] = parser.parse_known_args(typed)[0].config_dir
    return folder


def _default_choices(file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choice of each group in a file's defaults list, without Hydra's own groups."""
    entries = [entry for entry in file["defaults"] if isinstance(entry, dict)]
    return {group: choice for entry in entries for group, choice in entry.items() if "/" not in group}


def _default_values(command: str) -> dict[str, Any]:
    """Return the default values: of the signatures, updated by the default choices and the command's file."""
    conf = Path(conf_folder())
    file, schema = _yaml(conf / f"{command}.yaml"), _schema(command)
    values = defaults(schema, composed="experiment" in groups_of(command))  # else null means the checkpoint's own value
    layers = [
        {group: _yaml(conf / group / f"{name}.yaml")}
        for group, chosen in _default_choices(file).items()
        for name in (chosen if isinstance(chosen, list) else [chosen])
        if group in values and name is not None
    ]
    for key, value in [item for layer in (*layers, file) for item in layer.items()]:
        if key in values and key != "name":
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
    return values


def _composed(command: str, overrides: Sequence[str], typed: Sequence[str]) -> dict[str, Any]:
    """Return all values of the configuration that Hydra composes with these overrides."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from emodet.composition import register_schema

    register_schema(command, _schema(command))
    first = [f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in _config_dir(typed))}]"]
    if any(argument.startswith("experiment=") for argument in overrides):
        first.append("name=run")
    elif "experiment" in groups_of(command):
        first += ["~experiment", "name=run"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose(command, [*first, *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # for interpolations
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain: Any = OmegaConf.to_container(own, resolve=True)
    return checked(_schema(command), plain, [key_of(argument) for argument in overrides])


def _yaml(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


def _lines(key: str, value: Any, indent: str = "") -> list[str]:
    """Format a value as YAML, one line per key, two levels deep."""
    if isinstance(value, dict) and value and len(indent) < 4:
        return [f"{indent}{key}:", *(line for name, of in value.items() for line in _lines(name, of, indent + "  "))]
    flow = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=10**6)
    return [f"{indent}{key}: {flow.removesuffix('...' + chr(10)).strip()}"]


def _descriptions(schema: type) -> dict[str, str]:
    """Return the description of each attribute in the docstrings of a config class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__[:-1]):
        attributes = (inspect.getdoc(base) or "").partition("Attributes:")[2]
        for name, text in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", attributes, re.M):
            found[name] = " ".join(text.split()).replace("``", "`")
    return found


def _purpose(experiment: Path) -> str:
    """Return the first sentence of ``Purpose`` in an experiment file."""
    text = experiment.read_text(encoding="utf-8").partition("# Purpose")[2].partition("\n# Command")[0]
    return " ".join(line.lstrip("# ").strip() for line in text.splitlines()).strip().partition(". ")[0]
