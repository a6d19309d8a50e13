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
from emodet.models.agreement import (
    AGREEMENTS,
    TERMS,
    agreement_names,
    agreement_terms,
    concordance,
    rmse,
    sign_agreement,
)
from emodet.models.losses import ConcordanceLoss
from emodet.models.metrics import lower_is_better, monitored_names
from emodet.models.nets import split_outputs
from emodet.synthetic.faces import draw_face
from emodet.synthetic.releases import write_release
from emodet.training.checkpoints import load_classifier
from emodet.training.folder import RunFolder

NET = {"_target_": RESIDUAL, "channels": [4, 4], "stage_dropout": [0.0, 0.0], "features": 8, "head_dropout": 0.0}


def made(**settings):
    return made_classifier(**{"net": NET, "valence_arousal": 0.5, **settings})


def batch(faces, seed=0, annotated=0.7):
    return made_batch(faces, seed, annotated=annotated)


def lacking(said, annotated):
    """1 - CCC, the mean over both dimensions, by numpy."""
    sums = agreement_terms(said.numpy(), annotated.numpy()).sum(axis=0)
    return float(1 - concordance(sums).mean())


# The head.


def test_the_published_net_is_untouched_and_the_head_is_130_parameters_more():
    values = {"net": {"_target_": RESIDUAL}, "class_names": list(EMOTIONS)}
    plain, both = made(**values, valence_arousal=None), made(**values, valence_arousal=1.0)
    running = [name for name in plain.net.state_dict() if "num_batches" not in name]
    assert sum(plain.net.state_dict()[name].numel() for name in running) == 1_979_080
    assert sum(both.net.state_dict()[name].numel() for name in running) == 1_979_080 + 2 * (64 + 1)
    assert list(plain.state_dict()) == list(both.state_dict())
    assert not plain.has_va_head
    assert made(**values, valence_arousal=0).net.head[-1].out_features == 8


def test_logits_are_the_first_outputs_and_the_last_two_are_bounded():
    classifier = made().eval()
    image = batch(5)["image"]
    with torch.no_grad():
        classifier.net.head[-1].weight.mul_(100)
        outputs = classifier.net(classifier.normalise(image))
        logits, said = classifier.predict_heads(image)
    assert (logits.shape, said.shape, said.dtype) == ((5, 4), (5, 2), torch.float32)
    torch.testing.assert_close(logits, outputs[:, :4])
    torch.testing.assert_close(said, torch.tanh(outputs[:, 4:]))
    assert said.abs().max() <= 1
    torch.testing.assert_close(classifier(image), logits)
    torch.testing.assert_close(classifier.probabilities(image), logits.softmax(dim=1))


# Concordance, error and signs from sums: whatever is masked, however faces are shared out.

VALUES = st.floats(-1, 1, allow_nan=False, width=32)
PAIRS = arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=VALUES)


def sums(said, annotated):
    return np.asarray(agreement_terms(said, annotated).sum(axis=0))


@given(PAIRS, st.data())
def test_a_face_without_annotation_counts_nowhere(pairs, data):
    known = data.draw(arrays.arrays(np.bool_, len(pairs)))
    annotated = np.where(known, pairs[:, 1], np.nan)
    found = sums(pairs[:, 0], annotated)
    np.testing.assert_array_equal(found, sums(np.where(known, pairs[:, 0], 0.77), annotated))
    np.testing.assert_allclose(found, sums(pairs[known, 0], pairs[known, 1]), atol=1e-12)
    assert found[0] == known.sum()


def test_what_is_not_defined_is_not_a_number_and_a_zero_agrees_with_a_zero_alone():
    nothing = np.zeros(len(TERMS))
    assert all(np.isnan(measure(nothing)) for measure in AGREEMENTS.values())
    same = np.full(5, 0.3)
    assert np.isnan(concordance(sums(same, same)))
    assert concordance(sums(same, np.linspace(-1, 1, 5))) == pytest.approx(0, abs=1e-12)
    assert concordance(sums(same, same + 0.2)) == pytest.approx(0, abs=1e-12)
    # One face: a difference, but nothing that could go together.
    assert concordance(sums(np.array([0.5]), np.array([0.1]))) == 0
    assert rmse(sums(np.array([0.5]), np.array([0.1]))) == pytest.approx(0.4)
    said, annotated = np.array([0.0, 0.2, 0.0, -0.1]), np.array([0.0, 0.0, -0.5, -0.9])
    assert sign_agreement(sums(said, annotated)) == 0.5


# The loss.


def test_the_loss_lacks_what_the_concordance_has():
    annotated = batch(60)["valence_arousal"]
    said = torch.tanh(annotated.nan_to_num() + torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) / 3)
    assert float(ConcordanceLoss()(said, annotated)) == pytest.approx(lacking(said, annotated), abs=1e-4)
    assert float(ConcordanceLoss()(annotated.nan_to_num(), annotated)) == pytest.approx(0, abs=1e-4)


FACES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 12), st.just(4)), elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)


@given(FACES, st.data())
def test_it_is_bounded_finite_and_blind_to_faces_without_annotation(values, data):
    known = torch.from_numpy(data.draw(arrays.arrays(np.bool_, (len(values), 2))))
    said = torch.from_numpy(values[:, :2]).requires_grad_()
    annotated = torch.where(known, torch.from_numpy(values[:, 2:]), torch.nan)
    loss = ConcordanceLoss()(said, annotated)
    (gradient,) = torch.autograd.grad(loss, said)
    assert -1e-5 <= loss.item() <= 2 + 1e-5
    assert gradient.isfinite().all()
    assert (gradient[~known] == 0).all()
    others = torch.where(known, said.detach(), 0.9)
    torch.testing.assert_close(ConcordanceLoss()(others, annotated), loss.detach(), rtol=0, atol=1e-6)
    if not known.any():
        assert loss.item() == 0


@pytest.mark.parametrize("faces", [1, 2, 8])
def test_constant_predictions_and_lone_faces_pull_nowhere_wild(faces):
    for target in (torch.full((faces, 2), 0.5), torch.linspace(-0.8, 0.8, faces)[:, None].repeat(1, 2)):
        said = torch.full((faces, 2), 0.5, requires_grad=True)
        loss = ConcordanceLoss()(said, target)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(1, abs=1e-5)
        assert said.grad.isfinite().all()
        assert said.grad.abs().max() < 10


# The metrics.


def test_which_of_them_can_be_followed_and_which_way_is_better():
    plain, both = monitored_names(NAMES), monitored_names(NAMES, valence_arousal=True)
    assert both == [*plain, *(f"val/{name}" for name in agreement_names())]
    lower = [name for name in both if lower_is_better(name)]
    assert lower == [f"val/{name}" for name in ("loss", "calibration_error", "nll", "rmse_valence", "rmse_arousal")]


def test_a_training_follows_both(tmp_path):
    classifier, data = made(), MadeData([batch(16)], [batch(8, 10), batch(5, 11)])
    part = data.train[0]
    run = made_trainer(tmp_path, num_sanity_val_steps=1)
    start = made().train()
    logits, said = split_outputs(start.net(start.normalise(part["image"])), 4, has_va_head=True)
    loss = F.cross_entropy(logits, part["target"]) + 0.5 * ConcordanceLoss()(said, part["valence_arousal"])
    (gradient,) = torch.autograd.grad(loss, start.net.head[-1].weight)
    run.fit(classifier, data)
    # The step goes down both losses.
    moved = (start.net.head[-1].weight - classifier.net.head[-1].weight).detach()
    for rows in (slice(0, 4), slice(4, 6)):
        assert gradient[rows].abs().max() > 1e-3
        assert F.cosine_similarity(moved[rows].flatten(), gradient[rows].flatten(), dim=0) > 0.999
    # Of the first step, before it was taken.
    on_classes = F.cross_entropy(logits, part["target"]).detach()
    beside = lacking(said.detach(), part["valence_arousal"])
    assert float(run.callback_metrics["train/loss"]) == pytest.approx(float(on_classes) + 0.5 * beside, abs=1e-4)
    classifier.eval()
    with torch.no_grad():
        answers = [classifier.predict_heads(each["image"]) for each in data.val]
    logits, said = map(torch.cat, zip(*answers, strict=True))
    target, annotated = (torch.cat([each[key] for each in data.val]) for key in ("target", "valence_arousal"))
    sums = agreement_terms(said.numpy(), annotated.numpy()).sum(axis=0)
    logged = run.callback_metrics
    assert float(logged["val/ccc_valence"]) == pytest.approx(float(concordance(sums[0])), abs=1e-6)
    assert float(logged["val/ccc_arousal"]) == pytest.approx(float(concordance(sums[1])), abs=1e-6)
    expected = float(F.cross_entropy(logits, target)) + 0.5 * lacking(said, annotated)
    assert float(logged["val/loss"]) == pytest.approx(expected, abs=1e-4)
    run.test(classifier, data, verbose=False)
    assert float(run.callback_metrics["test/ccc_valence"]) == pytest.approx(float(concordance(sums[0])), abs=1e-6)


def test_without_any_annotation_the_head_gets_no_gradient_and_nothing_breaks(tmp_path):
    classifier, data = made(), MadeData([batch(8, annotated=0)], [batch(6, 1, annotated=0)])
    before = classifier.net.head[-1].weight.detach().clone()
    run = made_trainer(tmp_path)
    run.fit(classifier, data)
    after = classifier.net.head[-1].weight.detach()
    torch.testing.assert_close(after[4:], before[4:], rtol=0, atol=0)
    assert not torch.equal(after[:4], before[:4])
    assert run.callback_metrics["val/loss"].isfinite()
    assert not [name for name in run.callback_metrics if "ccc" in name]


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


def test_a_run_logs_and_selects_by_them(run):
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
def test_the_model_file_measures_as_the_checkpoint_did(output, run, model_file, annotated, tmp_path):
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


def test_a_recognizer_answers_as_the_checkpoint(run, model_file):
    classifier = load_classifier(run / "checkpoints/best.ckpt")
    recognizer = Recognizer(model_file, detector="none")
    found = []
    for emotion in ("happiness", "sadness", "surprise"):
        picture = draw_face(emotion, 1, 96).image
        (face,) = recognizer(picture)
        with torch.inference_mode():
            _, said = classifier.predict_heads(torch.from_numpy(classifier.preprocessing.crop(picture)[None]))
        assert (face.valence, face.arousal) == pytest.approx(tuple(said[0].tolist()), abs=1e-4)
        found.append((face.valence, face.arousal))
    assert np.ptp(np.array(found), axis=0).min() > 1e-3  # the faces are told apart at all


def test_data_without_annotations_are_refused_before_the_first_epoch(refused, small, tmp_path):
    own = ["experiment=affectnet_yolo", *small, "logger=csv", f"hydra.run.dir={tmp_path}"]
    error = refused("emodet.train", *own, "training.valence_arousal=1")
    assert "training.valence_arousal=1: none of the 72 training faces (drawn faces" in error
    assert not (tmp_path / "checkpoints").exists()
