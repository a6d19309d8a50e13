"""MkDocs hook: the reference of every configuration key, and the records outside of this folder as pages.

Markdown links to files of the repository, as they work on GitHub; here their targets are copied to ``records/``.
"""

import inspect
import os
import posixpath
import pydoc
import re
import subprocess
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from emodet.installation import project_url

ROOT = Path(__file__).parents[1]
RECORDS = ("experiments/*.md", "experiments/*.png", "experiments/*.csv", "experiments/*.json", "emodet/weights/*.md")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]+)(#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Link to the project, if it has an address."""
    config.repo_url, config.repo_name = project_url(), "emodet"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the records."""
    listed = subprocess.run(["git", "ls-files", "-z", *RECORDS], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if name:
            files.append(File.generated(config, f"records/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where the site has their targets; of a link to another file of the repository the text stays."""
    own = page.file.src_uri
    if own == "reference/configuration.md":
        markdown += "\n".join(["", *configuration()])
    place = own.removeprefix("records/") if own.startswith("records/") else f"docs/{own}"

    def moved(link: re.Match[str]) -> str:
        image, text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        uri = path.removeprefix("docs/") if path.startswith("docs/") else f"records/{path}"
        if files.get_file_from_path(uri) is None and not uri.startswith("records/"):
            return link[0]  # an error of ours, which mkdocs reports
        if files.get_file_from_path(uri) is None:
            if not (ROOT / path).exists():
                raise FileNotFoundError(f"{place} links to {target}, which does not exist")
            return f"{text} (`{path}`)" if text != path else f"`{path}`"
        return f"{image}[{text}]({os.path.relpath(uri, posixpath.dirname(own) or '.')}{anchor})"

    return LINK.sub(moved, markdown)


def configuration() -> Iterator[str]:
    """The page: each command's keys with the values in force, what they mean, and the choices of each group."""
    # Not at the top of the file: they load torch.
    from emodet.command_line import choices, groups_of
    from emodet.config import SCHEMAS, TrainConfig

    for command, schema in SCHEMAS.items():
        summary = (inspect.getdoc(schema) or "").partition("\n\nAttributes:")[0].replace("``", "`")
        yield f"\n## {command}\n\n{summary}\n"
        shared = set(typing.get_type_hints(TrainConfig)) if schema in TrainConfig.__subclasses__() else set()
        if "data" not in shared and schema is not TrainConfig:
            shared = {"data"}
            yield "Keys of `data` are those of [train](#train-data); null takes the values of the checkpoint's run.\n"
        values = {name: value for name, value in values_in_force(command).items() if name not in shared}
        yield from tables(command, schema, values)
    yield "\n## Choices\n"
    for group in groups_of("train"):
        yield f"\n### `{group}` {{#choices-{group}}}\n"
        yield from (f"- `{name}`: {first_comment(file)}" for name, file in choices(group).items())


def values_in_force(command: str) -> dict[str, Any]:
    """The values of a command on which nothing was chosen, with the defaults of classes."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from emodet.command_line import conf_folder, groups_of
    from emodet.composition import register_schema
    from emodet.config import SCHEMAS
    from emodet.schema import checked

    register_schema(command, SCHEMAS[command])
    with initialize_config_dir(conf_folder(), version_base="1.3"):
        config = compose(command, ["~experiment", "name=run"] if "experiment" in groups_of(command) else [])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return checked(SCHEMAS[command], plain)


def tables(command: str, schema: type, values: Mapping[str, Any]) -> Iterator[str]:
    """A table of the plain keys, then one for each group."""
    described = descriptions(schema)
    hints = typing.get_type_hints(schema, include_extras=True)
    plain = {name: value for name, value in values.items() if not isinstance(value, dict)}
    yield from table("", plain, described)
    for name, value in values.items():
        if not isinstance(value, dict):
            continue
        yield f"\n### `{name}` {{#{command}-{name}}}\n\n{described.get(name, '')}\n"
        marker = getattr(hints[name], "__metadata__", (None,))[0]
        if value and all(isinstance(spec, dict) for spec in value.values()):  # callbacks
            for each, spec in value.items():
                yield from of_class(f"{name}.{each}.", spec)
        elif "_target_" in value:
            yield from of_class(f"{name}.", value)
        elif getattr(marker, "target", None) is not None:
            yield from table(f"{name}.", value, descriptions(marker.target))
            for nested, more in marker.optional.items():
                yield f"\nWith `{name}={nested}`:\n"
                arguments = inspect.signature(more.target).parameters.items()
                given = {key: of.default for key, of in arguments if key not in more.without}
                known = {key: None if default is inspect.Parameter.empty else default for key, default in given.items()}
                yield from table(f"{name}.{nested}.", known, descriptions(more.target))


def of_class(prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The keys of a group that names its class."""
    target = values["_target_"]
    summary = (inspect.getdoc(pydoc.locate(target)) or "").partition("\n\n")[0] if target.startswith("emodet") else ""
    yield f"\n`{prefix}_target_`: `{target}`. {summary}\n".replace("``", "`").replace("`. \n", "`\n")
    given = {key: value for key, value in values.items() if key != "_target_"}
    if given:
        yield from table(prefix, given, descriptions(pydoc.locate(target)))


def table(prefix: str, values: Mapping[str, Any], described: Mapping[str, str]) -> Iterator[str]:
    """One row per key."""
    yield "\n| key | value in force | |\n|---|---|---|"
    for name, value in values.items():
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or "''"
        shown = shown if len(shown) < 80 else "…"
        text = described.get(name, "").replace("|", "\\|")
        yield f"| `{prefix}{name}` | `{shown}` | {text} |"


def descriptions(target: Any) -> dict[str, str]:
    """Attributes and arguments in an object's docstring, and in the docstrings that it refers to."""
    from emodet.data.sources import DataSettings

    found = described_by(target)
    if target is DataSettings:
        found = (
            described_by("emodet.data.datamodule.EmotionDataModule")
            | described_by("emodet.data.sources.Source")
            | found
        )
    mentioned = {
        name.rpartition(".")[2]: name for name in re.findall(r"`(emodet[\w.]+)`", inspect.getdoc(target) or "")
    }
    for name, text in found.items():
        if see := re.match(r"See `([\w.]+)`[.;]? ?", text):
            others = described_by(mentioned.get(see[1], see[1]))
            there = others.get(name) or (next(iter(others.values())) if len(others) == 1 else "")
            text = f"{there} {text[see.end() :]}" if there else text
        for path in re.findall(r"`(emodet\.[\w.]+\.[A-Z_]+)`", text):
            text = text.replace(f"One of `{path}`", ", ".join(f"`{each}`" for each in pydoc.locate(path)))
        found[name] = re.sub(r"\bNone\b", "null", text).strip()
    if not str(getattr(target, "__module__", "")).startswith("emodet"):  # of others, the first sentence
        found = {name: text.partition(". ")[0].rstrip(".") for name, text in found.items()}
    return found


def described_by(target: Any) -> dict[str, str]:
    """Names and descriptions in the Google-style docstrings of an object, or of the object with this path."""
    target = pydoc.locate(target) if isinstance(target, str) else target
    found: dict[str, str] = {}
    bases = reversed(target.__mro__[:-1]) if inspect.isclass(target) else (target,)
    for docstring in (
        text for base in bases for text in (base.__doc__, getattr(base, "__init__", base).__doc__) if text
    ):
        for section in griffe.Docstring(inspect.cleandoc(docstring)).parse("google", warnings=False):
            if section.kind.value in ("parameters", "attributes"):
                found |= {each.name.split(" ")[0]: " ".join(each.description.split()) for each in section.value}
    return {name: text.replace("``", "`") for name, text in found.items()}


def first_comment(file: Path) -> str:
    """The purpose of an experiment, or the comment that begins a file of a group, or else its class."""
    text = file.read_text(encoding="utf-8").removeprefix("# @package _global_\n").removeprefix("#\n")
    comment = re.match(r"(?:# (?!Command).*\n)+", text)
    if comment is None:
        return "".join(f"`{name}`" for name in re.findall(r"_target_: (.+)", text))
    text = " ".join(line.lstrip("# ") for line in comment[0].splitlines()).removeprefix("Purpose").strip()
    # In Markdown the underscores of `net._target_` would be emphasis.
    return "`".join(part if at % 2 else part.replace("_", r"\_") for at, part in enumerate(text.split("`")))
