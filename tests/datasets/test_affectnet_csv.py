"""AffectNet 2017: lists with boxes, landmarks, valence and arousal; what is left out, and the automatic part."""

import pytest
from made_files import put_text
from on_disk import error_of, faces, has_note, put_files, read

from emodet.datasets.affectnet_csv import AffectNetCsv
from emodet.datasets.readers import open_reader
from emodet.datasets.summary import listing_summary

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
LANDMARKS = ";".join(f"{i}.0;{2 * i}.0" for i in range(1, 69))
PICTURES = "Manually_Annotated/Manually_Annotated_Images"
LISTS = "Manually_Annotated_file_lists"


def row(path, expression, *, box="10,20,100,110", valence="0.25", arousal="-0.5"):
    return f"{path},{box},{LANDMARKS},{expression},{valence},{arousal}"


TRAIN = [row("2/aa.jpg", 1), row("10/bb.jpg", 0), row("10/cc.JPG", 6, valence="-2", arousal="-2")]
VAL = [row("3/dd.png", 7), row("3/ee.jpg", 2)]
KEYS = ["10/bb.jpg", "10/cc.JPG", "2/aa.jpg", "3/dd.png", "3/ee.jpg"]


def put_list(root, rows, name="training.csv", folder=LISTS):
    return put_text(root / folder / name, HEADER, *rows)


def put_pictures(root, rows, folder=PICTURES):
    put_files(root / folder, *(line.split(",")[0] for line in rows))


def release(root, train=TRAIN):
    put_list(root, train)
    put_list(root, VAL, "validation.csv")
    put_pictures(root, [*train, *VAL])
    return root


def by_key(listing):
    return {sample.key: sample for sample in listing.samples}


def test_reads_the_release_as_it_is_distributed(tmp_path):
    reader = open_reader(release(tmp_path))
    listing = reader.read()
    assert list(faces(listing).items()) == [
        ("10/bb.jpg", ("train", "neutral")),
        ("10/cc.JPG", ("train", "anger")),
        ("2/aa.jpg", ("train", "happiness")),
        ("3/dd.png", ("val", "contempt")),
        ("3/ee.jpg", ("val", "sadness")),
    ]
    assert not listing.left_out
    face = by_key(listing)["2/aa.jpg"]
    assert (face.box, face.valence, face.arousal, face.landmarks) == ((10, 20, 110, 130), 0.25, -0.5, None)
    # -2 is "not annotated".
    assert by_key(listing)["10/cc.JPG"].valence is None
    assert has_note(listing, "1 faces have no valence")
    for copy in (reader, open_reader(tmp_path)):
        assert [copy.encoded(sample).decode() for sample in listing.samples] == KEYS


def test_five_landmarks_of_68(tmp_path):
    reader = open_reader(release(tmp_path), landmarks=True)
    # Point i lies at (i, 2 i): eye centres are the means of 37..42 and 43..48, then 31, 49 and 55.
    assert by_key(reader.read())["2/aa.jpg"].landmarks == ((39.5, 79), (45.5, 91), (31, 62), (49, 98), (55, 110))
    assert "landmarks all" in listing_summary(reader, reader.read())
    assert "landmarks not read (" in listing_summary(open_reader(tmp_path), open_reader(tmp_path).read())
    assert reader.options() == {"automatic": False, "keep_none": False, "landmarks": True}
    put_list(tmp_path, [TRAIN[0].replace(LANDMARKS, "NULL")])
    assert by_key(read(tmp_path, landmarks=True))["2/aa.jpg"].landmarks is None
    put_list(tmp_path, [TRAIN[0].replace(LANDMARKS, "1;2;3")])
    assert "training.csv, line 2" in error_of(tmp_path, landmarks=True)
    assert "2/aa.jpg" in faces(read(tmp_path))


def test_few_missing_pictures_are_counted_and_named_and_many_stop(tmp_path):
    release(tmp_path, train=[row(f"7/{i:04}.jpg", i % 8) for i in range(2000)])
    (tmp_path / PICTURES / "7/0011.jpg").unlink()
    listing = read(tmp_path)
    assert (listing.left_out, len(listing.samples)) == ({"picture is not there": 1}, 2001)
    assert has_note(listing, "7/0011.jpg")
    for i in range(1, 602, 2):  # the sample that finds the folder takes every second row
        (tmp_path / PICTURES / f"7/{i:04}.jpg").unlink(missing_ok=True)
    assert all(part in error_of(tmp_path) for part in ("training.csv", "301 of 2,000", "7/0001.jpg"))
    for i in range(0, 602, 2):
        (tmp_path / PICTURES / f"7/{i:04}.jpg").unlink()
    assert "7/0000.jpg" in error_of(tmp_path)


def test_the_automatically_annotated_part(tmp_path):
    release(tmp_path)
    assert "automatic" in error_of(tmp_path, automatic=True)
    automatic = [row("2/aa.jpg", 5), row("9/zz.jpg", 4)]
    put_list(tmp_path, automatic, "automatically_annotated.csv", folder="Automatically_Annotated_file_lists")
    put_pictures(tmp_path, automatic, folder="Automatically_Annotated/Automatically_Annotated_Images")
    assert list(faces(read(tmp_path))) == KEYS
    reader = open_reader(tmp_path, automatic=True)
    assert faces(reader.read()) == {
        "3/dd.png": ("val", "contempt"),
        "3/ee.jpg": ("val", "sadness"),
        "automatic/2/aa.jpg": ("train", "disgust"),
        "automatic/9/zz.jpg": ("train", "fear"),
    }
    assert reader.encoded(reader.read().samples[3]) == b"9/zz.jpg"
    assert (reader.expected["train"]["fear"], AffectNetCsv.expected["train"]["fear"]) == (3_799, 6_378)
    for name in ("training.csv", "validation.csv"):
        (tmp_path / LISTS / name).unlink()
    assert "automatic=True" in error_of(tmp_path)


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd.jpg", "C:\\Bilder\\a.jpg", "2/../../../a.jpg", "..\\a.jpg", ""]
)
def test_a_path_that_leaves_the_root_is_refused(tmp_path, path):
    release(tmp_path)
    put_list(tmp_path, [*TRAIN, row(path, 1)])
    assert all(part in error_of(tmp_path) for part in ("training.csv, line 5", repr(path)))


def test_control_characters_that_an_error_quotes_are_escaped(tmp_path):
    (release(tmp_path) / LISTS / "training.csv").write_bytes(b"\x1b[31mpath\x07,\xc2\x9bx\n")
    error = error_of(tmp_path)
    assert error.isprintable()
    assert all(part in error for part in ("training.csv", r"\x1b[31mpath\x07", r"\x9bx"))


def test_labels_in_another_order_raise_a_doubt(tmp_path):
    happy = [row(f"1/h{i}.jpg", 1, valence="0.7", arousal="0.1") for i in range(60)]
    for sad, doubts in ((2, False), (3, True)):
        rows = [*happy, *(row(f"1/s{i}.jpg", sad, valence="-0.6", arousal="-0.3") for i in range(60))]
        assert has_note(read(release(tmp_path, train=rows)), "order", "surprise") == doubts
