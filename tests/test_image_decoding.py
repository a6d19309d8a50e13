"""The decoder: every kind of picture that people hold, and every way in which a file can be broken."""

import io
import random
import re
import struct
import time
import warnings
from itertools import product

import cv2
import numpy as np
import pytest
from made_commands import python
from made_files import encoded, png_bomb
from PIL import ExifTags, Image

from emodet.errors import EmodetError
from emodet.images import decode_rgb, load_rgb

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def corners(height=24, width=40):
    """Red upper left, green upper right, blue lower left, grey lower right: no two turns look alike."""
    image = np.full((height, width, 3), 120, np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    return image


def near(found, expected, tolerance=12):
    """Equal away from the borders between colours, where JPEG smears."""
    if found.shape != expected.shape:
        return False
    h, w = expected.shape[0] // 8, expected.shape[1] // 8
    spots = [(y, x) for y in (h, -h - 1) for x in (w, -w - 1)]
    return all(np.abs(found[y, x].astype(int) - expected[y, x]).max() <= tolerance for y, x in spots)


@pytest.mark.parametrize(
    ("kind", "options", "exact"),
    [
        ("PNG", {}, True),
        ("BMP", {}, True),
        ("TIFF", {}, True),
        ("TIFF", {"compression": "tiff_lzw"}, True),
        ("PPM", {}, True),
        ("WEBP", {"lossless": True}, True),
        ("JPEG2000", {}, True),
        ("JPEG2000", {"no_jp2": True}, True),
        ("AVIF", {"quality": 95}, False),
        ("JPEG", {"quality": 95, "subsampling": 0}, False),
        ("JPEG", {"quality": 90, "progressive": True}, False),
        ("GIF", {}, False),
    ],
)
def test_colour_pictures_come_out_in_rgb_order(kind, options, exact):
    image = corners()
    found = decode_rgb(encoded(Image.fromarray(image), kind, **options))
    assert found.dtype == np.uint8
    assert np.array_equal(found, image) if exact else near(found, image)
    assert found.flags.writeable


def test_cmyk_and_16_bit_colour():
    assert near(decode_rgb(encoded(Image.fromarray(corners()).convert("CMYK"), "JPEG", quality=95)), corners(), 16)
    _, data = cv2.imencode(".png", (corners()[:, :, ::-1].astype(np.uint16) * 257))
    assert np.array_equal(decode_rgb(data.tobytes()), corners())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(mode):
    rgba = np.zeros((3, 3, 4), np.uint8)
    rgba[0, :, 3] = 255
    rgba[1, :, 3] = 128
    found = decode_rgb(encoded(Image.fromarray(rgba, "RGBA").convert(mode)))
    assert (found[0] == 0).all()
    assert (np.abs(found[1].astype(int) - 127) <= 1).all()
    assert (found[2] == 255).all()
    palette = Image.new("P", (4, 2), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((3, 1), 1)
    found = decode_rgb(encoded(palette, transparency=0))
    assert (tuple(found[0, 0]), tuple(found[1, 3])) == ((255, 255, 255), (200, 100, 50))
    found = decode_rgb(encoded(Image.fromarray(corners()), transparency=RED))
    assert (tuple(found[0, 0]), tuple(found[0, -1])) == ((255, 255, 255), GREEN)


@pytest.mark.parametrize("most", [65535, 20000, 250])
def test_16_bit_grey_is_scaled_by_its_type_not_by_its_content(most):
    """A dark 16-bit picture stays dark."""
    wide = np.linspace(0, most, 64).astype(np.uint16).reshape(8, 8)
    expected = np.round(wide / 65535 * 255).astype(int)
    for data in (encoded(Image.fromarray(wide)), encoded(Image.fromarray(wide), "TIFF")):
        found = decode_rgb(data)
        assert found.shape == (8, 8, 3)
        assert np.abs(found - expected[:, :, None]).max() <= 1
    inverted = encoded(Image.fromarray(65535 - wide), "TIFF", tiffinfo={262: 0})  # white is 0
    assert np.abs(decode_rgb(inverted) - expected[:, :, None]).max() <= 1
    pnm = b"P5 8 8 65535\n" + wide.astype(">u2").tobytes()
    assert np.abs(decode_rgb(pnm) - expected[:, :, None]).max() <= 1


@pytest.mark.parametrize("most", [1.0, 255.0, 65535.0])
def test_floating_point_tiff_and_pnm(most):
    values = np.linspace(0, most, 64, dtype=np.float32).reshape(8, 8)
    for data in (encoded(Image.fromarray(values), "TIFF"), b"Pf 8 8 -1.0\n" + values[::-1].tobytes()):
        found = decode_rgb(data)
        assert np.abs(found[:, :, 0] - values / most * 255).max() <= 1
    colour = cv2.imencode(".tif", np.zeros((8, 8, 3), np.float32))[1].tobytes()
    with pytest.raises(EmodetError, match=r"a\.tif: .* PNG"):
        decode_rgb(colour, name="a.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
    upright = corners()
    # How the stored picture must lie so that its orientation turns it upright (EXIF 2.32, section 4.6.4).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored))
    assert np.array_equal(decode_rgb(encoded(picture, exif=exif)), upright)
    assert near(decode_rgb(encoded(picture, "JPEG", quality=95, exif=exif)), upright, 25)


def test_the_first_picture_of_an_animation(caplog):
    first, second = Image.fromarray(corners()), Image.new("RGB", (40, 24))
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(first, kind, save_all=True, append_images=[second], duration=50)
        assert near(decode_rgb(data, name=f"a.{kind}"), corners(), 40)
        assert f"a.{kind}" in caplog.text


def test_heic_without_its_package_names_the_extra():
    """In a process of its own: this one remembers that it has the package."""
    code = "import sys; sys.modules['pillow_heif'] = None\nfrom emodet.images import decode_rgb\n"
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    done = python("-c", f"{code}decode_rgb({data!r}, name='a.heic')")
    assert re.search(r"EmodetError: a\.heic: .*pip install 'emodet\[heic\]'", done.stderr)


def test_heic_with_its_package():
    pillow_heif = pytest.importorskip("pillow_heif")
    stream, turned = io.BytesIO(), Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # to be shown a quarter to the right
    pillow_heif.from_pillow(Image.fromarray(corners(96, 160))).save(stream, quality=95, exif=turned.tobytes())
    assert near(decode_rgb(stream.getvalue()), np.rot90(corners(96, 160), -1))


def test_every_kind_of_input_becomes_the_same_array(tmp_path):
    path = tmp_path / "ä ö=1.png"
    Image.fromarray(corners()).save(path)
    for image in (path, str(path), path.read_bytes(), Image.open(path), corners()):
        assert np.array_equal(load_rgb(image), corners())
    for wrong in ([[1, 2]], None, np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(EmodetError, match="RGB"):
            load_rgb(wrong)
    with pytest.raises(EmodetError, match="none"):
        load_rgb(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("shape", "least", "factor"),
    [
        *(((400, 808), least, 8) for least in (24, 50)),
        *(((400, 808), least, 4) for least in (51, 100)),
        *(((400, 808), least, 2) for least in (101, 200)),
        *(((400, 808), least, 1) for least in (201, 400, 1000)),
        # Sides that do not divide are not stretched.
        *(((425, 400), 48, 1), ((426, 402), 48, 2), ((404, 804), 48, 4), ((404, 802), 48, 2)),
    ],
)
def test_a_jpeg_s_shorter_side_stays_at_least_as_long_as_asked(shape, least, factor):
    found = decode_rgb(encoded(Image.fromarray(corners(*shape)), "JPEG"), least_side=least)
    assert found.shape[:2] == (shape[0] // factor, shape[1] // factor)
    assert near(found, cv2.resize(corners(*shape), found.shape[1::-1], interpolation=cv2.INTER_AREA), 8)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("shape", [(224, 224), (225, 301), (16, 8), (7, 9), (1, 1)])
def test_quick_decoding_gives_the_same_pixels(mode, shape):
    """JPEGs without EXIF and the like go to OpenCV, which is faster."""
    picture, exif = Image.fromarray(corners(*shape)).convert(mode), Image.Exif()
    exif[0x0112] = 6
    kinds = [{"quality": q, "subsampling": s, "progressive": p} for q in (30, 95) for s in (0, 1, 2) for p in (0, 1)]
    files = [encoded(picture, "JPEG", **kind) for kind in (*kinds, {"exif": exif}, {"keep_rgb": True})]
    files += [files[0][:-2], files[0] + b"appended by a phone", encoded(picture, "TIFF")]
    for data, least in product(files, (None, 8, 96)):
        found = decode_rgb(data, least_side=least, quick=True)
        assert np.array_equal(found, decode_rgb(data, least_side=least))
        assert found.flags.writeable
        assert found.flags.c_contiguous


class TestBroken:
    @pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"\x00" * 100, b"\xff\xd8\xff", b"%PDF-1.4"])
    def test_no_picture(self, data):
        with pytest.raises(EmodetError, match=r"a\.jpg: (not an image|damaged|the file is empty)"):
            decode_rgb(data, name="a.jpg")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF"])
    @pytest.mark.parametrize("kept", [0.5, 0.9])
    def test_cut_off(self, kind, kept):
        """Never filled up with grey."""
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        data = encoded(Image.fromarray(noise), kind)
        with pytest.raises(EmodetError, match=r"a: (damaged or cut off|not an image)"):
            decode_rgb(data[: int(len(data) * kept)], name="a")

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_pictures_beyond_the_limit_of_pixels_are_not_decoded(self):
        for side in (60_000, 12_000, 9_000):
            with pytest.raises(EmodetError, match="64,000,000"):
                decode_rgb(png_bomb(side, side))
        for kind in ("PNG", "JPEG", "JPEG2000"):
            data = encoded(Image.fromarray(corners(30, 30)), kind)
            assert decode_rgb(data, max_pixels=900).shape == (30, 30, 3)
            with pytest.raises(EmodetError, match=r"30×30 .* 899; raise max_pixels"):
                decode_rgb(data, max_pixels=899)

    @pytest.mark.parametrize("quick", [True, False])
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_jpegs_that_decoders_fill_with_grey(self, quick, mode):
        """An end marker in front of the rest, and zeros in place of data."""
        noise = np.random.default_rng(1).integers(0, 256, (20, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(cv2.resize(noise, (320, 200), interpolation=cv2.INTER_CUBIC)).convert(mode)
        data = encoded(picture, "JPEG", quality=85)
        middle = len(data) * 2 // 3
        zeros = data[: middle - 100] + bytes(200) + data[middle + 100 :]
        for damaged in (data[:middle] + b"\xff\xd9" + data[middle:], zeros):
            with pytest.raises(EmodetError, match=r"a\.jpg: damaged"):
                decode_rgb(damaged, name="a.jpg", quick=quick)
        assert decode_rgb(data, quick=quick).shape == (200, 320, 3)

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
    def test_a_jpeg_cut_anywhere_is_refused(self, options):
        """Also within a marker, between restart intervals and between scans, of which the first show it blurred."""
        noise = np.random.default_rng(2).integers(0, 256, (5, 8, 3), dtype=np.uint8)
        data = encoded(Image.fromarray(cv2.resize(noise, (80, 48))), "JPEG", quality=85, **options)
        scan = data.rindex(b"\xff\xda") if "progressive" in options else len(data) - 60
        for end, tail in [(at, b"") for at in range(2, len(data) - 3)] + [(at, b"\xff\xd9") for at in range(2, scan)]:
            with pytest.raises(EmodetError, match=r"a: (damaged|not an image)"):
                decode_rgb(data[:end] + tail, name="a", quick=end % 2 == 0)
        assert decode_rgb(data).shape == (48, 80, 3)

    @pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
    @pytest.mark.parametrize("value", [0, 127, 128, 255])
    def test_flat_jpegs_are_not_taken_for_damaged(self, value, options):
        """128 is the grey of missing data, and flat areas are stored as zeros."""
        image = np.full((600, 800, 3), value, np.uint8)
        assert np.abs(decode_rgb(encoded(Image.fromarray(image), "JPEG", **options)).astype(int) - value).max() <= 1

    def test_a_jpeg_without_its_end_marker_is_read_with_a_warning(self, caplog):
        data = encoded(Image.fromarray(corners()), "JPEG")
        assert np.array_equal(decode_rgb(data[:-2], name="a.jpg"), decode_rgb(data))
        assert "a.jpg" in caplog.text

    def test_pictures_that_take_seconds_to_decode_are_refused(self):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        progressive = encoded(Image.fromarray(noise), "JPEG", progressive=True)
        last = progressive.rindex(b"\xff\xda")
        scans = progressive[:last] + progressive[last:-2] * 1500 + b"\xff\xd9"
        rle = struct.pack("<2sIII IiiHHIIiiII", b"BM", 1096, 0, 1078, 40, 8_000_000, 4, 1, 8, 1, 18, 0, 0, 256, 0)
        for data, words in ((scans, "scans"), (rle + bytes(1042), "BMP")):
            start = time.process_time()
            for quick in (True, False):
                with pytest.raises(EmodetError, match=words):
                    decode_rgb(data, quick=quick)
            assert time.process_time() - start < 2

    def test_any_bytes_give_a_picture_or_an_emodet_error(self):
        """2,000 files with a few bytes changed, most of them near the start where the structure lies."""
        rng = random.Random(0)
        noise = np.random.default_rng(0).integers(0, 256, (20, 26, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "maker"
        files = [encoded(picture, kind, exif=exif) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
        files += [encoded(picture, kind) for kind in ("GIF", "BMP", "PPM", "JPEG2000", "AVIF")]
        files += [encoded(picture.quantize()), encoded(picture, "TIFF", compression="tiff_lzw")]
        decoded = 0
        for _ in range(2000):
            data = bytearray(rng.choice(files))
            for _ in range(rng.randint(1, 6)):
                data[rng.randrange(min(len(data), 300))] = rng.choice([0, 1, 255, rng.randrange(256)])
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = decode_rgb(bytes(data))
            except EmodetError:
                continue
            assert (found.dtype, found.shape[2:]) == (np.uint8, (3,))
            decoded += 1
        assert 100 < decoded < 1900

    @pytest.mark.filterwarnings("ignore:.*:UserWarning")
    def test_damaged_exif_leaves_the_pixels(self):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = 6, "maker"
        data = bytearray(encoded(Image.fromarray(corners()), "JPEG", exif=exif))
        start = data.index(b"Exif\x00\x00") + 6
        for place in range(start, start + 40):
            for value in (0, 1, 2, 3, 4, 5, 7, 10, 12, 128, 255):
                changed = bytes(data[:place]) + bytes([value]) + bytes(data[place + 1 :])
                assert sorted(decode_rgb(changed).shape) == [3, 24, 40]
