"""The 2017 release: every variant of its lists and folders that people hold gives the same faces."""

import contextlib
import csv
import io
import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emodet.datasets.affectnet_csv import AffectNetCsv
from emodet.errors import EmodetError

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
LANDMARKS = ";".join(f"{i}.0;{2 * i}.0" for i in range(1, 69))
PICTURES = "Manually_Annotated/Manually_Annotated_Images"
LISTS = "Manually_Annotated_file_lists"


def row(path, expression, *, box="10,20,100,110", valence="0.25", arousal="-0.5"):
    return f"{path},{box},{LANDMARKS},{expression},{valence},{arousal}"


TRAIN = [row("2/aa.jpg", 1), row("10/bb.jpg", 0), row("10/cc.JPG", 6, valence="-2", arousal="-2")]
VAL = [row("3/dd.png", 7), row("3/ee.jpg", 2)]


def put_list(root, rows, name="training.csv", folder=LISTS, header=HEADER, encoding="utf-8"):
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*([header] if header else []), *rows]) + "\n", encoding=encoding)
    return path


def put_pictures(root, rows, folder=PICTURES):
    for line in rows:
        path = root / folder / line.split(",")[0].replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())


def release(root, train=TRAIN, val=VAL):
    put_list(root, train)
    put_list(root, val, "validation.csv")
    put_pictures(root, [*train, *val])
    return root


def by_key(listing):
    return {record.key: record for record in listing.samples}


def test_reads_the_release_as_it_is_distributed(tmp_path):
    reader = AffectNetCsv(release(tmp_path))
    listing = reader.read()
    assert [(r.key, r.split, r.emotion) for r in listing.samples] == [
        ("10/bb.jpg", "train", 0),
        ("10/cc.JPG", "train", 6),
        ("2/aa.jpg", "train", 1),
        ("3/dd.png", "val", 7),
        ("3/ee.jpg", "val", 2),
    ]
    assert listing.left_out == {}
    face = by_key(listing)["2/aa.jpg"]
    assert face.box == (10, 20, 110, 130)
    assert (face.valence, face.arousal) == (0.25, -0.5)
    assert face.landmarks is None
    assert [reader.encoded(r) for r in listing.samples] == [b"bb.jpg", b"cc.JPG", b"aa.jpg", b"dd.png", b"ee.jpg"]


def test_minus_two_is_no_valence(tmp_path):
    listing = AffectNetCsv(release(tmp_path)).read()
    face = by_key(listing)["10/cc.JPG"]
    assert (face.valence, face.arousal) == (None, None)
    assert any("1 faces have no valence" in note for note in listing.notes)


def test_a_pickled_reader_still_finds_pictures(tmp_path):
    reader = AffectNetCsv(release(tmp_path))
    record = reader.read().samples[0]
    assert pickle.loads(pickle.dumps(reader)).encoded(record) == b"bb.jpg"
    assert AffectNetCsv(tmp_path).encoded(record) == b"bb.jpg"


@pytest.mark.parametrize(
    "header", [HEADER, "#" + HEADER, "# " + HEADER, None], ids=["plain", "hash", "hash space", "none"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_validation_lists_with_and_without_a_header(tmp_path, header, encoding):
    release(tmp_path)
    put_list(tmp_path, VAL, "validation.csv", header=header, encoding=encoding)
    val = [r for r in AffectNetCsv(tmp_path).read().samples if r.split == "val"]
    assert [(r.key, r.emotion, r.box) for r in val] == [
        ("3/dd.png", 7, (10, 20, 110, 130)),
        ("3/ee.jpg", 2, (10, 20, 110, 130)),
    ]


@pytest.mark.parametrize("header", [True, False])
def test_index_and_unnamed_columns_of_files_saved_again(tmp_path, header):
    plain = AffectNetCsv(release(tmp_path)).read()
    rows = [f"{i},{line}" for i, line in enumerate(TRAIN)]
    put_list(tmp_path, rows, header="," + HEADER if header else None)
    assert AffectNetCsv(tmp_path).read().samples == plain.samples
    if header:
        put_list(tmp_path, [f"{line},x" for line in rows], header=f"Unnamed: 0,{HEADER},Unnamed: 10")
        assert AffectNetCsv(tmp_path).read().samples == plain.samples


def test_columns_are_found_by_name_in_any_order(tmp_path):
    plain = AffectNetCsv(release(tmp_path)).read()
    names = HEADER.split(",")
    order = sorted(range(len(names)), key=lambda i: names[i])
    rows = [",".join(line.split(",")[i] for i in order) for line in TRAIN]
    put_list(tmp_path, rows, header=",".join(names[i] for i in order))
    assert AffectNetCsv(tmp_path).read().samples == plain.samples


def test_whole_numbers_that_became_decimals(tmp_path):
    release(tmp_path)
    put_list(tmp_path, [row("2/aa.jpg", "3.0", box="10.0,20.0,100.0,110.0")])
    assert by_key(AffectNetCsv(tmp_path).read())["2/aa.jpg"].emotion == 3


def test_faces_of_no_emotion_are_counted_by_name(tmp_path):
    rows = [
        *TRAIN,
        row("4/n1.jpg", 8),
        row("4/n2.jpg", 8),
        row("4/u.jpg", 9),
        row("4/f.jpg", 10, box="NULL,NULL,NULL,NULL"),
    ]
    release(tmp_path, train=rows)
    listing = AffectNetCsv(tmp_path).read()
    assert listing.left_out == {"none": 2, "uncertain": 1, "no-face": 1}
    kept = AffectNetCsv(tmp_path, keep_none=True).read()
    assert kept.left_out == {"uncertain": 1, "no-face": 1}
    assert by_key(kept)["4/n1.jpg"].emotion is None
    assert by_key(kept)["4/n1.jpg"].valence == 0.25


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("NULL,NULL,NULL,NULL", "box is NULL or negative"),
        (",,,", "box is NULL or negative"),
        ("-1,-1,-1,-1", "box is NULL or negative"),
        ("5,5,0,40", "box is NULL or negative"),
        ("5,5,9,40", "box under 10 pixels"),
        ("-35,5,44,40", "box under 10 pixels"),
    ],
)
def test_unusable_boxes_are_left_out_with_their_reason(tmp_path, box, reason):
    release(tmp_path, train=[*TRAIN, row("5/x.jpg", 1, box=box)])
    listing = AffectNetCsv(tmp_path).read()
    assert listing.left_out == {reason: 1}
    assert len(listing.samples) == 5


def test_a_box_that_begins_outside_is_clamped(tmp_path):
    release(tmp_path, train=[row("5/x.jpg", 1, box="-5,-7,100,90")])
    assert by_key(AffectNetCsv(tmp_path).read())["5/x.jpg"].box == (0, 0, 95, 83)


def test_five_landmarks_of_68(tmp_path):
    release(tmp_path)
    reader = AffectNetCsv(tmp_path, landmarks=True)
    # Point i lies at (i, 2 i): eye centres are the means of 37..42 and 43..48, then 31, 49 and 55.
    assert by_key(reader.read())["2/aa.jpg"].landmarks == ((39.5, 79), (45.5, 91), (31, 62), (49, 98), (55, 110))
    assert reader.options() == {"automatic": False, "keep_none": False, "landmarks": True}


def test_landmarks_that_are_missing_or_wrong(tmp_path):
    release(tmp_path, train=[TRAIN[0].replace(LANDMARKS, "NULL")])
    assert AffectNetCsv(tmp_path, landmarks=True).read().samples[0].landmarks is None
    put_list(tmp_path, [TRAIN[0].replace(LANDMARKS, "1;2;3")])
    assert AffectNetCsv(tmp_path).read().samples
    with pytest.raises(EmodetError, match=r"training.csv, line 2: .*3 numbers instead of 136"):
        AffectNetCsv(tmp_path, landmarks=True).read()


@pytest.mark.parametrize("lists", ["", "Manually_Annotated", "Manually_Annotated/" + LISTS, "label"])
@pytest.mark.parametrize(
    "pictures",
    ["", "Manually_Annotated", "Manually_Annotated/Manually_Annotated/Manually_Annotated_Images", "a/b/images"],
)
def test_nesting_is_searched(tmp_path, lists, pictures):
    put_list(tmp_path, TRAIN, folder=lists)
    put_list(tmp_path, VAL, "validation.csv", folder=lists)
    put_pictures(tmp_path, [*TRAIN, *VAL], folder=pictures)
    reader = AffectNetCsv(tmp_path)
    assert [r.key for r in reader.read().samples] == ["10/bb.jpg", "10/cc.JPG", "2/aa.jpg", "3/dd.png", "3/ee.jpg"]


def test_each_split_in_a_folder_of_its_own_and_other_list_names(tmp_path):
    put_list(tmp_path, TRAIN, "Manually_training.csv", folder="train")
    put_list(tmp_path, VAL, "Manually_validation.csv", folder="val")
    put_pictures(tmp_path, TRAIN, folder="train")
    put_pictures(tmp_path, VAL, folder="val")
    reader = AffectNetCsv(tmp_path)
    assert [reader.encoded(r) for r in reader.read().samples] == [b"bb.jpg", b"cc.JPG", b"aa.jpg", b"dd.png", b"ee.jpg"]


def test_a_release_one_folder_further_down(tmp_path):
    release(tmp_path / "AffectNet")
    assert AffectNetCsv.recognises(tmp_path)
    assert len(AffectNetCsv(tmp_path).read().samples) == 5


def test_backslashes_and_the_other_case_of_an_extension(tmp_path):
    release(tmp_path)
    put_list(tmp_path, [TRAIN[0].replace("2/aa.jpg", "2\\aa.JPG"), TRAIN[1], TRAIN[2].replace(".JPG", ".jpg")])
    reader = AffectNetCsv(tmp_path)
    records = by_key(reader.read())
    assert reader.encoded(records["2/aa.JPG"]) == b"aa.jpg"
    assert reader.encoded(records["10/cc.jpg"]) == b"cc.JPG"


def test_few_missing_pictures_are_left_out_and_named(tmp_path):
    rows = [row(f"7/{i:02}.jpg", i % 8) for i in range(30)]
    release(tmp_path, train=rows)
    (tmp_path / PICTURES / "7/11.jpg").unlink()
    listing = AffectNetCsv(tmp_path).read()
    assert listing.left_out == {"picture is not there": 1}
    assert len(listing.samples) == 31
    assert any("7/11.jpg" in note for note in listing.notes)


def test_pictures_that_are_not_there_stop(tmp_path):
    rows = [row(f"7/{i:02}.jpg", i % 8) for i in range(30)]
    release(tmp_path, train=rows)
    for i in range(4):
        (tmp_path / PICTURES / f"7/{i:02}.jpg").unlink()
    with pytest.raises(EmodetError, match=r"training.csv: of a sample of 30 listed pictures 26 .*not there: 7/00.jpg"):
        AffectNetCsv(tmp_path).read()


def test_pictures_missing_outside_the_sample_stop_as_well(tmp_path):
    rows = [row(f"7/{i:04}.jpg", i % 8) for i in range(2000)]
    release(tmp_path, train=rows)
    for i in range(1, 602, 2):  # the sample takes every second row
        (tmp_path / PICTURES / f"7/{i:04}.jpg").unlink()
    with pytest.raises(EmodetError, match=r"301 of 2,000 listed pictures are not"):
        AffectNetCsv(tmp_path).read()


def test_a_picture_listed_twice_stays_a_validation_face(tmp_path):
    release(tmp_path, train=[*TRAIN, VAL[0], TRAIN[0]])
    listing = AffectNetCsv(tmp_path).read()
    assert listing.left_out == {"listed more than once": 2}
    assert by_key(listing)["3/dd.png"].split == "val"
    assert len({r.key for r in listing.samples}) == len(listing.samples) == 5


def test_without_a_validation_list_there_are_training_faces_only(tmp_path):
    put_list(tmp_path, TRAIN)
    put_pictures(tmp_path, TRAIN)
    listing = AffectNetCsv(tmp_path).read()
    assert {r.split for r in listing.samples} == {"train"}
    assert "There is no validation.csv, so no val faces." in listing.notes


def test_the_automatically_annotated_part(tmp_path):
    release(tmp_path)
    automatic = [row("2/aa.jpg", 5), row("9/zz.jpg", 4)]
    put_list(tmp_path, automatic, "automatically_annotated.csv", folder="Automatically_Annotated_file_lists")
    put_pictures(tmp_path, automatic, folder="Automatically_Annotated/Automatically_Annotated_Images")
    assert len(AffectNetCsv(tmp_path).read().samples) == 5
    reader = AffectNetCsv(tmp_path, automatic=True)
    listing = reader.read()
    assert [(r.key, r.split, r.emotion) for r in listing.samples] == [
        ("3/dd.png", "val", 7),
        ("3/ee.jpg", "val", 2),
        ("automatic/2/aa.jpg", "train", 5),
        ("automatic/9/zz.jpg", "train", 4),
    ]
    assert reader.encoded(listing.samples[3]) == b"zz.jpg"
    assert reader.expected["train"]["happiness"] == 246_235
    assert AffectNetCsv.expected["train"]["happiness"] == 134_415


def test_only_the_other_part_is_there(tmp_path):
    release(tmp_path / "manual")
    with pytest.raises(EmodetError, match=r"automatic=True asks for automatically_annotated\.csv"):
        AffectNetCsv(tmp_path / "manual", automatic=True).read()
    put_list(tmp_path / "auto", TRAIN, "automatically_annotated.csv")
    with pytest.raises(EmodetError, match="automatic=True reads it"):
        AffectNetCsv(tmp_path / "auto").read()


def test_expected_counts_add_up_to_the_published_totals():
    assert sum(AffectNetCsv.expected["train"].values()) == 287_651
    assert sum(AffectNetCsv.expected["val"].values()) == 4_000


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/passwd.jpg", "C:\\Bilder\\a.jpg", "2/../../../a.jpg", "..\\a.jpg"]
)
def test_a_path_that_leaves_the_root_is_refused(tmp_path, path):
    release(tmp_path)
    put_list(tmp_path, [*TRAIN, row(path, 1)])
    with pytest.raises(EmodetError, match=r"training.csv, line 5: the path .* leaves the folder"):
        AffectNetCsv(tmp_path).read()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (row("2/aa.jpg", 11), "line 3: expression='11' is not an id from 0 to 10"),
        (row("2/aa.jpg", "happy"), "line 3: 'happy' is not a number"),
        (row("2/aa.jpg", ""), "line 3: expression='' is not an id"),
        (row("2/aa.jpg", 1, box="10,20,wide,110"), "line 3: 'wide' is not a number"),
        (row("2/aa.jpg", 1, box="10,20,inf,110"), "line 3: 'inf' is out of any range"),
        (row("", 1), "line 3: '' is not the path of a picture"),
        ("2/aa.jpg,1,2,3", "line 3: 4 columns where the first line has 9"),
        ('"2/aa.jpg,1,2,3', "line 3: not CSV"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, line, message):
    release(tmp_path)
    put_list(tmp_path, [TRAIN[1], line, TRAIN[2]])
    with pytest.raises(EmodetError) as caught:
        AffectNetCsv(tmp_path).read()
    assert message in str(caught.value)
    assert "training.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (HEADER, [], "the list has no rows"),
        (HEADER.replace("expression", "label"), TRAIN, "the header lacks expression"),
        (HEADER.replace("face_width", "w"), TRAIN, "the header lacks face_width"),
        (HEADER, [row("2/aa.jpg", 9)], "no face with one of the eight emotions"),
    ],
)
def test_a_list_that_is_of_no_use(tmp_path, header, rows, message):
    put_list(tmp_path, rows, header=header)
    with pytest.raises(EmodetError, match=message):
        AffectNetCsv(tmp_path).read()


def test_quoted_cells_and_line_ends_of_other_systems(tmp_path):
    plain = AffectNetCsv(release(tmp_path)).read()
    quoted = [",".join(f'"{cell}"' for cell in line.split(",")) for line in TRAIN]
    path = put_list(tmp_path, [*quoted, ""])
    assert AffectNetCsv(tmp_path).read().samples == plain.samples
    for end in ("\r\n", "\r"):
        path.write_bytes(end.join([HEADER, *quoted[:1], *TRAIN[1:], ""]).encode())
        assert AffectNetCsv(tmp_path).read().samples == plain.samples


def test_another_encoding_is_named(tmp_path):
    release(tmp_path)
    (tmp_path / LISTS / "training.csv").write_bytes(HEADER.encode() + b"\n" + TRAIN[0].encode() + b"\n\xff\xfe\n")
    with pytest.raises(EmodetError, match="not UTF-8"):
        AffectNetCsv(tmp_path).read()


@pytest.mark.parametrize("content", ["emotion,pixels,Usage\n0,1 2 3,Training\n", "", "a,b\n1,2\n", "\n\n"])
def test_other_lists_of_the_same_name_are_not_this_release(tmp_path, content):
    (tmp_path / "training.csv").write_text(content)
    assert not AffectNetCsv.recognises(tmp_path)
    with pytest.raises(EmodetError, match="subDirectory_filePath"):
        AffectNetCsv(tmp_path)


def test_labels_in_another_order_raise_a_doubt(tmp_path):
    def rows(sad):
        happy = [row(f"1/h{i}.jpg", 1, valence="0.7", arousal="0.1") for i in range(60)]
        return happy + [row(f"1/s{i}.jpg", sad, valence="-0.6", arousal="-0.3") for i in range(60)]

    release(tmp_path, train=rows(2))
    assert not any("order" in note for note in AffectNetCsv(tmp_path).read().notes)
    put_list(tmp_path, rows(3))
    doubts = [note for note in AffectNetCsv(tmp_path).read().notes if "order" in note]
    assert len(doubts) == 1
    assert "surprise has mean valence -0.60" in doubts[0]


cells = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["2/aa.jpg", "NULL", "", "-2", "8", "3", "1e999", "nan", "..", '"', LANDMARKS, "\0", "a" * 300]),
    st.integers(-(10**30), 10**30).map(str),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.one_of(st.just(HEADER), st.just("#" + HEADER), st.text(max_size=60), st.just(TRAIN[0])),
    rows=st.lists(st.lists(cells, min_size=9, max_size=9), max_size=3),
    tail=st.text(max_size=60),
    well_written=st.booleans(),
    landmarks=st.booleans(),
)
def test_whatever_the_list_holds_only_an_emodet_error_comes_out(tmp_path, head, rows, tail, well_written, landmarks):
    release(tmp_path)
    body = io.StringIO()
    if well_written:
        csv.writer(body).writerows(rows)
    else:
        body.write("\n".join(",".join(line) for line in rows) + tail)
    path = Path(tmp_path) / LISTS / "training.csv"
    path.write_bytes(f"{head}\n{body.getvalue()}".encode(errors="replace"))
    with contextlib.suppress(EmodetError):
        AffectNetCsv(tmp_path, landmarks=landmarks).read()
