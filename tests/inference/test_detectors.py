import hashlib
import io
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest

from emodet.errors import EmodetError
from emodet.inference import yunet
from emodet.inference.detectors import find_faces, make_detector
from emodet.inference.faces import Detection, overlap

SHARED = Path(__file__).parents[2].parent / "shared" / "detectors" / "face_detection_yunet_2023mar.onnx"


@pytest.fixture(scope="module")
def centerface():
    return make_detector("centerface", threads=1)


FACE = (178.0, 58.0, 271.0, 178.0)
SHARES = (0.05, 0.1, 0.3, 0.5, 0.7, 0.85, 1.0)


@pytest.fixture(scope="module", params=["centerface", "yunet"])
def detector(request):
    """Each detector whose weights are at hand."""
    if request.param == "yunet":
        if not SHARED.is_file():
            pytest.skip("YuNet's weights are not at hand")
        return make_detector(f"yunet:{SHARED}")
    return make_detector("centerface", threads=1)


def framed(image, share, side=640, at=(0.5, 0.5)):
    """The astronaut with the face's height at `share` of the side and its centre at `at`; and the face's box."""
    scale = share * side / (FACE[3] - FACE[1])
    shift = side * np.array(at) - scale * np.array([FACE[0] + FACE[2], FACE[1] + FACE[3]]) / 2
    small = image
    if scale < 1:
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    matrix = np.array([[max(1, scale), 0, shift[0]], [0, max(1, scale), shift[1]]])
    picture = cv2.warpAffine(small, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return picture, tuple((np.array(FACE).reshape(2, 2) * scale + shift).ravel())


@pytest.mark.parametrize(
    ("share", "side", "at", "least"),
    [
        *((share, 640, (0.5, 0.5), 0.55) for share in SHARES),
        *(pytest.param(share, 1600, (0.5, 0.5), 0.55, marks=pytest.mark.slow) for share in SHARES),
        *((0.4, 640, at, 0.4) for at in ((0.1, 0.5), (0.9, 0.5), (0.5, 0.9))),  # cut by the border
    ],
)
def test_a_face_of_any_size_and_place_is_found_once(detector, astronaut, share, side, at, least):
    image, box = framed(astronaut, share, side, at)
    (face,) = find_faces(detector, image)
    assert overlap(face.box, box) > least
    assert face.landmarks is not None


def test_a_large_and_a_small_face_are_two(detector, astronaut):
    image, large = framed(astronaut, 0.7, at=(0.6, 0.5))
    image[:200, :200], small = framed(astronaut, 0.3, 200)
    found = sorted(find_faces(detector, image), key=lambda face: face.side)
    assert [overlap(face.box, box) > 0.5 for face, box in zip(found, (small, large), strict=True)] == [True, True]


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_wrong_landmarks_of_a_turned_face_are_replaced(centerface, astronaut, quarters):
    """YuNet gives lying and upside-down faces the landmarks of an upright one."""

    class Upright:
        name = description = "upright"
        min_score, sure_score = 0.5, 0.9

        def __call__(self, image_rgb, *, longest_side, min_score=None):
            (face,) = centerface(image_rgb, longest_side=longest_side)
            x1, y1, x2, y2 = face.box
            width, height = x2 - x1, y2 - y1
            places = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.75), (0.65, 0.75))
            points = tuple((x1 + x * width, y1 + y * height) for x, y in places)
            return (Detection(face.box, points, 0.8),)

    (face,) = find_faces(Upright(), np.ascontiguousarray(np.rot90(astronaut[:256, 96:352], quarters)))
    (ax, ay), (bx, by) = face.landmarks[:2]
    roll = np.degrees(np.arctan2(by - ay, bx - ax))
    assert abs((roll + 90 * quarters + 180) % 360 - 180) < 15


def test_landmarks_of_turned_faces(detector, astronaut):
    """At quarter turns, as of pictures that lost their EXIF, the face is found."""
    found = []
    for angle in range(0, 360, 15):
        matrix = cv2.getRotationMatrix2D((128, 128), -angle, 0.8)
        picture = cv2.warpAffine(astronaut[:256, 96:352], matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE)
        for face in find_faces(detector, picture):
            for ((ax, ay), (bx, by)), most in ((face.landmarks[:2], 45), (face.landmarks[3:], 90)):
                assert abs((np.degrees(np.arctan2(by - ay, bx - ax)) - angle + 180) % 360 - 180) < most, angle
            found.append(angle)
    assert {0, 90, 180, 270} <= set(found)
    assert len(found) >= 16


def test_a_headlamp_is_no_face_but_a_lower_threshold_returns_unconfirmed_ones(detector):
    data = pytest.importorskip("skimage.data")
    left, right, _ = data.stereo_motorcycle()
    for image in (left, right, data.coffee(), data.cat()):
        assert find_faces(detector, image) == ()
    # Faces to hide: below the detector's own threshold they are not recognised.
    found = [face for image in (left, right) for face in find_faces(detector, image, min_score=0.3)]
    assert found
    assert all(0.3 <= face.score < detector.min_score for face in found)


def test_threads_get_the_faces_of_their_own_pictures(detector, astronaut):
    pictures = [np.roll(astronaut[:400, :400], 40 * step, axis=1) for step in range(4)]
    alone = [detector(picture, longest_side=200) for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda index: detector(pictures[index % 4], longest_side=200), range(60)))
    for index, found in enumerate(together):
        assert found == alone[index % 4]


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (15, 15), (16, 16), (33, 200), (240, 320)])
def test_pictures_without_a_face_give_nothing(centerface, shape):
    for value in (0, 127, 255):
        assert centerface(np.full((*shape, 3), value, dtype=np.uint8), longest_side=320) == ()


def test_auto_takes_yunet_if_its_weights_are_installed(detector, monkeypatch):
    if detector.name == "yunet":
        monkeypatch.setenv("EMODET_YUNET", str(SHARED))
    assert make_detector("auto").name == detector.name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *(("retina", "centerface"), ("centerface:x.onnx", "only yunet")),
        *(("yunet:{tmp}/none.onnx", "no such file"), ("yunet:{tmp}/wrong.onnx", "cannot load")),
        *(("auto", "EMODET_YUNET"), ("yunet", "EMODET_YUNET")),  # named, it is not passed over in silence
    ],
)
def test_unknown_names_and_missing_or_wrong_weights(name, words, tmp_path, monkeypatch):
    (tmp_path / "wrong.onnx").write_bytes(b"not weights")
    monkeypatch.setenv("EMODET_YUNET", str(tmp_path / "none.onnx"))
    level = cv2.utils.logging.getLogLevel()
    with pytest.raises(EmodetError, match=words):
        make_detector(name.format(tmp=tmp_path))
    assert cv2.utils.logging.getLogLevel() == level


def test_a_download_is_checked_kept_and_not_repeated(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = mock.Mock(side_effect=lambda url, timeout: io.BytesIO(b"weights"))
    monkeypatch.setattr(urllib.request, "urlopen", asked)
    with pytest.raises(EmodetError, match="SHA-256"):
        yunet.weights()
    assert yunet.installed_weights() is None
    monkeypatch.setattr(yunet, "SHA256", hashlib.sha256(b"weights").hexdigest())
    path = yunet.weights()
    assert path.read_bytes() == b"weights"
    assert yunet.weights() == path
    assert asked.call_count == 2
    path.write_bytes(b"damaged")
    assert yunet.installed_weights() is None
    # Offline the message says what to do.
    asked.side_effect = OSError("no route to host")
    with pytest.raises(EmodetError, match=r"no route.*EMODET_YUNET.*centerface"):
        make_detector("yunet")
