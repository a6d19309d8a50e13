"""Print the size of the code and its limits: python experiments/code_size.py (exit status 1 if a limit is exceeded).

Checks the lines of tracked Python files in total, and lines per file, lines per function and constructor arguments of
`emodet/`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Lower the limits whenever the code shrinks. The goal is 18,000 and 14,000.
EMODET_LINES, TESTS_LINES = 23_500, 13_950
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 350, 60, 12


def python_files(folder: str) -> list[Path]:
    """Tracked Python files below a folder of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", f"{folder}/*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def lines_of(files: list[Path]) -> int:
    """Total number of lines, including blank lines and comments."""
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def too_large(file: Path) -> Iterator[str]:
    """Yield a message for each limit that a file of `emodet/` exceeds."""
    text, name = file.read_text(encoding="utf-8"), file.relative_to(ROOT)
    if (lines := len(text.splitlines())) > FILE_LINES:
        yield f"{name}: {lines} lines (at most {FILE_LINES})"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = (node.end_lineno or node.lineno) - node.lineno + 1
        if body > FUNCTION_LINES:
            yield f"{name}:{node.lineno} {node.name}: {body} lines (at most {FUNCTION_LINES})"
        count = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - 1
        if node.name == "__init__" and count > ARGUMENTS:
            yield f"{name}:{node.lineno} __init__: {count} arguments (at most {ARGUMENTS})"


def main() -> int:
    """Print totals per package and all exceeded limits."""
    files = python_files("emodet")
    packages: dict[str, int] = {}
    for file in files:
        parts = file.relative_to(ROOT / "emodet").parts
        package = parts[0] if len(parts) > 1 else "(modules)"
        packages[package] = packages.get(package, 0) + lines_of([file])
    for package, lines in sorted(packages.items()):
        print(f"  {package:<12} {lines:>6,}")
    totals = {"emodet": (lines_of(files), EMODET_LINES), "tests": (lines_of(python_files("tests")), TESTS_LINES)}
    problems = [line for file in files for line in too_large(file)]
    for folder, (lines, limit) in totals.items():
        print(f"{folder:<14} {lines:>6,} lines (at most {limit:,})")
        if lines > limit:
            problems.append(f"{folder}: {lines:,} lines (at most {limit:,})")
    print("\n".join(problems) or "within all limits")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
