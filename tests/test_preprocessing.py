"""The crop: geometry at borders and off whole pixels, alignment, detail, colour; and its round trip through JSON."""

import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestGeometry:
    def test_a_margin_is_a_fraction_of_the_box_or_picture(self):
        image = noise(100, 100)
        crop = Preprocessing(size=48, margin=0.1).crop(image, (30, 30, 70, 70))
        assert np.array_equal(crop, image[26:74, 26:74])
        image = noise(20, 40)
        crop = Preprocessing(size=40, margin=0.5, alignment="eyes").crop(image, None, [(10.0, 10.0), (30.0, 20.0)])
        assert np.array_equal(crop, np.pad(image, ((10, 10), (0, 0), (0, 0)), mode="edge"))

    @given(
        *(st.integers(low, high) for low, high in ((-500, 500), (-500, 500), (4, 40))),
        st.sampled_from([(0, 0), (3, 0), (0, 3)]),
    )
    def test_a_box_in_whole_pixels_gives_a_slice(self, x, y, half, narrower):
        """Outside the picture its edges repeat."""
        image, side = noise(64, 80), 2 * half
        box = (x + narrower[0], y + narrower[1], x + side - narrower[0], y + side - narrower[1])
        crop = Preprocessing(size=side).crop(image, box)
        padded = np.pad(image, ((600, 600), (600, 600), (0, 0)), mode="edge")
        assert np.array_equal(crop, padded[y + 600 : y + 600 + side, x + 600 : x + 600 + side])

    def test_a_crop_moves_with_its_box(self):
        """Also where centre and side are halves: rounding to even numbers would make a moving box jerk."""
        image = noise(60, 120)
        for width, height in ((9, 10), (10, 10), (9, 9), (8.5, 7)):
            nearest = Preprocessing(size=10, interpolation="nearest")
            for x in range(20, 60):
                crop = nearest.crop(image, (x, 20, x + width, 20 + height))
                moved = np.roll(image, 20 - x, axis=1)
                assert np.array_equal(crop, nearest.crop(moved, (20, 20, 20 + width, 20 + height)))

    def test_reduction_averages_areas(self):
        image = noise(64, 64)
        expected = image.reshape(16, 4, 16, 4, 3).astype(np.float64).mean(axis=(1, 3))
        crop = Preprocessing(size=16).crop(image)
        assert np.abs(crop - expected).max() <= 1


@st.composite
def faces(draw):
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    corner = st.floats(-300, 300)
    x1, y1, w, h = draw(corner), draw(corner), draw(st.floats(0.01, 300)), draw(st.floats(0.01, 300))
    points = draw(st.lists(st.tuples(corner, corner), min_size=5, max_size=5))
    return noise(height, width), (x1, y1, x1 + w, y1 + h), points


@given(
    face=faces(),
    size=st.integers(8, 64),
    margin=st.floats(-0.4, 1),
    alignment=st.sampled_from(["none", "eyes"]),
    colour=st.sampled_from(["rgb", "grey"]),
    reduced=st.booleans(),
)
def test_any_box_gives_a_new_array(face, size, margin, alignment, colour, reduced):
    image, box, points = face
    before = image.copy()
    detail = max(8, size // 2) if reduced else None
    preprocessing = Preprocessing(size=size, margin=margin, alignment=alignment, colour=colour, detail=detail)
    crop = preprocessing.crop(image, box, points)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    assert not np.shares_memory(crop, image)
    assert np.array_equal(image, before)
    if colour == "grey":
        assert (crop == crop[:, :, :1]).all()
    elif not reduced and alignment == "none":
        # Nothing but averages of pixels of the picture.
        assert crop.min() >= image.min()
        assert crop.max() <= image.max()


class TestAlignment:
    EYES = np.array([[40.0, 45.0], [60.0, 45.0]])
    CENTRE = np.array([50.0, 55.0])

    def turned(self, degrees):
        """A picture with a face turned clockwise by `degrees` about its centre, and where its eyes went."""
        image = cv2.GaussianBlur(noise(110, 100, 3), (0, 0), 3)
        image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
        centre = (self.CENTRE[0] - 0.5, self.CENTRE[1] - 0.5)
        matrix = cv2.getRotationMatrix2D(centre, -degrees, 1)
        picture = cv2.warpAffine(image, matrix, (100, 110), borderMode=cv2.BORDER_REPLICATE)
        angle = math.radians(degrees)
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return np.asarray(picture, np.uint8), (self.EYES - self.CENTRE) @ rotation.T + self.CENTRE

    @pytest.mark.parametrize("degrees", [-170, -90, -35, -5, 12, 45, 90, 135])
    def test_a_tilted_face_comes_out_upright(self, degrees):
        upright, eyes = self.turned(0)
        tilted, tilted_eyes = self.turned(degrees)
        preprocessing = Preprocessing(size=48, alignment="eyes")
        box = (26, 31, 74, 79)
        expected = preprocessing.crop(upright, box, eyes).astype(int)
        found = preprocessing.crop(tilted, box, tilted_eyes).astype(int)
        assert np.abs(found - expected).mean() < 3
        straight = Preprocessing(size=48).crop(tilted, box, tilted_eyes).astype(int)
        assert np.abs(straight - expected).mean() > 2 * np.abs(found - expected).mean() + 1

    def test_small_tilts_and_quarter_turns(self):
        """The warp's pixel centres and the straight cut's are the same."""
        image = cv2.GaussianBlur(noise(100, 100), (0, 0), 2)
        for box in ((26, 31, 74, 79), (26, 31, 73, 78)):
            eyes = [(40.0, 45.0), (60.0, 45.001)]
            size = int(box[2] - box[0])
            aligned = Preprocessing(size=size, alignment="eyes").crop(image, box, eyes).astype(int)
            assert np.abs(aligned - Preprocessing(size=size).crop(image, box)).max() <= 2
        image = noise(80, 80)
        eyes = [(40.0, 30.0), (40.0, 50.0)]  # the eye on the left of the face lies above the other
        found = Preprocessing(size=40, alignment="eyes").crop(image, (20, 20, 60, 60), eyes).astype(int)
        assert np.abs(found - np.rot90(image[20:60, 20:60])).max() <= 1

    def test_large_faces_are_averaged_and_pictures_may_be_wide(self):
        """3,000 pixels to 48: single-pixel noise must come out as its mean."""
        image = np.zeros((3000, 3000, 3), np.uint8)
        image[::2, ::2] = 255
        eyes = [(1000.0, 1000.0), (2000.0, 1300.0)]
        crop = Preprocessing(size=48, alignment="eyes").crop(image, (100, 100, 2900, 2900), eyes)
        assert abs(crop[8:40, 8:40].astype(float).mean() - 255 / 4) < 4
        image = np.full((40, 40_000, 3), 7, np.uint8)
        eyes = [(39_010.0, 10.0), (39_020.0, 15.0)]
        assert (Preprocessing(size=24, alignment="eyes").crop(image, (39_000, 0, 39_030, 30), eyes) == 7).all()


def test_detail_is_reduced_for_sharp_faces_only():
    image = noise(96, 96)
    crop = Preprocessing(size=96, detail=32).crop(image)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(crop, cv2.resize(small, (96, 96), interpolation=cv2.INTER_LINEAR))
    poor = noise(24, 24)
    assert np.array_equal(Preprocessing(size=96, detail=32).crop(poor), Preprocessing(size=96).crop(poor))


def test_normalisation_per_channel_or_by_contrast():
    crops = noise(8, 8)[None].repeat(2, axis=0)
    preprocessing = Preprocessing(size=8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2))
    found = preprocessing.normalise(crops)
    assert found.shape == (2, 3, 8, 8)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2)]):
        assert np.allclose(found[:, channel], (crops[..., channel] / 255 - mean) / std, atol=1e-6)
    preprocessing = Preprocessing(size=8, contrast="crop")
    bright = noise(8, 8)[None] // 2 * 2
    found = preprocessing.normalise(np.concatenate([bright, bright // 2, bright // 2 + 60]))
    assert np.abs(found.mean(axis=(1, 2, 3))).max() < 1e-5
    assert np.abs(found.std(axis=(1, 2, 3)) - 1).max() < 1e-5
    assert np.abs(found[1:] - found[0]).max() < 1e-4
    # All channels alike: a red face stays redder than a green one.
    assert np.ptp(found[0].mean(axis=(1, 2))) > 0.01


class TestRefused:
    def test_invalid_boxes_pictures_and_landmarks(self):
        boxes = [(0, 0, 0, 10), (0, 10, 10, 10), (10, 0, 0, 10), (0, 0, math.inf, 5), (math.nan, 0, 5, 5)]
        for box in (*boxes, (0, 0, 5), (1, 2, 3, 4, 5)):
            with pytest.raises(EmodetError, match=r"box \("):
                Preprocessing(size=24).crop(noise(20, 20), box)
        shapes = [(20, 20), (20, 20, 4), (0, 20, 3)]
        for image in (*(np.zeros(shape, np.uint8) for shape in shapes), np.zeros((20, 20, 3), np.float32)):
            with pytest.raises(EmodetError, match="image has shape"):
                Preprocessing(size=24).crop(image)
        for landmarks in ([(1.0, 2.0)], [1.0, 2.0, 3.0, 4.0], [(math.nan, 1.0), (2.0, 2.0)]):
            with pytest.raises(EmodetError, match="landmarks of shape"):
                Preprocessing(size=24, alignment="eyes").crop(noise(30, 30), (0, 0, 24, 24), landmarks)
        for alignment in ("none", "eyes"):
            large = Preprocessing(size=24, alignment=alignment, margin=0.5)
            with pytest.raises(EmodetError, match=r"box .* 2000000 pixels wide"):
                large.crop(noise(20, 20), (0, 0, 1e6, 1e6), [(0.0, 0.0), (5.0, 4.0)])

    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("size", [7, 1025, 96.0, "96", True]),
            ("margin", [2.5, -0.5, math.nan, "0.1"]),
            ("alignment", ["nose"]),
            ("colour", ["bgr"]),
            ("detail", [97, 4]),
            ("interpolation", ["area", {}]),
            ("contrast", ["standard"]),
            ("mean", [(0.5,), 0.5, "abc"]),
            ("std", [(0.5, 0, 0.5), (0.5, math.inf, 0.5)]),
        ],
    )
    def test_values_out_of_range_are_named(self, field, values):
        for value in values:
            with pytest.raises(EmodetError, match=rf"preprocessing\.{field}="):
                Preprocessing(**{field: value})


def test_the_fingerprint_depends_on_the_crop_alone():
    other = {"size": 65, "margin": 0.1, "alignment": "eyes", "colour": "grey", "detail": 48, "interpolation": "cubic"}
    base = Preprocessing(size=64)
    crops = [base, *(Preprocessing(**{"size": 64, name: value}) for name, value in other.items())]
    assert len({one.fingerprint() for one in crops}) == 7
    for one in crops:
        again = Preprocessing.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False)))
        assert (again, again.fingerprint()) == (one, one.fingerprint())
    for same in ({"mean": (0, 0, 0), "std": (1, 1, 1)}, {"contrast": "crop"}, {"margin": 0}):
        assert Preprocessing(size=64, **same).fingerprint() == base.fingerprint()
