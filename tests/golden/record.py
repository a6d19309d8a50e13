"""Record the golden results: ``OMP_NUM_THREADS=1 PYTHONPATH=.:tests python tests/golden/record.py [ITEM …]``.

The first record was made on commit abc22e5. Record an item again only where a change of it is intended, and say so in
the commit.
"""

import json
import sys
import tempfile
from pathlib import Path

import adapter


def record_readers(folder):
    cases = adapter.unpack_releases(folder)
    return {case["id"]: adapter.read_case(folder, case) for case in cases}


def record_training(folder):
    found = {}
    for name in adapter.TRAININGS:
        adapter.train(folder, name, folder / name)
        found[name] = adapter.training_figures(folder / name)
    return {"epochs": found, "export": adapter.export(folder, folder / "plain")}


ITEMS = {
    "model": lambda _: {name: adapter.model_probabilities(name) for name in ("fp32", "int8")},
    "packs": adapter.packs,
    "readers": record_readers,
    "evaluation": lambda _: {name: adapter.evaluation(name, **given) for name, given in adapter.EVALUATIONS.items()},
    "predict": adapter.predict,
    "training": record_training,
}


def main():
    for name in sys.argv[1:] or ITEMS:
        with tempfile.TemporaryDirectory() as folder:
            content = {"processor": adapter.processor(), "result": ITEMS[name](Path(folder))}
        text = json.dumps(content, separators=(",", ":"), sort_keys=True)
        # One line per entry of the result, so that a change shows in a diff.
        (adapter.HERE / f"{name}.json").write_text(text.replace("},", "},\n") + "\n")
        print(name, len(text), "bytes", flush=True)


if __name__ == "__main__":
    main()
