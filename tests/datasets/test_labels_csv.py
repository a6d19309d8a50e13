"""The export with labels.csv: two sources of labels that do not always agree."""

from on_disk import error_of, faces, has_note, put_files, put_lines, read

from emodet.datasets.readers import open_reader

HEADER = ",pth,label,relFCs"
ROWS = ["anger/image0000006.jpg,surprise", "anger/image0000007.jpg,anger", "contempt/image0000006.jpg,contempt"]


def put(root, *rows, pictures=None, header=HEADER):
    """Each row is ``path,label``; its picture is put below `root` unless others are given."""
    put_files(root, *(pictures if pictures is not None else [row.split(",")[0] for row in rows]))
    put_lines(root / "labels.csv", header, *(f"{number},{row},0.87" for number, row in enumerate(rows)))
    return root


def test_the_label_source_decides_and_agreement_is_reported(tmp_path):
    reader = open_reader(put(tmp_path, *ROWS))
    listing = reader.read()
    # One base name in two folders: the key is the whole path.
    assert faces(listing) == {
        "anger/image0000006.jpg": ("train", "surprise"),
        "anger/image0000007.jpg": ("train", "anger"),
        "contempt/image0000006.jpg": ("train", "contempt"),
    }
    assert has_note(listing, "the csv", "2 of 3", "66.7%")
    assert has_note(listing, "3 (29,042)")
    other = open_reader(tmp_path, label_source="folder")
    assert faces(other.read())["anger/image0000006.jpg"] == ("train", "anger")
    assert has_note(other.read(), "the folder", "2 of 3")
    assert reader.options() != other.options()
    assert reader.encoded(listing.samples[0]) == b"anger/image0000006.jpg"
    assert all(part in error_of(tmp_path, label_source="both") for part in ("label_source='both'", "csv, folder"))


def test_pictures_that_are_not_listed_or_not_there(tmp_path):
    rows = [f"anger/image{number}.jpg,anger" for number in range(20)]
    put(tmp_path, *rows, pictures=[f"anger/image{number}.jpg" for number in range(1, 22)])
    listing = read(tmp_path)
    assert listing.left_out == {"picture is not there": 1, "picture that labels.csv does not list": 2}
    assert has_note(listing, "anger/image20.jpg, anger/image21.jpg")
    for number in range(1, 4):
        (tmp_path / f"anger/image{number}.jpg").unlink()
    assert all(part in error_of(tmp_path) for part in ("labels.csv", "4 of 20", "image0.jpg"))
