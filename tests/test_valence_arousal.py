"""Valence and arousal beside the classes: head, masked loss, metrics; from a training to the recognizer."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_classifiers import NAMES, RESIDUAL, MadeData, made_batch, made_trainer
from made_classifiers import made as made_classifier
from made_commands import TINY
from made_files import csv_rows
from made_releases import as_affectnet_csv

from emodet import Recognizer
from emodet.emotions import EMOTIONS
from emodet.modelfile import read_model_file
from emodet.models.agreement import AGREEMENTS, DIMENSIONS, agreement_names, agreement_terms, concordance
from emodet.models.losses import ConcordanceLoss
from emodet.models.metrics import lower_is_better, monitored_names
from emodet.synthetic.faces import draw_face
from emodet.synthetic.releases import write_release
from emodet.training.checkpoints import load_classifier
from emodet.training.folder import RunFolder

NET = {"_target_": RESIDUAL, "channels": [4, 4], "stage_dropout": [0.0, 0.0], "features": 8, "head_dropout": 0.0}


def made(**settings):
    return made_classifier(**{"net": NET, "valence_arousal": 0.5, **settings})


def batch(faces, seed=0, annotated=0.7):
    return made_batch(faces, seed, annotated=annotated)


def sums_of(predicted, annotated):
    return np.asarray(agreement_terms(predicted, annotated).sum(axis=0))


def lacking(predicted, annotated):
    """1 - CCC, the mean over both dimensions, by numpy."""
    return float(1 - concordance(sums_of(predicted.numpy(), annotated.numpy())).mean())


def test_the_head_adds_130_parameters_to_the_published_net():
    values = {"net": {"_target_": RESIDUAL}, "class_names": list(EMOTIONS)}
    nets = {weight: made(**values, valence_arousal=weight) for weight in (None, 0, 1.0)}
    sizes = [sum(parameter.numel() for parameter in each.net.parameters()) for each in nets.values()]
    assert sizes == [1_976_072, 1_976_072, 1_976_072 + 2 * (64 + 1)]
    assert [each.has_va_head for each in nets.values()] == [False, False, True]


def test_logits_are_the_first_outputs_and_the_last_two_are_bounded():
    classifier = made().eval()
    image = batch(5)["image"]
    with torch.no_grad():
        classifier.net.head[-1].weight.mul_(100)
        outputs = classifier.net(classifier.normalise(image))
        logits, predicted = classifier.predict_heads(image)
    assert (logits.shape, predicted.shape, predicted.dtype) == ((5, 4), (5, 2), torch.float32)
    torch.testing.assert_close(logits, outputs[:, :4])
    torch.testing.assert_close(predicted, torch.tanh(outputs[:, 4:]))
    torch.testing.assert_close(classifier(image), logits)
    torch.testing.assert_close(classifier.probabilities(image), logits.softmax(dim=1))


# The measures at their limits; the golden results hold them for ordinary predictions.

RISING = np.linspace(-1, 1, 5)


@pytest.mark.parametrize(
    ("measure", "predicted", "annotated", "value"),
    [
        *((name, [], [], np.nan) for name in AGREEMENTS),
        ("ccc", [0.3] * 5, [0.3] * 5, np.nan),
        ("ccc", [0.3] * 5, [0.5] * 5, 0),
        ("ccc", [0.3] * 5, RISING, 0),
        *(("ccc", [0.5], [0.1], 0), ("rmse", [0.5], [0.1], 0.4)),
        ("sagr", [0.0, 0.2, 0.0, -0.1], [0.0, 0.0, -0.5, -0.9], 0.5),  # a zero agrees with a zero alone
    ],
)
def test_measures_without_spread_or_without_faces(measure, predicted, annotated, value):
    found = AGREEMENTS[measure](sums_of(np.array(predicted), np.array(annotated)))
    assert found == pytest.approx(value, abs=1e-12, nan_ok=True)


def test_the_loss_is_one_minus_the_concordance():
    annotated = batch(60)["valence_arousal"]
    predicted = torch.tanh(annotated.nan_to_num() + torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) / 3)
    assert float(ConcordanceLoss()(predicted, annotated)) == pytest.approx(lacking(predicted, annotated), abs=1e-4)
    assert float(ConcordanceLoss()(annotated.nan_to_num(), annotated)) == pytest.approx(0, abs=1e-4)


FACES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 12), st.just(4)), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)


@given(FACES, st.data())
def test_the_loss_is_bounded_finite_and_ignores_faces_without_annotation(values, data):
    known = torch.from_numpy(data.draw(arrays.arrays(np.bool_, (len(values), 2))))
    predicted = torch.from_numpy(values[:, :2]).requires_grad_()
    annotated = torch.where(known, torch.from_numpy(values[:, 2:]), torch.nan)
    loss = ConcordanceLoss()(predicted, annotated)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert -1e-5 <= loss.item() <= 2 + 1e-5
    assert gradient.isfinite().all()
    assert (gradient[~known] == 0).all()
    others = torch.where(known, predicted.detach(), 0.9)
    torch.testing.assert_close(ConcordanceLoss()(others, annotated), loss.detach(), rtol=0, atol=1e-6)
    if not known.any():
        assert loss.item() == 0


def test_measures_can_be_monitored_and_only_errors_are_minimised():
    plain, both = monitored_names(NAMES), monitored_names(NAMES, valence_arousal=True)
    assert both == [*plain, *(f"val/{name}" for name in agreement_names())]
    lower = [name for name in both if lower_is_better(name)]
    assert lower == [f"val/{name}" for name in ("loss", "calibration_error", "nll", "rmse_valence", "rmse_arousal")]


def heads_and_targets(classifier, batches):
    """Logits, predicted valence and arousal, and what both are compared to, of all faces."""
    with torch.no_grad():
        heads = [classifier.predict_heads(each["image"]) for each in batches]
    columns = [[each[key] for each in batches] for key in ("target", "valence_arousal")]
    return [torch.cat(parts) for parts in (*zip(*heads, strict=True), *columns)]


def test_a_training_minimises_and_logs_both_losses(tmp_path):
    classifier, data = made(), MadeData([batch(16)], [batch(8, 10), batch(5, 11)])
    logits, predicted, target, annotated = heads_and_targets(made().train(), data.train)
    first_step = float(F.cross_entropy(logits, target)) + 0.5 * lacking(predicted, annotated)
    run = made_trainer(tmp_path, num_sanity_val_steps=1)
    run.fit(classifier, data)
    assert float(run.callback_metrics["train/loss"]) == pytest.approx(first_step, abs=1e-4)
    moved = (classifier.net.head[-1].weight - made().net.head[-1].weight).abs().amax(dim=1)
    assert (moved > 1e-5).all()
    logits, predicted, target, annotated = heads_and_targets(classifier.eval(), data.val)
    expected = concordance(sums_of(predicted.numpy(), annotated.numpy())).tolist()
    logged = run.callback_metrics
    assert [float(logged[f"val/ccc_{name}"]) for name in DIMENSIONS] == pytest.approx(expected, abs=1e-6)
    loss = float(F.cross_entropy(logits, target)) + 0.5 * lacking(predicted, annotated)
    assert float(logged["val/loss"]) == pytest.approx(loss, abs=1e-4)
    run.test(classifier, data, verbose=False)
    assert float(run.callback_metrics["test/ccc_valence"]) == pytest.approx(expected[0], abs=1e-6)


def test_without_any_annotation_the_head_gets_no_gradient(tmp_path):
    classifier, data = made(), MadeData([batch(8, annotated=0)], [batch(6, 1, annotated=0)])
    before = classifier.net.head[-1].weight.detach().clone()
    run = made_trainer(tmp_path)
    run.fit(classifier, data)
    after = classifier.net.head[-1].weight.detach()
    torch.testing.assert_close(after[4:], before[4:], rtol=0, atol=0)
    assert not torch.equal(after[:4], before[:4])
    assert run.callback_metrics["val/loss"].isfinite()
    assert not [name for name in run.callback_metrics if "ccc" in name]


# From a training to the recognizer.

SMALL = [
    *(*TINY, "data.batch_size=12", "trainer.max_epochs=2", "logger=csv"),
    *("trainer.precision=32-true", "callbacks=[default]", "optimizer.lr=0.02"),
]


@pytest.fixture(scope="module")
def annotated(own_folders):
    """Drawn faces as AffectNet of 2017, with valence and arousal; some rows are uncertain or no faces, with -2."""
    drawn = write_release(own_folders / "drawn", {"train": 96, "val": 24}, size=48)
    return as_affectnet_csv(drawn, own_folders / "annotated")


@pytest.fixture(scope="module")
def run(train_once, annotated, tmp_path_factory):
    """A run of two epochs, chosen by the concordance of valence."""
    folder = tmp_path_factory.mktemp("run") / "both"
    arguments = (f"data.root={annotated}", *SMALL, "training.monitor=val/ccc_valence", f"hydra.run.dir={folder}")
    train_once("experiment=affectnet_va", *arguments)
    return folder


@pytest.fixture(scope="module")
def model_file(command, run):
    assert command("emodet.export", f"checkpoint={run}", "formats=[fp32]", "threads=1") == 0
    return run / "export" / "emodet-fp32.onnx"


def test_a_run_selects_by_concordance(run):
    rows = csv_rows(run / "metrics.csv", empty=False)
    logged = [float(row["val/ccc_valence"]) for row in rows if "val/ccc_valence" in row]
    assert len(logged) == 2
    assert len(set(logged)) == 2
    facts = RunFolder(run).facts()
    assert facts["selected"]["metric"] == "val/ccc_valence"
    assert facts["selected"]["value"] == pytest.approx(max(logged), abs=1e-6)
    for split in ("val", "test"):
        assert {"ccc_arousal", "rmse_valence", "sagr_arousal"} <= set(facts["results"][split])
    # The best epoch's figure again, from its checkpoint: the same faces, the same sums.
    assert facts["results"]["val"]["ccc_valence"]["value"] == pytest.approx(max(logged), abs=1e-4)
    assert load_classifier(run / "checkpoints/best.ckpt").has_va_head


@pytest.mark.usefixtures("plain_figures")
def test_a_model_file_has_the_scores_of_its_checkpoint(output, run, model_file, annotated, tmp_path):
    info = read_model_file(model_file).info
    assert info.outputs == ("probabilities", "valence_arousal")
    facts = RunFolder(run).facts()
    for split, title in facts["splits"].items():
        known = facts["results"][split]["ccc_valence"]["value"]
        assert info.metrics[title]["ccc_valence"] == pytest.approx(known, abs=1e-4)
    report = json.loads((run / "export" / "emodet-parity.json").read_text())
    beside = [check for check in report["checks"] if "valence or arousal" in check["what"]]
    assert [(check["file"], check["verdict"]) for check in beside] == [("fp32", "passed")]
    data = ("data=affectnet", f"data.root={annotated}", "data.num_workers=0", "resamples=50", "errors=0")
    assert "valence" in output("emodet.evaluate", f"model={model_file}", *data, f"output={tmp_path}/report")
    measured = json.loads((tmp_path / "report" / "report.json").read_text())["metrics"]
    for name in ("ccc_valence", "rmse_arousal", "accuracy"):
        assert measured[name]["value"] == pytest.approx(facts["results"]["test"][name]["value"], abs=1e-4)
    assert measured["rmse_arousal"]["low"] < measured["rmse_arousal"]["value"] < measured["rmse_arousal"]["high"]
    assert (tmp_path / "report" / "valence_arousal.png").is_file()


def test_a_recognizer_predicts_as_the_checkpoint(run, model_file):
    classifier = load_classifier(run / "checkpoints/best.ckpt")
    recognizer = Recognizer(model_file, detector="none")
    found = []
    for emotion in ("happiness", "sadness", "surprise"):
        picture = draw_face(emotion, 1, 96).image
        (face,) = recognizer(picture)
        with torch.inference_mode():
            _, predicted = classifier.predict_heads(torch.from_numpy(classifier.preprocessing.crop(picture)[None]))
        assert (face.valence, face.arousal) == pytest.approx(tuple(predicted[0].tolist()), abs=1e-4)
        found.append((face.valence, face.arousal))
    assert np.ptp(np.array(found), axis=0).min() > 1e-3  # the faces are told apart at all


def test_data_without_annotations_are_refused(refused, small, tmp_path):
    own = ["experiment=affectnet_yolo", *small, "logger=csv", f"hydra.run.dir={tmp_path}"]
    error = refused("emodet.train", *own, "training.valence_arousal=1")
    assert "training.valence_arousal=1: none of the 72 training faces (drawn faces" in error
    assert not (tmp_path / "checkpoints").exists()
