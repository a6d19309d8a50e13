"""Augmentation on a torch device: albumentations' pixels for equal parameters, its distribution for drawn ones."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from emodet.data import device_transforms
from emodet.data.augmentation import Augmentation
from emodet.data.device_augmentation import DeviceAugmentation
from emodet.data.device_steps import DEVICE_STEPS
from emodet.synthetic.faces import draw_face
from emodet.errors import EmodetError

CONF = Path(__file__).parents[2] / "conf" / "augmentation"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))
CPU = torch.device("cpu")
AREA_LINEAR = {"downscale": "area", "upscale": "linear"}

UInt8 = npt.NDArray[np.uint8]
Step = dict[str, Any]


def shipped(name: str) -> list[Step]:
    found: list[Step] = yaml.safe_load((CONF / f"{name}.yaml").read_text())["steps"]
    return found


def on_device(steps: list[Step]) -> Callable[[UInt8, int], UInt8]:
    augmentation = DeviceAugmentation(Augmentation(steps), CPU)
    return lambda crops, seed: augmentation(torch.from_numpy(crops), seed).numpy()


@cache
def drawn(count: int, size: int) -> UInt8:
    return np.stack([draw_face(number % 8, np.random.default_rng(number), size).image for number in range(count)])


@pytest.fixture(scope="module")
def crops() -> UInt8:
    """Four drawn faces, and two pictures of noise, which hides nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    return np.concatenate([drawn(4, 48), noise])


# A step whose parameters are fixed; the largest and the mean difference to albumentations' pixels, in levels.
FIXED: list[tuple[Step, int, float]] = [
    ({"name": "HorizontalFlip"}, 0, 0),
    ({"name": "Affine", "rotate": [15, 15], "border_mode": "replicate"}, 1, 0.001),
    ({"name": "Affine", "shear": {"x": [8, 8], "y": [-5, -5]}, "border_mode": "replicate"}, 1, 0.001),
    ({"name": "Affine", "scale": {"x": [0.8, 0.8], "y": [1.2, 1.2]}, "border_mode": "reflect"}, 1, 0.01),
    ({"name": "Affine", "translate_percent": {"x": [0.13, 0.13], "y": [-0.07, -0.07]}, "border_mode": "reflect"}, 0, 0),
    ({"name": "Affine", "translate_px": {"x": [5, 5], "y": [-7, -7]}, "rotate": [9, 9], "fill": 40}, 1, 0.001),
    ({"name": "Affine", "rotate": [-31, -31], "interpolation": "nearest", "border_mode": "replicate"}, 255, 0.1),
    (
        {"name": "Affine", "rotate": [-25, -25], "scale": [1.2, 1.2], "keep_ratio": True, "shear": [6, 6],
         "translate_percent": [0.1, 0.1], "border_mode": "replicate"},
        1, 0.001,
    ),
    ({"name": "Illumination", "intensity_range": [0.2, 0.2], "angle_range": [30, 30], "effect_type": "darken"}, 1,
     0.01),
    ({"name": "Illumination", "intensity_range": [0.2, 0.2], "angle_range": [250, 250], "effect_type": "brighten"}, 1,
     0.01),
    ({"name": "Illumination", "mode": "gaussian", "intensity_range": [0.2, 0.2], "center_range": [0.3, 0.3],
      "sigma_range": [0.5, 0.5], "effect_type": "brighten"}, 1, 0.01),
    ({"name": "RandomBrightnessContrast", "brightness_limit": [0.3, 0.3], "contrast_limit": [-0.3, -0.3]}, 0, 0),
    ({"name": "RandomBrightnessContrast", "brightness_limit": [-0.2, -0.2], "contrast_limit": [0.4, 0.4]}, 0, 0),
    ({"name": "RandomGamma", "gamma_limit": [50, 50]}, 0, 0),
    ({"name": "RandomGamma", "gamma_limit": [180, 180]}, 0, 0),
    # What OpenCV's vector code cuts off, the rest of its rows (here a third) is rounded.
    ({"name": "HueSaturationValue", "hue_shift_limit": [9.6, 9.6], "sat_shift_limit": [25.4, 25.4],
      "val_shift_limit": [-10.7, -10.7]}, 1, 0.2),
    ({"name": "HueSaturationValue", "hue_shift_limit": [-9.6, -9.6], "sat_shift_limit": [-25.4, -25.4],
      "val_shift_limit": [10.7, 10.7]}, 1, 0.2),
    # torchvision's weights have four digits, OpenCV's three.
    ({"name": "ToGray"}, 1, 0.03),
    ({"name": "GaussianBlur", "blur_limit": [3, 3], "sigma_limit": [0.5, 0.5]}, 1, 0.001),
    ({"name": "GaussianBlur", "blur_limit": [4, 4], "sigma_limit": [3, 3]}, 1, 0.001),
    ({"name": "GaussianBlur", "blur_limit": [0, 0], "sigma_limit": [2.1, 2.1]}, 1, 0.001),
    ({"name": "MotionBlur", "blur_limit": [7, 7], "angle_range": [33, 33], "direction_range": [0.4, 0.4],
      "allow_shifted": False}, 1, 0.001),
    ({"name": "MotionBlur", "blur_limit": [5, 5], "angle_range": [200, 200], "direction_range": [-1, -1],
      "allow_shifted": False}, 1, 0.001),
    ({"name": "Downscale", "scale_range": [0.43, 0.43], "interpolation_pair": AREA_LINEAR}, 1, 0.01),
    ({"name": "Downscale", "scale_range": [0.77, 0.77], "interpolation_pair": AREA_LINEAR}, 1, 0.01),
    ({"name": "Downscale", "scale_range": [0.31, 0.31], "interpolation_pair": {"downscale": "linear",
      "upscale": "nearest"}}, 1, 0.001),
    ({"name": "Downscale", "scale_range": [0.31, 0.31]}, 0, 0),
    # Where a coefficient lies between two steps of quantisation, another rounding moves a whole block.
    ({"name": "ImageCompression", "quality_range": [20, 20]}, 60, 0.8),
    ({"name": "ImageCompression", "quality_range": [70, 70]}, 60, 0.8),
    ({"name": "Erasing", "scale": [1, 1], "ratio": [1, 1], "fill": 77}, 0, 0),
    ({"name": "Erasing", "scale": [1, 1], "ratio": [1, 1], "fill": [1, 2, 3]}, 0, 0),
    ({"name": "GaussNoise", "std_range": [0, 0], "mean_range": [-0.1, -0.1]}, 0, 0),
    ({"name": "OneOf", "transforms": [{"name": "HorizontalFlip", "p": 0.2}]}, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "largest", "mean"), FIXED, ids=[f"{number}-{step['name']}" for number, (step, *_) in enumerate(FIXED)]
)
def test_equal_parameters_give_equal_pixels(step: Step, largest: int, mean: float, crops: UInt8) -> None:
    step = {**step, "p": 1}
    expected, found = Augmentation([step])(crops, 0), on_device([step])(crops, 0)
    difference = np.abs(expected.astype(int) - found)
    assert difference.max() <= largest
    assert difference.mean() <= mean
    assert step["name"] == "OneOf" or np.abs(expected.astype(int) - crops).mean() > 1  # it did something


def test_all_that_is_made_is_compared() -> None:
    assert {step["name"] for step, *_ in FIXED} == set(DEVICE_STEPS)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    angle=st.floats(-180, 180), scale=st.floats(0.6, 1.6), shear=st.floats(-20, 20), move=st.floats(-0.3, 0.3),
    border=st.sampled_from(["replicate", "reflect", "constant"]), side=st.sampled_from([17, 48]),
)  # fmt: skip
def test_faces_are_moved_alike(angle: float, scale: float, shear: float, move: float, border: str, side: int) -> None:
    step = {
        "name": "Affine", "rotate": [angle, angle], "scale": {"x": [scale, scale], "y": [1, 1]}, "border_mode": border,
        "shear": {"x": [shear, shear], "y": [0, 0]}, "translate_percent": {"x": [move, move], "y": [0, 0]}, "p": 1,
    }  # fmt: skip
    crop = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    difference = np.abs(Augmentation([step])(crop, 0).astype(int) - on_device([step])(crop, 0))
    assert difference.max() <= 2
    assert difference.mean() < 0.02


@settings(max_examples=15, deadline=None, derandomize=True)
@given(scale=st.floats(0.15, 0.99), side=st.sampled_from([17, 48]))
def test_faces_are_reduced_alike(scale: float, side: int) -> None:
    step = {"name": "Downscale", "scale_range": [scale, scale], "interpolation_pair": AREA_LINEAR, "p": 1}
    crop = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    difference = np.abs(Augmentation([step])(crop, 0).astype(int) - on_device([step])(crop, 0))
    assert difference.max() <= 2
    assert difference.mean() < 0.2  # halves are rounded up there, to even ones here


class TestJpeg:
    @pytest.mark.parametrize("side", [48, 50, 17])
    @pytest.mark.parametrize("quality", [10, 35, 60, 95])
    def test_loses_what_jpeg_loses(self, side: int, quality: int) -> None:
        step = {"name": "ImageCompression", "quality_range": [quality, quality], "p": 1}
        faces = drawn(6, side)
        expected, found = Augmentation([step])(faces, 0).astype(float), on_device([step])(faces, 0)
        lost = np.abs(expected - faces).mean()
        assert np.abs(expected - found).mean() < 0.15 * lost
        assert (np.abs(expected - found) <= 2).mean() > 0.93
        assert abs((expected - found).mean()) < 0.1

    def test_each_face_has_its_own_quality(self) -> None:
        step = {"name": "ImageCompression", "quality_range": [5, 95], "p": 1}
        faces = np.repeat(drawn(1, 48), 16, axis=0)
        lost = np.abs(on_device([step])(faces, 3).astype(int) - faces).mean(axis=(1, 2, 3))
        assert lost.max() > 2 * lost.min()


def figures(found: UInt8, given_: UInt8) -> dict[str, npt.NDArray[np.float64]]:
    """What is compared between the two ways, one number per face."""
    x, before = found.astype(np.float64), given_.astype(np.float64)
    half = x.shape[2] // 2
    changed = np.abs(x - before)
    return {
        "brightness": x.mean(axis=(1, 2, 3)),
        "contrast": x.std(axis=(1, 2, 3)),
        "change": changed.mean(axis=(1, 2, 3)),
        "percent of pixels changed": 100 * (changed.max(axis=3) > 1.5).mean(axis=(1, 2)),
        "detail": np.abs(np.diff(x, axis=2)).mean(axis=(1, 2, 3)),
        "right less left": x[:, :, half:].mean(axis=(1, 2, 3)) - x[:, :, :half].mean(axis=(1, 2, 3)),
        "lower less upper": x[:, half:].mean(axis=(1, 2, 3)) - x[:, :half].mean(axis=(1, 2, 3)),
        "red less blue": (x[..., 0] - x[..., 2]).mean(axis=(1, 2)),
        "colourfulness": np.ptp(x, axis=3).mean(axis=(1, 2)),
    }


def distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Kolmogorov and Smirnov's, the largest difference between two cumulative distributions, with some slack.

    Values that lie 0.2 apart count as equal (Lévy's metric): pixels round a little differently, and without slack a
    face that is only mirrored would be another one.
    """
    one, other = np.sort(one), np.sort(other)

    def above(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
        up_to = np.arange(1, len(left) + 1) / len(left)
        return float((up_to - np.searchsorted(right, left + 0.2, side="right") / len(right)).max())

    return max(above(one, other), above(other, one))


def require_same_distribution(steps: list[Step], draws: int) -> None:
    """Let both ways augment the same faces so often, and compare.

    The bounds are those that two samples of one distribution pass all but once in 10,000 times, for each figure by the
    Kolmogorov-Smirnov test, and for all pixels of the mean faces together (6,144 values; one in 500 million is beyond 6
    standard errors by chance). Seeds are fixed, so a test that passes once passes always.
    """
    faces = np.repeat(drawn(2, 32), draws // 2, axis=0)
    one, other = Augmentation(steps)(faces, 11), on_device(steps)(faces, 12)
    bound = math.sqrt(-math.log(0.0001 / 2) / draws)
    ones, others = figures(one, faces), figures(other, faces)
    for name in ones:
        assert distance(ones[name], others[name]) < bound, name
    for half in (slice(0, draws // 2), slice(draws // 2, draws)):
        left, right = one[half].astype(np.float64), other[half].astype(np.float64)
        error = np.sqrt((left.var(axis=0) + right.var(axis=0)) / (draws // 2))
        # A level beside it: a pixel of one value may always be rounded up one way and down the other.
        assert (np.abs(left.mean(axis=0) - right.mean(axis=0)) <= 6 * error + 1).all()


def each_step() -> Iterator[Any]:
    """Every step of the shipped configurations, and what lies within a OneOf on its own; then lopsided ones."""
    seen: set[str] = set()
    for name in NAMES:
        for step in shipped(name):
            for part in (step, *step.get("transforms", [])):
                if str(part) not in seen:
                    seen.add(str(part))
                    yield pytest.param(part, id=f"{name}-{part['name']}")
    lopsided: list[Step] = [
        {"name": "Affine", "rotate": [5, 25], "scale": {"x": [0.7, 0.9], "y": [1, 1.3]},
         "shear": {"x": [2, 9], "y": [0, 4]}, "translate_percent": {"x": [0.02, 0.2], "y": [-0.2, 0.05]},
         "border_mode": "constant", "p": 0.8},
        {"name": "Affine", "translate_px": {"x": [-2, 6], "y": [0, 3]}, "border_mode": "reflect", "p": 1},
        {"name": "Illumination", "mode": "corner", "effect_type": "darken", "p": 0.8},
        {"name": "Illumination", "mode": "gaussian", "center_range": [0.2, 0.5], "p": 1},
        {"name": "Illumination", "intensity_range": [0.1, 0.2], "angle_range": [200, 300], "p": 1},
        {"name": "RandomBrightnessContrast", "brightness_limit": [0, 0.4], "contrast_limit": [-0.4, 0], "p": 0.5},
        {"name": "HueSaturationValue", "hue_shift_limit": [10, 60], "sat_shift_limit": [0, 60],
         "val_shift_limit": [-40, 0], "p": 1},
        {"name": "GaussianBlur", "blur_limit": [0, 0], "p": 1},
        {"name": "MotionBlur", "blur_limit": [3, 9], "angle_range": [0, 60], "direction_range": [0, 1], "p": 1},
        {"name": "GaussNoise", "std_range": [0.1, 0.3], "mean_range": [0, 0.2], "p": 0.9},
        {"name": "Erasing", "scale": [0.1, 0.9], "ratio": [0.2, 0.7], "fill": "random", "p": 0.9},
        {"name": "Erasing", "scale": [0.02, 0.3], "fill": 0, "p": 1},
        {"name": "OneOf", "transforms": [{"name": "HorizontalFlip", "p": 0.2}, {"name": "ToGray", "p": 0.6}], "p": 0.7},
    ]  # fmt: skip
    for number, step in enumerate(lopsided):
        yield pytest.param(step, id=f"lopsided{number}-{step['name']}")


@pytest.mark.slow
@pytest.mark.parametrize("step", list(each_step()))
def test_each_step_draws_alike(step: Step) -> None:
    require_same_distribution([step], 600)


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("standard", 800),
        ("strong", 800),
        *(pytest.param(name, 3000, marks=pytest.mark.slow) for name in NAMES if name != "none"),
    ],
)
def test_the_shipped_configurations_draw_alike(name: str, draws: int) -> None:
    require_same_distribution(shipped(name), draws)


def test_the_comparison_sees_small_differences() -> None:
    """What it is worth: a tenth more or less of a range is another distribution."""
    faces = np.repeat(drawn(2, 32), 300, axis=0)
    one = Augmentation([{"name": "Affine", "rotate": [-20, 20], "border_mode": "replicate", "p": 0.9}])(faces, 1)
    other = on_device([{"name": "Affine", "rotate": [-24, 24], "border_mode": "replicate", "p": 0.9}])(faces, 2)
    bound = math.sqrt(-math.log(0.0001 / 2) / 600)
    assert distance(figures(one, faces)["change"], figures(other, faces)["change"]) > bound


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_keeps_shape_and_type_and_its_input(self, name: str, crops: UInt8) -> None:
        given_ = torch.from_numpy(crops.copy())
        found = DeviceAugmentation(Augmentation(shipped(name)), CPU)(given_, 1)
        assert (found.shape, found.dtype, found.is_contiguous()) == (given_.shape, torch.uint8, True)
        assert found.data_ptr() != given_.data_ptr()
        assert np.array_equal(given_.numpy(), crops)

    def test_is_a_function_of_crops_and_seed(self, name: str, crops: UInt8) -> None:
        one, other = on_device(shipped(name)), on_device(shipped(name))
        first = one(crops, 7)
        one(crops, 8)
        torch.manual_seed(3)  # whatever state the process is in
        state = torch.get_rng_state()
        assert np.array_equal(one(crops, 7), first)
        assert np.array_equal(other(crops, 7), first)
        assert torch.equal(torch.get_rng_state(), state)

    def test_differs_between_seeds_and_faces(self, name: str, crops: UInt8) -> None:
        augmentation = on_device(shipped(name))
        if name == "none":
            assert np.array_equal(augmentation(crops, 7), crops)
            return
        assert not np.array_equal(augmentation(crops, 7), augmentation(crops, 8))
        same = augmentation(np.repeat(crops[:1], 8, axis=0), 7)
        assert len({face.tobytes() for face in same}) >= 6

    def test_takes_any_number_of_faces(self, name: str, crops: UInt8) -> None:
        for count in (0, 1, 3):
            assert on_device(shipped(name))(crops[:count], 0).shape == (count, 48, 48, 3)


class TestOnCuda:
    """Without a CUDA device: torch's stand-ins for tensors know on which device each is, and what asks for values."""

    def test_all_that_is_computed_lies_there_and_nothing_waits(self) -> None:
        augmentation = DeviceAugmentation(Augmentation(shipped("strong")), CPU)
        with FakeTensorMode(allow_non_fake_inputs=True):
            crops = torch.empty((96, 32, 32, 3), dtype=torch.uint8, device="cuda")
            found = augmentation(crops, 0)
        assert (found.device.type, found.shape, found.dtype) == ("cuda", crops.shape, torch.uint8)

    def test_a_tensor_left_behind_would_be_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device_transforms, "sent", lambda values, device: torch.from_numpy(values.copy()))
        augmentation = DeviceAugmentation(Augmentation([{"name": "RandomGamma", "p": 1}]), CPU)
        with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError, match="device"):
            augmentation(torch.empty((4, 48, 48, 3), dtype=torch.uint8, device="cuda"), 0)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"name": "Posterize"}, "Posterize is not made on a device, there are Affine, .*data.device"),
        (
            {"name": "Affine", "fit_output": True},
            "Affine with fit_output=True is not made on a device, only with False",
        ),
        ({"name": "Affine", "fill": [1, 2, 3]}, r"Affine with fill=\(1.*only with one number"),
        ({"name": "RandomBrightnessContrast", "brightness_by_max": False}, "brightness_by_max=False"),
        ({"name": "ToGray", "method": "max"}, "method=max is not made on a device, only with weighted_average"),
        (
            {"name": "Downscale", "interpolation_pair": {"downscale": "area", "upscale": "area"}},
            "upscale=area is not made on a device, only with linear or nearest",
        ),
        ({"name": "GaussNoise", "noise_scale_factor": 0.5}, "noise_scale_factor=0.5"),
        ({"name": "ImageCompression", "compression_type": "webp"}, "compression_type=webp"),
        ({"name": "Erasing", "fill": "inpaint_ns"}, "fill=inpaint_ns"),
        ({"name": "OneOf", "transforms": [{"name": "Sequential", "transforms": []}]}, "Sequential is not made"),
    ],
)
def test_what_is_not_made_is_refused(step: Step, message: str) -> None:
    with pytest.raises(EmodetError, match=message):
        DeviceAugmentation(Augmentation([step]), CPU)
