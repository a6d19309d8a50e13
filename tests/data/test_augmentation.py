"""Augmentation: the shipped configurations, seeds, and mistyped steps."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml

from emodet.data.augmentation import Augmentation
from emodet.errors import EmodetError
from emodet.synthetic.faces import draw_face

CONF = Path(__file__).parents[2] / "conf" / "augmentation"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))


def shipped(name):
    return Augmentation(**yaml.safe_load((CONF / f"{name}.yaml").read_text()))


@pytest.fixture(scope="module")
def crops():
    return np.stack([draw_face(number % 8, np.random.default_rng(number), 48).image for number in range(24)])


@pytest.mark.parametrize("name", NAMES)
def test_crops_and_seed_alone_decide_and_the_input_is_kept(name, crops):
    before, one = crops.copy(), shipped(name)
    first, other = one(crops, 7), one(crops, 8)
    assert (first.shape, first.dtype) == (crops.shape, np.uint8)
    assert not np.shares_memory(first, crops)
    assert np.array_equal(crops, before)
    np.random.seed(3)  # noqa: NPY002  # whatever state the process is in
    for augmentation in (one, shipped(name), pickle.loads(pickle.dumps(one))):
        assert np.array_equal(augmentation(crops, 7), first)
    if name == "none":
        assert np.array_equal(first, crops)
        return
    assert not np.array_equal(first, other)
    assert len({face.tobytes() for face in one(np.repeat(crops[:1], 8, axis=0), 7)}) >= 6


FLIP, INVERT = {"name": "HorizontalFlip", "p": 1}, {"name": "InvertImg", "p": 1}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "Rotatee"}, "'Rotatee' is not a transform"),
        ({"p": 0.5}, "'None' is not a transform"),
        ({"name": "Compose", "transform": []}, "Compose"),
        ({"name": "Affine", "self": 1}, "Affine"),
        ({"name": "HorizontalFlip", "probability": 0.5}, "HorizontalFlip does not accept .*probability"),
        ({"name": "HorizontalFlip", "p": 2}, "HorizontalFlip does not accept"),
        ({"name": "GaussianBlur", "blur_limit": "much"}, "GaussianBlur does not accept"),
        ({"name": "Affine", "border_mode": "mirror"}, "border_mode='mirror': expected replicate"),
        ({"name": "Affine", "interpolation": 1}, "interpolation=1: expected linear"),
        ({"name": "Downscale", "interpolation_pair": {"downscale": "best"}}, "'best'|interpolation_pair"),
        ({"name": "OneOf", "transforms": [{"name": "Nothing"}]}, "'Nothing'"),
        ({"name": "OneOf", "transforms": [{"name": "ToGray", "q": 1}]}, "ToGray does not accept .*q"),
        ({"name": "OneOf", "transforms": {"name": "ToGray"}}, "transforms"),
        ({"name": "OneOf"}, "OneOf does not accept"),
        ("HorizontalFlip", "expected a list of"),
        # Own classes.
        *(({"_target_": name}, name) for name in ("own_classes.Lighter", "nowhere.Darker", "Darker", "os.path")),
    ],
)
def test_invalid_steps_alone_and_in_a_mix(step, message):
    for given in ({"steps": [step]}, {"mix": [{"share": 1, "steps": [step]}]}):
        with pytest.raises(EmodetError, match=message):
            Augmentation(**given)


@pytest.mark.parametrize("step", [{"name": "Resize", "height": 20, "width": 20}, {"name": "ToFloat"}])
def test_a_step_that_changes_size_or_type_is_refused(step):
    with pytest.raises(EmodetError, match=f"{step['name']} made ndarray"):
        Augmentation([step])(np.zeros((2, 48, 48, 3), np.uint8), 0)


def test_each_part_of_a_mixed_batch_has_its_own_steps_and_one_part_is_as_steps(crops):
    mix = [{"share": 0.25, "steps": [FLIP]}, {"share": 0.5, "steps": [INVERT]}, {"share": 0.25, "steps": []}]
    found = Augmentation(mix=mix)(crops, 0)
    assert np.array_equal(found[:6], crops[:6, :, ::-1])
    assert np.array_equal(found[6:18], 255 - crops[6:18])
    assert np.array_equal(found[18:], crops[18:])
    steps = yaml.safe_load((CONF / "standard.yaml").read_text())["steps"]
    mixed = Augmentation(mix=[{"share": 1, "steps": steps}])
    assert np.array_equal(mixed(crops, 3), Augmentation(steps)(crops, 3))


@pytest.mark.parametrize(
    ("steps", "mix", "message"),
    [
        ([], [{"share": 0.5, "steps": []}], "shares=0.5: expected 1"),
        ([], [{"share": -1, "steps": []}, {"share": 2, "steps": []}], "above 0"),
        ([], [{"share": 1}], "steps"),
        ([FLIP], [{"share": 1, "steps": []}], "exclude each other"),
    ],
)
def test_invalid_mixes(steps, mix, message):
    with pytest.raises(EmodetError, match=message):
        Augmentation(steps, mix)


def test_an_own_transform(crops):
    found = Augmentation([{"_target_": "own_classes.OwnAugmentation", "by": 4, "p": 1}])(crops, 0)
    assert np.array_equal(found, crops // 4)
