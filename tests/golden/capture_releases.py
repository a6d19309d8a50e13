"""Collect the releases that the reader tests make, as `releases.tar.xz`. Run once, on commit abc22e5.

Usage: ``python tests/golden/capture_releases.py``. It runs the tests of `tests/data` with this file as a pytest
plugin, copies each root before a reader reads it, and keeps the roots that read the same from the copy.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
CASES: list[dict] = []
SEEN: set[str] = set()
PER_TEST: Counter[str] = Counter()
MAX_FILES, MAX_BYTES, MAX_PER_TEST = 60, 40_000, 4
WORK = Path(tempfile.gettempdir()) / "captured_releases"
CURRENT = {"test": ""}


def flat_picture(number, size=48):
    import numpy as np

    return np.full((size, size, 3), (number * 37 % 256, number * 91 % 256, 120), np.uint8)


def digest(root: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(str(file.relative_to(root.parent)).encode() + file.read_bytes())
    return total.hexdigest()


def keep(reader) -> None:
    root = Path(reader.root)
    try:
        files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
        links = [path for path in (root, *root.rglob("*")) if path.is_symlink() and path.readlink().is_absolute()]
        if links or len(files) > MAX_FILES or sum(file.stat().st_size for file in files) > MAX_BYTES:
            return
        options = json.loads(json.dumps(reader.options()))
        key = digest(root, files) + reader.name + json.dumps(options)
    except (OSError, TypeError):
        return
    if key in SEEN or PER_TEST[CURRENT["test"]] >= MAX_PER_TEST:
        return
    SEEN.add(key)
    PER_TEST[CURRENT["test"]] += 1
    target = WORK / f"{len(CASES):03d}"
    target.mkdir(parents=True)
    name = "r" if root.name.startswith("test_") or not root.name.isascii() else root.name
    if root.is_file():
        shutil.copy(root, target / name)
    else:
        shutil.copytree(root, target / name, symlinks=True)
    CASES.append({"id": target.name, "root": name, "reader": reader.name, "options": options, "test": CURRENT["test"]})


def pytest_configure(config):
    sys.path.insert(0, str(HERE.parent / "data"))
    import made_reader

    from emodet.data.readers import READERS

    made_reader.picture = flat_picture
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    for reader in READERS.values():
        if "read" in vars(reader):

            def read(self, original=vars(reader)["read"]):  # noqa: B008
                if type(self).name in READERS:
                    keep(self)
                return original(self)

            reader.read = read


def pytest_runtest_setup(item):
    CURRENT["test"] = item.nodeid.split("tests/data/")[-1]


def pytest_sessionfinish(session):
    (WORK / "cases.json").write_text(json.dumps(CASES))


def anonymous(member):
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
    return member


def main() -> None:
    names = "readers release_quirks bad_input affectnet_csv affectnet_npy affectnet_plus class_folders fer2013 ferplus"
    names += " image_label_parquet labels_csv list_files own_csv yolo data_sets"
    files = [str(HERE.parent / f"data/test_{name}.py") for name in names.split()]
    arguments = ["-q", "-p", "capture_releases", "-p", "no:cacheprovider", "-m", "not slow", *files]
    subprocess.run([sys.executable, "-m", "pytest", *arguments], env={**os.environ, "PYTHONPATH": str(HERE)})
    sys.path.insert(0, str(HERE))
    import adapter

    cases, kept = json.loads((WORK / "cases.json").read_text()), Counter()
    for case in list(cases):
        # Many tests read one release in several forms: keep two roots of each result, and two refusals of each test.
        result = adapter.read_case(WORK, case)
        function = case.pop("test").partition("[")[0]
        key = (case["reader"], function) if "error" in result else (case["reader"], json.dumps(result))
        kept[key] += 1
        if kept[key] > 2:
            cases.remove(case)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz", preset=9) as tar:
        for case in cases:
            tar.add(WORK / case["id"], case["id"], filter=anonymous)
    (HERE / "releases.tar.xz").write_bytes(stream.getvalue())
    (HERE / "releases.json").write_text(json.dumps(cases, separators=(",", ":")).replace("},", "},\n") + "\n")
    print(len(cases), "roots,", len(stream.getvalue()), "bytes")


if __name__ == "__main__":
    main()
