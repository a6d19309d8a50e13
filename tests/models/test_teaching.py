"""What changes how a net is taught: focal loss, logit adjustment, blends of faces, sharpness-aware steps."""

import copy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from emodet.data.faces import Batch
from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.models.losses import SoftCrossEntropy
from emodet.models.mixup import Mixup
from emodet.models.sam import SharpnessAware
from emodet.preprocessing import Preprocessing

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]


def made_logits(seed: int, faces: int = 12, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(faces, classes, generator=generator), torch.randint(classes, (faces,), generator=generator)


@given(st.integers(0, 1000), st.floats(0.25, 5), st.booleans())
def test_the_focal_loss_is_its_papers(seed: int, gamma: float, weighted: bool) -> None:
    logits, emotion = made_logits(seed)
    weight = torch.arange(1.0, 6.0) if weighted else None
    p = logits.double().softmax(dim=1).gather(1, emotion[:, None])[:, 0]
    losses = -((1 - p) ** gamma) * p.log()
    expected = losses.mean() if weight is None else (losses * weight[emotion]).sum() / weight[emotion].sum()
    ours = SoftCrossEntropy(class_weights=None if weight is None else weight.tolist(), focal_gamma=gamma)(
        logits, F.one_hot(emotion, 5).float()
    )
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("logit", [30.0, 200.0, -200.0])
def test_the_focal_loss_has_a_gradient_where_the_answer_is_certain(logit: float) -> None:
    logits = torch.tensor([[logit, 0.0, 0.0]], requires_grad=True)
    SoftCrossEntropy(focal_gamma=0.5, label_smoothing=0.1)(logits, torch.tensor([[1.0, 0, 0]])).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_logit_adjustment_shifts_by_the_log_prior() -> None:
    logits, emotion = made_logits(3)
    adjusted = SoftCrossEntropy(logit_adjustment=1.5, class_counts=[50, 20, 15, 10, 5])
    expected = F.cross_entropy(logits + 1.5 * torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log(), emotion)
    torch.testing.assert_close(adjusted(logits, F.one_hot(emotion, 5).float()), expected)


def test_logit_adjustment_lifts_rare_classes() -> None:
    """On logits that are free to fit, one constant answer for all: plain it is the prior, adjusted it is level."""
    prior = torch.tensor([0.9, 0.1])
    answers = {}
    for tau in (0.0, 1.0):
        logits = torch.zeros(1, 2, requires_grad=True)
        loss = SoftCrossEntropy(logit_adjustment=tau, class_counts=[9, 1])
        optimizer = torch.optim.SGD([logits], lr=1.0)
        for _ in range(400):
            optimizer.zero_grad()
            loss(logits, prior[None]).backward()
            optimizer.step()
        answers[tau] = logits.detach().softmax(dim=1)[0]
    torch.testing.assert_close(answers[0.0], prior, rtol=0, atol=1e-3)
    torch.testing.assert_close(answers[1.0], torch.tensor([0.5, 0.5]), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"focal_gamma": -1.0}, r"loss\.focal_gamma=-1\.0: expected 0 or more"),
        ({"logit_adjustment": -0.5}, r"loss\.logit_adjustment=-0\.5: expected 0 or more"),
        ({"logit_adjustment": 1.0}, r"loss\.logit_adjustment=1\.0: needs a training face of every class"),
        ({"logit_adjustment": 1.0, "class_counts": [9, 0]}, r"needs a training face of every class"),
        ({"label_smoothing": 1.0}, r"loss\.label_smoothing=1\.0: expected 0 to below 1"),
    ],
)
def test_losses_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(EmodetError, match=message):
        SoftCrossEntropy(**arguments)


def made_faces(faces: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Faces of one grey value each, so that a blend's shares can be read off."""
    values = torch.arange(faces, dtype=torch.float32)
    return values.view(-1, 1, 1, 1).expand(-1, 3, 16, 16).clone(), F.one_hot(torch.arange(faces), faces).float()


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(5))
def test_pixels_and_targets_are_blended_in_the_same_shares(way: str, seed: int) -> None:
    torch.manual_seed(seed)
    image, target = made_faces()
    blend = Mixup(**{way: 1.0}).transform_input(image, target, target[:, :2])
    assert blend is not None
    blended, shares, _ = blend
    assert (blended.shape, shares.shape) == (image.shape, target.shape)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    values = torch.arange(6.0)
    torch.testing.assert_close(blended.mean(dim=(1, 2, 3)), shares @ values, rtol=0, atol=1e-4)
    torch.testing.assert_close(image, made_faces()[0])  # the batch itself is left alone


def test_blends_are_as_frequent_as_asked_for_and_repeat() -> None:
    image, target = made_faces()
    mixing = Mixup(mixup=0.4, cutmix=1.0, mix_prob=0.3)

    def draws() -> list[torch.Tensor | None]:
        torch.manual_seed(7)
        blends = (mixing.transform_input(image, target, target[:, :2]) for _ in range(600))
        return [None if blend is None else blend[0] for blend in blends]

    first, second = draws(), draws()
    assert sum(blend is not None for blend in first) == pytest.approx(180, abs=40)
    assert all((a is None and b is None) or torch.equal(a, b) for a, b in zip(first, second, strict=True))  # type: ignore[arg-type]
    assert Mixup().transform_input(image, target, target) is None
    assert Mixup(mixup=1.0, mix_prob=0.0).transform_input(image, target, target) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixup": -0.1}, r"training\.mixup=-0\.1"),
        ({"cutmix": float("nan")}, r"training\.cutmix=nan"),
        ({"mix_prob": 1.5}, r"training\.mix_prob=1\.5"),
    ],
)
def test_blends_that_cannot_be(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(EmodetError, match=message):
        Mixup(**arguments)


NAMES = ["neutral", "happiness", "sadness", "anger"]


def made(**settings: Any) -> EmotionClassifier:
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "net": {"name": "residual_cnn", "channels": [4, 4], "stage_dropout": [0.3, 0.3], "features": 8},
        "class_names": NAMES,
        "preprocessing": Preprocessing(size=32).to_dict(),
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1},
    }
    return EmotionClassifier(**(values | settings))


def made_batch(seed: int, faces: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    emotion = torch.randint(4, (faces,), generator=generator)
    return {
        "image": torch.randint(256, (faces, 32, 32, 3), generator=generator, dtype=torch.uint8),
        "emotion": emotion,
        "target": F.one_hot(emotion, 4).float(),
        "valence_arousal": torch.full((faces, 2), torch.nan),
        "index": torch.arange(faces),
        "source": torch.zeros(faces, dtype=torch.int64),
    }


def fit(classifier: EmotionClassifier, folder: Path, batches: list[Batch], **settings: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", enable_model_summary=False, default_root_dir=folder, **(quiet | settings)
    )
    trainer.fit(classifier, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return trainer


def sharp_step(net: nn.Module, classifier: EmotionClassifier, batch: Batch, rho: float, lr: float) -> None:
    """One sharpness-aware step of plain gradient descent, written as the paper's algorithm 1."""
    weights = list(net.parameters())
    image = classifier.normalise(batch["image"])

    loss_of = SoftCrossEntropy()

    def gradient() -> list[torch.Tensor]:
        classifier._reseed(0)
        return list(torch.autograd.grad(loss_of(net(image), batch["target"]), weights))

    up = gradient()
    length = torch.sqrt(sum((each**2).sum() for each in up))
    there = copy.deepcopy(net)
    with torch.no_grad():
        for weight, each in zip(there.parameters(), up, strict=True):
            weight += rho * each / length
    classifier._reseed(0)
    loss = loss_of(there(image), batch["target"])
    down = torch.autograd.grad(loss, list(there.parameters()))
    with torch.no_grad():
        for weight, each in zip(weights, down, strict=True):
            weight -= lr * each


def test_a_sharpness_aware_step_is_the_papers(tmp_path: Path) -> None:
    classifier, batch = made(extras=[SharpnessAware(0.5)]), made_batch(1)
    expected = copy.deepcopy(classifier.net)
    sharp_step(expected.train(), classifier, batch, rho=0.5, lr=0.1)
    fit(classifier, tmp_path, [batch])
    plain = made()
    fit(plain, tmp_path, [batch])
    wanted = expected.state_dict()
    for name, value in classifier.net.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(
                value, wanted[name], rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
            )
    # The second pass must not have moved the running statistics, and must have changed the step.
    pairs = zip(classifier.net.parameters(), plain.net.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) > 1e-3
    statistics = {name: value for name, value in plain.net.state_dict().items() if "running" in name}
    assert statistics
    for name, value in statistics.items():
        torch.testing.assert_close(classifier.net.state_dict()[name], value)


def test_a_face_counts_once_in_the_training_metrics_whatever_the_steps(tmp_path: Path) -> None:
    batches = [made_batch(seed) for seed in range(3)]
    seen = []
    for extras in ([], [SharpnessAware(0.05)], [Mixup(0.5)]):
        classifier = made(extras=extras)
        counted: list[int] = []
        metrics = classifier.train_metrics
        compute = metrics.compute

        def noting(compute: Any = compute, metrics: Any = metrics, counted: list[int] = counted) -> Any:
            counted.append(int(metrics.confusion_matrix.compute().sum()))
            return compute()

        metrics.compute = noting  # type: ignore[method-assign]
        fit(classifier, tmp_path, batches)
        seen.append(counted)
    assert seen == [[24], [24], [24]]


@pytest.mark.parametrize(
    ("rho", "trainer", "message"),
    [
        (0.0, {}, r"training\.sam_rho=0\.0"),
        (0.05, {"accumulate_grad_batches": 2}, r"accumulate_grad_batches=2: the worst point"),
    ],
)
def test_sharpness_that_cannot_be(rho: float, trainer: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(EmodetError, match=message):
        fit(made(extras=[SharpnessAware(rho)]), tmp_path, [made_batch(0), made_batch(1)], **trainer)
