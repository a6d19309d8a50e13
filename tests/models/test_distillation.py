"""Distillation: what teachers add to the targets, whatever their size, preprocessing and class order; and trainings."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from made_batches import NAMES, made, made_batch, made_trainer
from torch.utils.data import DataLoader

from emodet.errors import EmodetError
from emodet.models.extras import Distillation, ProgressiveSizes


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0.0}, r"distillation\.weight=0\.0"),
        ({"weight": 1.1}, r"distillation\.weight=1\.1"),
        ({"temperature": 0.0}, r"distillation\.temperature=0\.0"),
        ({"teachers": []}, r"distillation\.teachers"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(EmodetError, match=message):
        Distillation(**{"teachers": [teacher()], **options})


def test_a_teacher_that_gives_no_numbers_is_an_error():
    student, broken = made(), teacher(1)
    broken.temperature.fill_(float("nan"))
    with pytest.raises(EmodetError, match=r"distillation\.teachers: .*not finite"):
        ready(student, broken).transform_batch(made_batch(4), student)


def fit(folder, extras, **settings):
    student = made(seed=5, extras=extras)
    loader = DataLoader([made_batch(8, seed) for seed in range(3)], batch_size=None)
    made_trainer(folder, **settings).fit(student, loader)
    return student


def weights(classifier):
    return torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()])


def test_training_learns_from_the_teachers_and_leaves_them_alone(tmp_path):
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
