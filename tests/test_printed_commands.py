"""Every command line that the documentation, a help text or a message prints parses: keys, choices, options, values."""

import argparse
import ast
import re
import shlex
import sys
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType

import lightning
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.loggers import CSVLogger

from emodet.__main__ import COMMANDS
from emodet.command_line import SCHEMAS, accepted, help_text

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments").rglob("*.md")]
PAGES += [*ROOT.glob("*.md"), *(ROOT / "emodet").rglob("*.md")]
LINE = re.compile(rf"(?:-m emodet[. ]|\bemodet )({'|'.join(COMMANDS)}) (?!needs)([^\n`…|]+)")


def commands_in(text):
    """Pairs of a command and its arguments, which a comment or two spaces end."""
    text = re.sub(r" *\\\n[# ]*", " ", text)
    return [(name, re.split(r" {2}| #", rest)[0].strip()) for name, rest in LINE.findall(text)]


def code_of(page):
    """The fenced blocks and inline code of a Markdown file."""
    text = page.read_text(encoding="utf-8")
    return "\n".join(chain(re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S), re.findall(r"`([^`\n]+)`", text)))


def printed_by(file):
    """The strings of a module but for its functions' docstrings, with X for what is formatted into them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    hidden = {id(node.body[0].value) for node in documented if isinstance(node.body[0], ast.Expr)}
    hidden |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}

    def text(node):
        if isinstance(node, ast.JoinedStr):
            return "".join(map(text, node.values))
        if isinstance(node, ast.FormattedValue):
            name = re.fullmatch(r"named\('(\w+)'\)", ast.unparse(node.value))
            return f"python -m emodet.{name[1]}" if name else "X"
        return str(getattr(node, "value", ""))

    strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.Constant)]
    return "\n".join(text(node) for node in strings if id(node) not in hidden)


def printed():
    found = [(page, code_of(page)) for page in PAGES]
    prose = [(file, printed_by(file)) for file in (ROOT / "emodet").rglob("*.py")]
    prose += [(file, file.read_text(encoding="utf-8")) for file in (ROOT / "conf").glob("*.yaml")]
    found += [(file, re.sub(r"[,;]( .*|$)", "", text, flags=re.M)) for file, text in prose]
    # X alone: all arguments are computed when the command is printed.
    lines = {(name, rest): file for file, text in found for name, rest in commands_in(text) if rest != "X"}
    lines = {line: file for line, file in lines.items() if "NAME" not in line[1]}
    return [pytest.param(*line, id=f"{file.name}: {' '.join(line)}") for line, file in sorted(lines.items())]


@pytest.fixture(autouse=True)
def a_package_of_ones_own(monkeypatch):
    mylab = ModuleType("mylab")
    for name, base in (("MyNet", torch.nn.Module), ("MyLoss", torch.nn.Module), ("MyLogger", CSVLogger)):
        setattr(mylab, name, type(name, (base,), {}))
    for name, base in (("MyCallback", lightning.Callback), ("MyTransform", object)):
        setattr(mylab, name, type(name, (base,), {}))
    monkeypatch.setitem(sys.modules, "mylab", mylab)
    monkeypatch.chdir(ROOT)
    yield
    HydraConfig.instance().cfg = None


def test_commands_are_found():
    assert len(printed()) > 80
    assert commands_in("$ emodet predict a.jpg \\\n   --rows csv   # rows\n") == [("predict", "a.jpg --rows csv")]


@pytest.mark.parametrize(("name", "arguments"), printed())
def test_a_printed_command_parses(name, arguments, monkeypatch):
    typed = shlex.split(arguments)
    if name in SCHEMAS:
        flags = ("-m", "--multirun", "--help")
        sweeps = any(flag in typed for flag in flags[:2])
        typed = accepted(name, [each for each in typed if each not in flags[2:]])
        # A resumed run brings its experiment.
        typed = ["experiment=baseline" if each.startswith("resume=") else each for each in typed if each not in flags]
        assert all("=" in each for each in typed if each not in ("--config-dir", "experiments/ferplus/conf"))
        assert help_text(name, "", [first_of(each) for each in typed] if sweeps else typed)
        return

    class ParsedError(Exception):
        """Raised after parsing, so that nothing runs."""

    def parse(parser, *given):
        real(parser, *given)
        raise ParsedError

    real = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    main = import_module("emodet.app.__main__" if name == "app" else f"emodet.{name}").main
    with pytest.raises(SystemExit if "--help" in typed else ParsedError) as stop:
        main(typed)
    assert getattr(stop.value, "code", 0) == 0


def first_of(argument):
    """An argument of a sweep with the first of its values."""
    if argument.startswith("-") or "=" not in argument:
        return argument
    (override,) = OverridesParser.create().parse_overrides([argument])
    if not override.is_sweep_override():
        return argument
    return f"{override.key_or_group}={next(override.sweep_string_iterator())}"
