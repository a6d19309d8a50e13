"""Loss and metrics against PyTorch's and the report's own."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.evaluation.calibration import softmax
from emodet.evaluation.predictions import Predictions
from emodet.evaluation.scores import evaluate_predictions
from emodet.models.losses import SoftCrossEntropy
from emodet.models.metrics import FaceOutputs, TrainingMetrics, monitored_names, split_scores


@given(st.integers(1, 20), st.integers(2, 8), st.floats(0, 0.9), st.booleans(), st.integers(0, 2**31 - 1))
def test_the_loss_of_hard_labels_is_torchs(faces, classes, smoothing, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 5 * torch.randn(faces, classes, generator=generator)
    emotion = torch.randint(classes, (faces,), generator=generator)
    weight = torch.rand(classes, generator=generator) + 0.1 if weighted else None
    loss = SoftCrossEntropy(smoothing, None if weight is None else weight.tolist())
    ours = loss(logits, F.one_hot(emotion, classes).float())
    theirs = F.cross_entropy(logits, emotion, weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_balanced_class_weights_are_scikit_learns_and_logits_shift_by_the_log_prior():
    utilities = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.repeat(np.arange(4), [10, 3, 1, 6])
    expected = utilities.compute_class_weight("balanced", classes=np.arange(4), y=labels)
    weights = SoftCrossEntropy(class_weights="balanced", class_counts=[10, 3, 1, 6]).weight
    assert weights.tolist() == pytest.approx(expected.tolist())
    logits, emotion = made_logits(3)
    adjusted = SoftCrossEntropy(logit_adjustment=1.5, class_counts=[50, 20, 15, 10, 5])
    expected = F.cross_entropy(logits + 1.5 * torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log(), emotion)
    torch.testing.assert_close(adjusted(logits, F.one_hot(emotion, 5).float()), expected)


def made_logits(seed, faces=12, classes=5):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(faces, classes, generator=generator), torch.randint(classes, (faces,), generator=generator)


@given(st.integers(0, 1000), st.floats(0.25, 5), st.booleans())
def test_the_focal_loss_is_its_papers(seed, gamma, weighted):
    logits, emotion = made_logits(seed)
    weight = torch.arange(1.0, 6.0) if weighted else torch.ones(5)
    p = logits.double().softmax(dim=1).gather(1, emotion[:, None])[:, 0]
    losses = -((1 - p) ** gamma) * p.log()
    expected = (losses * weight[emotion]).sum() / weight[emotion].sum()
    loss = SoftCrossEntropy(class_weights=weight.tolist() if weighted else None, focal_gamma=gamma)
    ours = loss(logits, F.one_hot(emotion, 5).float())
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logit", [30.0, 200.0, -200.0])
def test_the_focal_loss_has_a_gradient_where_the_prediction_is_certain(logit):
    logits = torch.tensor([[logit, 0.0, 0.0]], requires_grad=True)
    SoftCrossEntropy(focal_gamma=0.5, label_smoothing=0.1)(logits, torch.tensor([[1.0, 0, 0]])).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"focal_gamma": -1.0}, r"loss\.focal_gamma=-1\.0"),
        ({"logit_adjustment": -0.5}, r"loss\.logit_adjustment=-0\.5"),
        ({"logit_adjustment": 1.0}, r"loss\.logit_adjustment=1\.0.*every class"),
        ({"class_weights": "balanced", "class_counts": [9, 0]}, r"loss\.class_weights=balanced.*every class.*\[9, 0\]"),
        ({"label_smoothing": 1.0}, r"loss\.label_smoothing=1\.0"),
        *(({"class_weights": each}, r"loss\.class_weights=.*from 0") for each in ([0, 0], [1, -1], [1, math.nan])),
    ],
)
def test_invalid_losses(arguments, message):
    with pytest.raises(EmodetError, match=message):
        SoftCrossEntropy(**arguments)


def test_the_loss_of_classes_of_weight_0_is_0():
    logits = torch.randn(3, 2, requires_grad=True)
    SoftCrossEntropy(class_weights=[1, 0])(logits, torch.eye(2)[[1] * 3]).backward()
    assert torch.equal(logits.grad, torch.zeros(3, 2))


def made_answers(seed, faces=300):
    generator = torch.Generator().manual_seed(seed)
    emotion = torch.randint(8, (faces,), generator=generator)
    logits = torch.randn(faces, 8, generator=generator) + 1.5 * F.one_hot(emotion, 8)
    return logits, emotion


def scores(logits, emotion, source=None, names=EMOTIONS, sources=(), parts=None):
    """The scores of faces that come in parts."""
    faces = {"index": torch.arange(len(emotion)), "emotion": emotion, "logits": logits, "target": logits.softmax(dim=1)}
    faces |= {"source": torch.zeros_like(emotion) if source is None else source, "valence_arousal": logits[:, :2]}
    outputs = FaceOutputs(has_va_head=False)
    for part in parts or [torch.arange(len(emotion))]:
        outputs.update({name: rows[part] for name, rows in faces.items()})
    return split_scores(outputs.compute(), names, sources, 1.0)


@pytest.mark.parametrize(("seed", "lacking"), [(0, 8), (1, 3), (2, 7)])
def test_scores_are_those_of_the_labelled_faces(seed, lacking):
    """Also where a class has no face, and so is in no mean; torchmetrics' own means count it as 0."""
    (logits, emotion), gone = made_answers(seed), EMOTIONS[lacking : lacking + 1]
    emotion = torch.where(emotion == lacking, 0, emotion)
    unlabelled = torch.rand(len(emotion), generator=torch.Generator().manual_seed(seed)) < 0.2
    values = scores(logits, torch.where(unlabelled, -1, emotion), parts=torch.arange(len(emotion)).split(64))
    known = {"emotion": emotion[~unlabelled].numpy(), "probabilities": softmax(logits[~unlabelled].numpy())}
    known |= {"keys": range(len(known["emotion"])), "class_names": EMOTIONS, "split": "val", "data": "made"}
    report = evaluate_predictions(Predictions(**known), resamples=0)
    recalls = (f"recall/{name}" for name in EMOTIONS if name not in gone)
    names = ("accuracy", "macro_f1", "balanced_accuracy", "nll", *recalls)
    expected = {name: report[name].value for name in names} | {"calibration_error": report["ece"].value}
    assert values == pytest.approx(expected, abs=1e-9)
    training = TrainingMetrics(8)
    for part in torch.arange(len(emotion)).split(64):
        training.update(logits[part], torch.where(unlabelled, -1, emotion)[part], torch.tensor(0.5))
    brief = {"loss": 0.5, "accuracy": values["accuracy"], "macro_f1": values["macro_f1"]}
    assert training.compute() == pytest.approx(brief, abs=1e-9)
    np.testing.assert_array_equal(training.confusion.numpy(), report.confusion)


def test_all_scores_can_be_monitored():
    assert {"val/loss", *(f"val/{name}" for name in scores(*made_answers(5)))} == set(monitored_names(EMOTIONS))


def test_scores_do_not_depend_on_the_order_of_batches():
    """To the last bit: otherwise two processes could select another epoch than one."""
    logits, emotion = made_answers(7, 999)
    order = torch.randperm(999, generator=torch.Generator().manual_seed(0))
    assert scores(logits, emotion) == scores(logits, emotion, parts=order.split(13))


def test_the_scores_of_each_data_set_are_those_of_its_faces_alone():
    generator = torch.Generator().manual_seed(0)
    names, sources = EMOTIONS[:7], ["one", "two", "empty"]
    logits = torch.randn(200, 7, generator=generator)
    emotion, source = torch.randint(-1, 7, (200,), generator=generator), torch.randint(2, (200,), generator=generator)
    # A class that only one of them has.
    emotion[(emotion == 6) & (source == 1)] = 0
    together = scores(logits, emotion, source, names, sources, parts=torch.arange(200).split(32))
    expected = {}
    for number, name in enumerate(sources[:2]):
        here = source == number
        alone = scores(logits[here], emotion[here], names=names)
        expected.update({f"{metric}/{name}": alone[metric] for metric in ("accuracy", "macro_f1")})
    found = {name: value for name, value in together.items() if name.rpartition("/")[2] in sources}
    assert found == pytest.approx(expected)
    assert {f"val/{name}" for name in found} <= set(monitored_names(names, sources))


def test_a_split_of_unlabelled_faces_has_no_scores():
    logits, emotion = made_answers(3, 5)
    assert scores(logits, torch.full_like(emotion, -1)) == {}
