"""Who may import whom: recognition stays light, training stays out of it, and packages keep their order."""

import ast
import json
from pathlib import Path

import pytest
from made_commands import python

import emodet

PACKAGE = Path(emodet.__file__).parent

HEAVY = (
    *("torch", "torchvision", "lightning", "pytorch_lightning", "torchmetrics", "timm"),
    *("hydra", "omegaconf", "wandb", "albumentations", "matplotlib", "pyarrow", "pandas", "scipy"),
    *("onnx", "onnxscript"),
)
"""What the light install leaves out, or a user who recognises faces should not wait for."""

LIGHT_NAMES = (
    *("arrays", "errors", "installation", "files", "cpu", "emotions", "palette", "preprocessing", "images"),
    *("onnx_session", "modelinfo", "modelfile"),
)
LIGHT = ("emodet", *(f"emodet.{name}" for name in LIGHT_NAMES))
# Imported inside the one function that needs it: to write a model file, to write rows as Parquet, to make a data frame.
DEFERRED = {
    "emodet.modelfile": {"onnx"},
    "emodet.inference.rows": {"pyarrow"},
    "emodet.inference.sources": {"pyarrow"},
    "emodet.inference.bulk": {"pyarrow", "ray"},
    "emodet.inference.result": {"pandas"},
    "emodet.doctor": {"torch"},
}
# Packing cuts faces out of photographs with the detector of live recognition: a second search would be a second
# definition of where a face is. It imports that door where it is used, so that nobody else waits for it.
DETECTING = {"emodet.data.crop_pool": {"emodet.inference.detectors"}}
BUILDING = ("emodet.models.build", "hydra")
COMMANDS = (
    *(f"emodet.{name}" for name in ("prepare", "train", "evaluate", "audit", "compare")),
    "emodet.export.__main__",
)
LABORATORY = tuple(
    f"emodet.{name}"
    for name in (
        *("datasets", "synthetic", "data", "auditing", "models", "evaluation", "export", "training", "sweeps"),
        *("commands", "command_line", "config", "schema", "laboratory"),
    )
)
USER = ("emodet.inference", "emodet.predict", "emodet.app", "emodet.demo", "emodet.doctor")


def modules():
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


def within(name, rooms):
    return any(name == room or name.startswith(room + ".") for room in rooms)


def imported(file, *, deferred):
    """Names of modules that a file imports when it is loaded; with `deferred` also inside its functions."""

    def skipped(node):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        return (is_function and not deferred) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )

    def names(node):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports are not used here"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (each if each in MODULES else node.module for each in whole)
        elif not skipped(node):
            for child in ast.iter_child_nodes(node):
                yield from names(child)

    return set(names(ast.parse(file.read_text(encoding="utf-8"))))


def in_a_fresh_interpreter(names):
    """Every module that is loaded after importing these."""
    code = f"import sys, json\nfor name in {names!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing():
    loaded = in_a_fresh_interpreter(["emodet"])
    assert {name for name in loaded if name.startswith("emodet")} == {"emodet"}
    loaded |= in_a_fresh_interpreter(["emodet.data", "emodet.evaluation", "emodet.models", "emodet.training"])
    assert not loaded & {"numpy", "cv2", "onnxruntime", "PIL", *HEAVY}
    assert not any(within(name, USER) for name in loaded)


def test_the_runtime_loads_nothing_of_the_laboratory():
    names = [name for name in MODULES if within(name, USER) or name in LIGHT]
    assert len(names) > 15
    loaded = in_a_fresh_interpreter(names)
    assert not loaded & set(HEAVY)
    assert not [name for name in loaded if within(name, (*LABORATORY, *COMMANDS))]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("emodet.")])
def test_rooms(name):
    """Also what is only imported inside a function."""
    ours = {it for it in imported(MODULES[name], deferred=True) if it.split(".")[0] == "emodet"}
    foreign = {it.split(".")[0] for it in imported(MODULES[name], deferred=True)}
    if name in LIGHT:
        assert not [it for it in ours if it not in LIGHT]
        assert not foreign & set(HEAVY) - DEFERRED.get(name, set())
    elif within(name, USER):
        assert not [it for it in ours if within(it, (*LABORATORY, *COMMANDS))]
        assert not foreign & set(HEAVY) - DEFERRED.get(name, set())
    elif name in COMMANDS:
        assert not [it for it in ours if it in COMMANDS and it != name]
    elif within(name, LABORATORY):
        allowed = DETECTING.get(name, set())
        assert not imported(MODULES[name], deferred=False) & allowed
        assert not [it for it in ours if within(it, (*USER, *COMMANDS)) and it not in allowed]


@pytest.mark.parametrize(
    ("rooms", "unknown"),
    [
        # They are built by the commands; only those and the runs know the configuration.
        (("data", "models", "evaluation"), ("emodet.training", "emodet.commands", "emodet.config", "emodet.schema")),
        (("data", "models", "evaluation"), ("hydra", "omegaconf")),
        (("datasets", "data"), ("emodet.synthetic",)),
    ],
)
def test_what_lower_rooms_do_not_know(rooms, unknown):
    for name, file in MODULES.items():
        # That module instantiates what the user names by `_target_`.
        if within(name, tuple(f"emodet.{room}" for room in rooms)) and (name, unknown[0]) != BUILDING:
            assert not [it for it in imported(file, deferred=True) if within(it, unknown)], name


def test_no_circles():
    """Imports at the top of files form no circle."""
    graph = {name: imported(file, deferred=False) & set(MODULES) - {name} for name, file in MODULES.items()}
    done = set()

    def visit(name, path):
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_rooms_without_a_reason_and_wandb_only_where_it_is_used():
    """A file is named after the one reason it changes for."""
    names = {part for name in MODULES for part in name.split(".")}
    assert not names & {"utils", "util", "helpers", "common", "components", "misc"}
    # It takes seconds, for those who do not log there.
    assert not [
        name for name, file in MODULES.items() if "wandb" in {it.split(".")[0] for it in imported(file, deferred=False)}
    ]


@pytest.mark.slow
@pytest.mark.skipif(not (PACKAGE.parent / ".git").exists(), reason="not a git checkout")
def test_code_is_within_its_limits():
    done = python(PACKAGE.parent / "experiments" / "code_size.py")
    assert done.returncode == 0, done.stdout + done.stderr
