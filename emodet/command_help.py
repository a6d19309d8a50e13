"""The answer to ``--help`` of the commands that Hydra configures: purpose, experiments, groups, keys with defaults."""

import inspect
import re
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from emodet.commands import SCHEMAS, accepted, choices, conf_folder, groups_of, register_schema
from emodet.installation import named, spelled
from emodet.schema import checked, defaults

__all__ = ["help_text"]

_EXAMPLES = {
    "train": (
        "python -m emodet.train experiment=baseline data=synthetic trainer.max_epochs=2",
        "python -m emodet.train experiment=affectnet8 data.root=/path/to/AffectNet optimizer.lr=1e-3",
        "python -m emodet.train resume=RUN",
        "python -m emodet.train --multirun experiment=ferplus seed=0,1,2",
        "python -m emodet.train experiment=baseline --help          (every value of this experiment)",
    ),
    "evaluate": (
        "python -m emodet.evaluate checkpoint=RUN",
        "python -m emodet.evaluate checkpoint=RUN split=val corruptions=true",
        "python -m emodet.evaluate model=emodet-int8.onnx data=ferplus data.root=/path/to/ferplus",
    ),
    "export": (
        "python -m emodet.export checkpoint=RUN output=out",
        "python -m emodet.export checkpoint=RUN formats=[fp32] name=mine",
        "python -m emodet.export format=web output=site",
    ),
    "prepare": (
        "python -m emodet.prepare data.root=/path/to/AffectNet list=true",
        "python -m emodet.prepare experiment=ferplus data.root=/path/to/ferplus",
    ),
    "audit": (
        "python -m emodet.audit data=synthetic quick=true",
        "python -m emodet.audit data=affectnet data.root=/path/to/AffectNet output=audit",
    ),
}


def help_text(command: str, purpose: str, typed: Sequence[str]) -> str:
    """The text.

    Args:
        command: A name in `SCHEMAS`.
        purpose: What it does, for the first lines.
        typed: The command line. With an experiment or other choices, the keys are shown with every value in force.

    Raises:
        EmodetError: A key or choice on the command line is not known.
    """
    groups = groups_of(command)
    usage = "experiment=NAME " if command == "train" else ""
    lines = [f"usage: {named(command)} {usage}[GROUP=CHOICE …] [KEY=VALUE …]", ""]
    lines += [spelled(purpose.replace("``", "`")).strip(), "", "examples:"]
    lines += [f"  {spelled(example)}" for example in _EXAMPLES[command]]
    if "experiment" in groups:
        lines += ["", "experiments (experiment=NAME):"]
        lines += [f"  {name:<20} {_purpose(file)}" for name, file in choices("experiment", typed).items()]
    lines += ["", "groups (GROUP=CHOICE):"]
    lines += [f"  {group:<14} {', '.join(choices(group, typed))}" for group in groups if group != "experiment"]
    given = [argument for argument in accepted(command, typed) if "=" in argument and not argument.startswith("-")]
    values = _composed(command, given, typed)
    own = "; a class of your own: net._target_=mypackage.MyNet" if "net" in values else ""
    lines += ["", f"keys with their values (KEY=VALUE){own}:", ""]
    if "net" in values:  # keys of data that nobody sets get their defaults when everything is composed
        unset = defaults(SCHEMAS[command])["data"]
        values["data"] = {key: unset.get(key) if value is None else value for key, value in values["data"].items()}
    described = _descriptions(SCHEMAS[command])
    for key, value in values.items():
        lines += textwrap.wrap(described.get(key, ""), 120, initial_indent="# ", subsequent_indent="# ")
        lines += _yaml(key, value)
    return "\n".join(lines)


def _composed(command: str, given: Sequence[str], typed: Sequence[str]) -> dict[str, Any]:
    """The configuration as composed; with what the command line gives it is complete, with defaults of classes."""
    register_schema(command)
    folders = [value for flag, value in pairwise(typed) if flag in ("--config-dir", "-cd")]
    search = [f"hydra.searchpath=[{','.join(f'file://{Path(folder).resolve()}' for folder in folders)}]"]
    chosen = any(argument.startswith("experiment=") for argument in given)
    some = [] if chosen or "experiment" not in groups_of(command) else ["~experiment", "name=run"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose(command, [*search, *some, *(["name=run"] if chosen else []), *given])
    plain: Any = OmegaConf.to_container(config, resolve=bool(given))
    keys = [argument.lstrip("+~").partition("=")[0] for argument in given]
    return checked(SCHEMAS[command], plain, keys) if given else dict(plain)


def _yaml(key: str, value: Any, indent: str = "") -> list[str]:
    """One line per key, two levels deep."""
    if isinstance(value, dict) and value and len(indent) < 4:
        return [f"{indent}{key}:", *(line for name, of in value.items() for line in _yaml(name, of, indent + "  "))]
    flow = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=10**6)
    return [f"{indent}{key}: {flow.removesuffix('...' + chr(10)).strip()}"]


def _descriptions(schema: type) -> dict[str, str]:
    """What the docstrings of a configuration and its bases say of each attribute."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__[:-1]):
        attributes = inspect.getdoc(base) or ""
        for name, text in re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", attributes.partition("Attributes:")[2], re.M):
            found[name] = " ".join(text.split()).replace("``", "`")
    return found


def _purpose(experiment: Path) -> str:
    """The first sentence of the file's ``Purpose``."""
    text = experiment.read_text(encoding="utf-8").partition("# Purpose")[2]
    comment = [line.lstrip("# ").strip() for line in text.splitlines()]
    end = next(
        (number for number, line in enumerate(comment) if number and line.startswith(("Command", "defaults"))), 1
    )
    return " ".join(comment[:end]).strip().partition(". ")[0]
