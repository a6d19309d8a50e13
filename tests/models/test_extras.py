"""Extras of the training step: blends of faces, progressive sizes, sharpness-aware steps, teachers."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LambdaCallback
from made_classifiers import NAMES, RESIDUAL, MadeData, made, made_batch, made_trainer

from emodet.errors import EmodetError
from emodet.models.extras import Distillation, Mixup, ProgressiveSizes, SharpnessAware, TrainingExtra


def made_faces(faces=6):
    """Faces of one grey value each, so that a blend's shares can be read off."""
    values = torch.arange(faces, dtype=torch.float32)
    return values.view(-1, 1, 1, 1).expand(-1, 3, 16, 16).clone(), F.one_hot(torch.arange(faces), faces).float()


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(3))
def test_pixels_and_targets_are_blended_in_the_same_shares(kind, seed):
    torch.manual_seed(seed)
    image, target = made_faces()
    annotated = torch.rand(6, 2)
    annotated[3] = torch.nan
    blend = Mixup(**{kind: 1.0}).transform_input(image, target, annotated)
    blended, shares, both = blend
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(blended.mean(dim=(1, 2, 3)), shares @ torch.arange(6.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(image, made_faces()[0])  # the batch itself is left alone
    share = shares.diagonal()[:, None]
    expected = share * annotated + (1 - share) * annotated.roll(1, 0)
    torch.testing.assert_close(both, expected, rtol=0, atol=1e-5, equal_nan=True)
    assert both.isnan().any(dim=1).nonzero().flatten().tolist() == [3, 4]  # not known of its blends either


def test_blends_have_the_given_frequency_and_are_reproducible():
    image, target = made_faces()
    mixup = Mixup(mixup=0.4, cutmix=1.0, mix_prob=0.3)

    def draws():
        torch.manual_seed(7)
        blends = (mixup.transform_input(image, target, target) for _ in range(400))
        return [None if blend[0] is image else float(blend[0].std()) for blend in blends]

    first = draws()
    assert sum(blend is not None for blend in first) == pytest.approx(120, abs=35)
    assert first == draws()
    assert Mixup().transform_input(image, target, target)[0] is image
    assert Mixup(mixup=1.0, mix_prob=0.0).transform_input(image, target, target)[0] is image


def test_training_crops_have_the_size_of_the_epoch_and_validation_the_full_one(tmp_path):
    classifier = made(extras=[ProgressiveSizes([[0, 16], [2, 24], [3, 32]])])
    sides = []
    classifier.net.register_forward_pre_hook(
        lambda net, inputs: sides.append((classifier.current_epoch, net.training, inputs[0].shape[-1]))
    )
    made_trainer(tmp_path, max_epochs=4, num_sanity_val_steps=0).fit(classifier, MadeData())
    assert {(epoch, side) for epoch, training, side in sides if training} == {(0, 16), (1, 16), (2, 24), (3, 32)}
    assert {side for _, training, side in sides if not training} == {32}
    classifier, part = made(), made_batch(2)
    reduced = ProgressiveSizes([[0, 16]]).transform_batch(part, classifier)["image"]
    means = part["image"].float().reshape(2, 16, 2, 16, 2, 3).mean(dim=(2, 4))
    np.testing.assert_allclose(reduced.numpy(), means.numpy(), rtol=0, atol=1e-4)


class Dropout(TrainingExtra):
    def __init__(self) -> None:
        self.drawn = []

    def transform_input(self, *inputs):
        self.drawn.append(float(torch.rand(())))
        return inputs


PARTS = [made_batch(8, seed) for seed in range(3)]


def fit(folder, extras, parts=PARTS, **settings):
    classifier = made(extras=extras, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1})
    made_trainer(folder, num_sanity_val_steps=0, limit_val_batches=0, **settings).fit(classifier, MadeData(parts))
    return classifier


def test_a_sharpness_aware_step_is_the_papers(tmp_path):
    """Foret et al. 2021, algorithm 1. Without dropout, the passes are functions of the weights alone."""
    part, net = made_batch(8, 1), {"_target_": RESIDUAL, "channels": [4], "stage_dropout": [0], "head_dropout": 0}
    classifier = made(net=net, extras=[SharpnessAware(0.5)])
    start, up = (copy.deepcopy(classifier.net).train() for _ in range(2))

    def gradients(model):
        loss = F.cross_entropy(model(classifier.normalise(part["image"])), part["target"])
        return torch.autograd.grad(loss, list(model.parameters()))

    first = gradients(start)
    length = torch.cat([each.flatten() for each in first]).norm()
    with torch.no_grad():
        for weight, gradient in zip(up.parameters(), first, strict=True):
            weight += 0.5 * gradient / length
    expected = [w - 0.05 * g for w, g in zip(start.parameters(), gradients(up), strict=True)]
    made_trainer(tmp_path, limit_val_batches=0).fit(classifier, MadeData([part]))
    for weight, wanted in zip(classifier.net.parameters(), expected, strict=True):
        torch.testing.assert_close(weight, wanted, rtol=1e-4, atol=2e-5)
    for (name, one), other in zip(classifier.net.named_buffers(), start.buffers(), strict=True):
        if "running" in name:  # only the first pass moves them
            torch.testing.assert_close(one, other)


def test_both_passes_have_the_same_dropout_and_metrics_count_one(tmp_path):
    draws, faces = Dropout(), []
    count = LambdaCallback(on_train_batch_end=lambda _, net, *__: faces.append(int(net.train_metrics.confusion.sum())))
    fit(tmp_path, [SharpnessAware(0.05), draws], callbacks=[count])
    assert faces == [8, 16, 24]
    assert draws.drawn[::2] == draws.drawn[1::2]
    assert len(set(draws.drawn)) == 3
    with pytest.raises(EmodetError, match=r"training\.sam_rho.*trainer\.accumulate_grad_batches=2"):
        fit(tmp_path, [SharpnessAware(0.05)], [made_batch(8)], accumulate_grad_batches=2)


# Distillation: what teachers add to the targets, whatever their size, preprocessing and class order; and trainings.


def teacher(seed=0, temperature=1.5, **settings):
    """A net whose probabilities are far from even."""
    classifier = made(seed=seed, **settings)
    with torch.no_grad():
        classifier.net.head[-1].weight.mul_(8)
    classifier.temperature.fill_(temperature)
    return classifier


def ready(student, *teachers, **options):
    distillation = Distillation(teachers, **options)
    distillation.setup(student)
    return distillation


def test_the_target_is_a_mean_of_label_and_softened_probabilities():
    student, part = made(), made_batch(6)
    one, other = teacher(1), teacher(2, temperature=0.7)
    changed = ready(student, one, other, weight=0.6, temperature=2.0).transform_batch(part, student)
    with torch.no_grad():
        mean = (one.probabilities(part["image"]) + other.probabilities(part["image"])) / 2
    softened = mean.sqrt() / mean.sqrt().sum(dim=1, keepdim=True)
    torch.testing.assert_close(changed["target"], 0.4 * part["target"] + 0.6 * softened)
    assert changed["image"] is part["image"]
    assert not changed["target"].requires_grad


def test_classes_are_matched_by_name():
    student, part, order = made(), made_batch(6), [2, 0, 3, 1]
    shuffled = teacher(1, class_names=[NAMES[number] for number in order])
    changed = ready(student, shuffled, weight=1.0).transform_batch(part, student)
    with torch.no_grad():
        own = shuffled.probabilities(part["image"])
    torch.testing.assert_close(changed["target"][:, order], own)
    with pytest.raises(EmodetError, match=r"distillation\.teachers\[1\].*a, b"):
        ready(student, teacher(1), teacher(2, class_names=["a", "b"]))


@pytest.mark.parametrize("size", [16, 32, 48])
def test_each_teacher_has_its_own_size_and_normalisation(size):
    student, part = made(), made_batch(6)
    other = teacher(1, preprocessing={"size": size, "contrast": "crop", "mean": [0.1, 0.2, 0.3]})
    changed = ready(student, other, weight=1.0).transform_batch(part, student)
    image = part["image"].permute(0, 3, 1, 2).float()
    if size < 32:
        image = F.interpolate(image, (size, size), mode="area")
    elif size > 32:
        image = F.interpolate(image, (size, size), mode="bilinear", align_corners=False)
    crops = image.round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
    with torch.no_grad():
        logits = other.net(torch.from_numpy(other.preprocessing.normalise(crops))) / other.temperature
    torch.testing.assert_close(changed["target"], logits.softmax(dim=1), rtol=1e-4, atol=1e-5)


def test_flip_averages_over_the_mirror_image():
    student, part, one = made(), made_batch(6), teacher(1)
    changed = ready(student, one, weight=1.0, flip=True).transform_batch(part, student)
    with torch.no_grad():
        both = one.probabilities(part["image"]), one.probabilities(part["image"].flip(2))
    torch.testing.assert_close(changed["target"], (both[0] + both[1]) / 2)
    assert float((both[0] - both[1]).abs().max()) > 1e-3


@pytest.mark.parametrize(("name", "value"), [("weight", 0.0), ("weight", 1.1), ("temperature", 0.0), ("teachers", [])])
def test_invalid_options(name, value):
    with pytest.raises(EmodetError, match=rf"distillation\.{name}" + (f"={value}" if value != [] else "")):
        Distillation(**{"teachers": [teacher()], name: value})


def weights(classifier):
    return torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()])


def test_teachers_change_the_training_and_stay_unchanged(tmp_path):
    one = teacher(1)
    before = weights(one)
    taught = fit(tmp_path, [Distillation([one])])
    assert not torch.equal(weights(taught), weights(fit(tmp_path, [])))
    assert torch.equal(weights(one), before)
    assert not one.training
    assert len(list(taught.parameters())) == len(list(made().parameters()))
    assert not [name for name in taught.state_dict() if "teacher" in name]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_teachers_see_the_crops_at_their_own_size_in_every_precision(tmp_path, precision):
    one = teacher(1)
    seen = set()
    one.net.register_forward_pre_hook(lambda _net, inputs: seen.add(tuple(inputs[0].shape)))
    fit(tmp_path, [Distillation([one]), ProgressiveSizes([[0, 16]])], precision=precision)
    assert seen == {(8, 3, 32, 32)}
