"""AffectNet 2017: every variant of its lists and folders that people hold gives the same faces."""

import pytest
from on_disk import error_of, faces, has_note, put_files, put_lines, read

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


def put_list(root, rows, name="training.csv", folder=LISTS, header=HEADER, encoding="utf-8"):
    return put_lines(root / folder / name, *([header] if header else []), *rows, encoding=encoding)


def put_pictures(root, rows, folder=PICTURES):
    put_files(root / folder, *(line.split(",")[0].replace("\\", "/") for line in rows))


def release(root, train=TRAIN, val=VAL):
    put_list(root, train)
    put_list(root, val, "validation.csv")
    put_pictures(root, [*train, *val])
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


@pytest.mark.parametrize("header", [HEADER, f"#{HEADER}", f"# {HEADER}", None])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_with_and_without_a_header_in_any_unicode(tmp_path, header, encoding):
    plain = read(release(tmp_path))
    put_list(tmp_path, VAL, "validation.csv", header=header, encoding=encoding)
    assert read(tmp_path).samples == plain.samples


def test_index_and_unnamed_columns_and_another_order_of_columns(tmp_path):
    plain = read(release(tmp_path))
    indexed = [f"{i},{line}" for i, line in enumerate(TRAIN)]
    names = HEADER.split(",")
    order = sorted(range(len(names)), key=lambda i: names[i])
    for header, rows in (
        (f",{HEADER}", indexed),
        (None, indexed),
        (f"Unnamed: 0,{HEADER},Unnamed: 10", [f"{line},x" for line in indexed]),
        (",".join(names[i] for i in order), [",".join(line.split(",")[i] for i in order) for line in TRAIN]),
        (HEADER, [",".join(f'"{cell}"' for cell in line.split(",")) for line in TRAIN]),
        (HEADER, [line.replace("10,20,100,110", "10.0,20.0,100.0,110.0").replace(",1,0", ",1.0,0") for line in TRAIN]),
    ):
        put_list(tmp_path, rows, header=header)
        assert read(tmp_path).samples == plain.samples


def test_faces_of_no_emotion_are_counted_by_name(tmp_path):
    no_face = row("4/f.jpg", 10, box="NULL,NULL,NULL,NULL")
    release(tmp_path, train=[*TRAIN, row("4/n1.jpg", 8), row("4/n2.jpg", 8), row("4/u.jpg", 9), no_face])
    assert read(tmp_path).left_out == {"none": 2, "uncertain": 1, "no-face": 1}
    kept = read(tmp_path, keep_none=True)
    assert kept.left_out == {"uncertain": 1, "no-face": 1}
    assert (by_key(kept)["4/n1.jpg"].emotion, by_key(kept)["4/n1.jpg"].valence) == (None, 0.25)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        *((box, "box is NULL or negative") for box in ("NULL,NULL,NULL,NULL", ",,,", "-1,-1,-1,-1", "5,5,0,40")),
        *((box, "box under 10 pixels") for box in ("5,5,9,40", "-35,5,44,40")),
    ],
)
def test_unusable_boxes_are_left_out_with_their_reason(tmp_path, box, reason):
    listing = read(release(tmp_path, train=[*TRAIN, row("5/x.jpg", 1, box=box)]))
    assert listing.left_out == {reason: 1}
    assert list(faces(listing)) == KEYS


def test_a_box_that_begins_outside_is_clamped(tmp_path):
    release(tmp_path, train=[row("5/x.jpg", 1, box="-5,-7,100,90")])
    assert by_key(read(tmp_path))["5/x.jpg"].box == (0, 0, 95, 83)


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


@pytest.mark.parametrize("lists", ["", "Manually_Annotated", f"Manually_Annotated/{LISTS}", "label"])
@pytest.mark.parametrize("pictures", ["", "Manually_Annotated", f"Manually_Annotated/{PICTURES}", "a/b/images"])
def test_nesting_is_searched(tmp_path, lists, pictures):
    put_list(tmp_path, TRAIN, folder=lists)
    put_list(tmp_path, VAL, "validation.csv", folder=lists)
    put_pictures(tmp_path, [*TRAIN, *VAL], folder=pictures)
    assert list(faces(read(tmp_path))) == KEYS


def test_each_split_in_a_folder_of_its_own(tmp_path):
    for rows, name, folder in ((TRAIN, "Manually_training.csv", "train"), (VAL, "Manually_validation.csv", "val")):
        put_list(tmp_path, rows, name, folder=folder)
        put_pictures(tmp_path, rows, folder=folder)
    reader = open_reader(tmp_path)
    assert [reader.encoded(sample).decode() for sample in reader.read().samples] == KEYS


def test_backslashes_and_the_other_case_of_an_extension(tmp_path):
    release(tmp_path)
    put_list(tmp_path, [TRAIN[0].replace("2/aa.jpg", "2\\aa.JPG"), TRAIN[1], TRAIN[2].replace(".JPG", ".jpg")])
    reader = open_reader(tmp_path)
    samples = by_key(reader.read())
    assert [reader.encoded(samples[key]) for key in ("2/aa.JPG", "10/cc.jpg")] == [b"2/aa.jpg", b"10/cc.JPG"]


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


class TestOnePictureTwice:
    def test_it_stays_a_validation_face(self, tmp_path):
        listing = read(release(tmp_path, train=[*TRAIN, VAL[0], TRAIN[0]]))
        assert listing.left_out == {"listed more than once": 2}
        assert faces(listing)["3/dd.png"] == ("val", "contempt")
        assert list(faces(listing)) == KEYS

    @pytest.mark.parametrize("other", [3, 8, 10])
    def test_with_two_labels_it_is_left_out_and_named(self, tmp_path, other):
        release(tmp_path, train=[*TRAIN, row("2/aa.jpg", other)])
        listing = read(tmp_path)
        assert "2/aa.jpg" not in faces(listing)
        assert listing.left_out["listed with two labels"] == (2 if other == 3 else 1)
        assert sum(listing.left_out.values()) == 2
        assert has_note(listing, "two labels", "2/aa.jpg")

    def test_with_another_label_in_training_the_validation_face_stays(self, tmp_path):
        listing = read(release(tmp_path, train=[*TRAIN, row("3/dd.png", 0)]))
        assert faces(listing)["3/dd.png"] == ("val", "contempt")
        assert listing.left_out == {"listed with two labels": 1}


def test_without_a_validation_list_there_are_training_faces_only(tmp_path):
    put_list(tmp_path, TRAIN)
    put_pictures(tmp_path, TRAIN)
    assert {split for split, _ in faces(read(tmp_path)).values()} == {"train"}
    assert has_note(read(tmp_path), "validation.csv")


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


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (row("2/aa.jpg", 11), "11"),
        (row("2/aa.jpg", "happy"), "happy"),
        (row("2/aa.jpg", ""), "expression=''"),
        (row("2/aa.jpg", 1, box="10,20,wide,110"), "wide"),
        (row("2/aa.jpg", 1, box="10,20,inf,110"), "inf"),
        ("2/aa.jpg,1,2,3", "4 columns"),
        ('"2/aa.jpg,1,2,3', "not CSV"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, line, value):
    release(tmp_path)
    put_list(tmp_path, [TRAIN[1], line, TRAIN[2]])
    assert all(part in error_of(tmp_path) for part in ("training.csv, line 3", value))


UNREADABLE = {
    "empty": b"",
    "blank": b"\n\n",
    "header only": HEADER.encode() + b"\n",
    "semicolons": "\n".join([HEADER, *TRAIN]).replace(",", ";").encode(),
    "tabs without a header": "\n".join(TRAIN).replace(",", "\t").encode(),
    "UTF-16 without a mark": "\n".join([HEADER, *TRAIN]).encode("utf-16-le"),
    "Latin-1": "\n".join([HEADER, *TRAIN, row("2/ä.jpg", 1)]).encode("latin-1"),
    "cut header": HEADER[:60].encode(),
    "no expression": HEADER.replace("expression", "label").encode() + b"\n",
    "half a box": HEADER.replace("face_width", "w").encode() + b"\n",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("name", ["training.csv", "validation.csv"])
@pytest.mark.parametrize("alone", [True, False])
def test_a_list_that_is_not_understood_is_an_error_that_names_it(tmp_path, content, name, alone):
    release(tmp_path)
    put_files(tmp_path, "happy/a.jpg", "sad/b.jpg")  # no other reader may take over
    if alone:
        (tmp_path / LISTS / ("validation.csv" if name == "training.csv" else "training.csv")).unlink()
    (tmp_path / LISTS / name).write_bytes(content)
    assert name in error_of(tmp_path)


def test_a_list_of_another_data_set_is_no_sign(tmp_path):
    for content in ("emotion,pixels,Usage\n0,1 2 3,Training\n", "a,b\n1,2\n"):
        (tmp_path / "training.csv").write_text(content)
        assert not AffectNetCsv.recognises(tmp_path)
        assert "subDirectory_filePath" in error_of(tmp_path, "affectnet_csv")


def test_labels_in_another_order_raise_a_doubt(tmp_path):
    happy = [row(f"1/h{i}.jpg", 1, valence="0.7", arousal="0.1") for i in range(60)]
    for sad, doubts in ((2, False), (3, True)):
        rows = [*happy, *(row(f"1/s{i}.jpg", sad, valence="-0.6", arousal="-0.3") for i in range(60))]
        assert has_note(read(release(tmp_path, train=rows)), "order", "surprise") == doubts
