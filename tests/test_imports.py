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


def ours(*names):
    return tuple(f"emodet.{name}" for name in names)


LIGHT = ours(
    *("arrays", "errors", "installation", "files", "cpu", "emotions", "palette", "preprocessing", "images"),
    *("onnx_session", "modelinfo", "modelfile"),
)
USER = ours("inference", "predict", "app", "demo", "doctor")
COMMANDS = ours("prepare", "train", "evaluate", "audit", "compare", "export.__main__")
LABORATORY = ours(
    *("datasets", "synthetic", "data", "auditing", "models", "evaluation", "export", "training", "sweeps"),
    *("commands", "command_line", "config", "schema", "laboratory"),
)


def modules():
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES = modules()


RULES = [
    # Packages and modules, and what they never import.
    (LIGHT, (*HEAVY, *(name for name in MODULES if name not in ("emodet", *LIGHT)))),
    (USER, (*HEAVY, *LABORATORY, *COMMANDS)),
    (LABORATORY, (*USER, *COMMANDS)),
    *(((name,), tuple(other for other in COMMANDS if other != name)) for name in COMMANDS),
    # They are built by the commands; only those and the runs know the configuration.
    (ours("data", "models", "evaluation"), (*ours("training", "commands", "config", "schema"), "hydra", "omegaconf")),
    (ours("datasets", "data"), ours("synthetic")),
]
# Exceptions: imported inside the one function that needs it, so that nobody else waits for it.
DEFERRED = {
    "emodet.modelfile": ("onnx",),
    "emodet.inference.rows": ("pyarrow",),
    "emodet.inference.sources": ("pyarrow",),
    "emodet.inference.bulk": ("pyarrow", "ray"),
    "emodet.inference.result": ("pandas",),
    "emodet.doctor": ("torch",),
    # Packing cuts faces out of photographs with the detector of live recognition.
    "emodet.data.crop_pool": ("emodet.inference.detectors",),
    # Instantiates what the user names by `_target_`.
    "emodet.models.build": ("hydra",),
}


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
    return set(json.loads(python("-c", code, check=True).stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing():
    loaded = in_a_fresh_interpreter(["emodet"])
    assert {name for name in loaded if name.startswith("emodet")} == {"emodet"}
    loaded |= in_a_fresh_interpreter(["emodet.data", "emodet.evaluation", "emodet.models", "emodet.training"])
    assert not loaded & {"numpy", "cv2", "onnxruntime", "PIL", *HEAVY}
    assert not any(within(name, USER) for name in loaded)


def test_recognition_loads_nothing_of_training():
    names = [name for name in MODULES if within(name, (*USER, *LIGHT))]
    assert len(names) > 15
    loaded = in_a_fresh_interpreter(names)
    assert not loaded & set(HEAVY)
    assert not [name for name in loaded if within(name, (*LABORATORY, *COMMANDS))]


@pytest.mark.parametrize("name", MODULES)
def test_packages_import_only_what_they_may(name):
    """Also inside functions."""
    own = DEFERRED.get(name, ())
    found = {it for it in imported(MODULES[name], deferred=True) if not within(it, own)}
    for rooms, unknown in RULES:
        if within(name, rooms) and not (rooms is LABORATORY and name in COMMANDS):
            assert not {it for it in found if within(it, unknown)}
    assert not {it for it in imported(MODULES[name], deferred=False) if within(it, own)}


def test_imports_at_the_top_of_files_form_no_circle():
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


def test_no_utils_and_wandb_only_where_it_is_used():
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
