"""Compare emodet with the results of commit abc22e5: packs, readers, figures, model files, rows, training.

`adapter.py` runs each item, and wrote the JSON files.
"""

import functools
import json

import adapter
import pytest

EXACT, FLOAT32 = 1e-9, 1e-6
OTHER_PROCESSOR = 2e-2  # of a probability or a loss where int8 kernels or summation orders differ


def golden(name):
    content = json.loads((adapter.HERE / f"{name}.json").read_text())
    return content["result"], content["processor"] == adapter.processor()


def leaves(value, where=""):
    """Paths and values of what is nested, tuples as lists."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    if not parts:
        yield where, value
    for key, part in parts:
        yield from leaves(part, f"{where}/{key}")


def assert_equal(found, expected, tolerance=EXACT):
    """Equal keys, lengths and values; numbers may differ by `tolerance`."""
    near = functools.partial(pytest.approx, rel=0, abs=tolerance)
    assert dict(leaves(found)) == {at: near(it) if isinstance(it, float) else it for at, it in leaves(expected)}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_model_file_probabilities(precision):
    expected, same_processor = golden("model")
    tolerance = FLOAT32 if same_processor else {"fp32": 1e-5, "int8": OTHER_PROCESSOR}[precision]
    assert_equal(adapter.model_probabilities(precision), expected[precision], tolerance)


def test_packs(tmp_path):
    """`release` differs where drawing or writing changed; `pixels` and `fingerprint` alone where packing did."""
    assert_equal(adapter.packs(tmp_path), golden("packs")[0])


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    return folder, adapter.unpack_releases(folder)


READERS = sorted({case["reader"] for case in json.loads((adapter.HERE / "releases.json").read_text())})


@pytest.mark.parametrize("reader", READERS)
def test_readers(cases, reader):
    """To look at the release of a case: ``tar -xJf releases.tar.xz ID``; most say in `releases.json` what they show."""
    folder, every = cases
    expected, own = golden("readers")[0], [case for case in every if case["reader"] == reader]
    found = {case["id"]: adapter.read_case(folder, case) for case in own}
    assert_equal(found, {case["id"]: expected[case["id"]] for case in own})


@pytest.mark.parametrize("name", adapter.EVALUATIONS)
def test_report_figures(name):
    assert_equal(adapter.evaluation(name), golden("evaluation")[0][name])


@pytest.mark.slow
def test_predict_rows(tmp_path):
    """Boxes may move by a tenth of a pixel, where the same processor runs the same decoder."""
    expected, same_processor = golden("predict")
    found, wide = adapter.predict(tmp_path), 1 if same_processor else 10
    exact = ("file", "frame", "face", "track_id", "emotion", "time_s")
    for keys, tolerance in ((exact, EXACT), (("p", "score"), 2e-3 * wide), (("box", "landmarks"), 0.11 * wide)):
        for name in expected:
            assert_equal(
                *([{k: row[k] for k in keys} for row in every[name]] for every in (found, expected)), tolerance
            )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in adapter.TRAININGS:
        adapter.train(folder, name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", adapter.TRAININGS)
def test_training_losses(runs, name):
    expected, same_processor = golden("training")
    found, expected = adapter.training_figures(runs / name), expected["epochs"][name]
    if not same_processor:  # small differences change single answers: compare the losses alone
        found, expected = (
            {k: {m: v for m, v in row.items() if "loss" in m} for k, row in e.items()} for e in (found, expected)
        )
    assert_equal(found, expected, FLOAT32 if same_processor else OTHER_PROCESSOR)


@pytest.mark.slow
def test_export_parity(runs):
    expected, same_processor = golden("training")
    assert_equal(adapter.export(runs, runs / "plain"), expected["export"], 1e-5 if same_processor else OTHER_PROCESSOR)
