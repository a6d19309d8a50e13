"""Preparing: what is packed, what is refused, which pictures are unreadable."""

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made_reader import MadeReader, picture, png, records
from PIL import Image

from emodet.data import image_file, unfinished
from emodet.data.pack import Pack
from emodet.data.packing import pack_folder, prepare_pack
from emodet.datasets.readers import open_reader
from emodet.datasets.samples import Reader, Sample
from emodet.datasets.summary import summary
from emodet.synthetic.releases import write_release
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48)


def prepare(reader: MadeReader, packs: Path, **options: object) -> Pack:
    values: dict[str, object] = {"processes": 1, "progress": False} | options
    return prepare_pack(reader, CROP, packs, **values)  # type: ignore[arg-type]


class TestWhatIsPacked:
    def test_without_boxes_the_stored_picture_is_the_crop(self, tmp_path: Path) -> None:
        record = Sample("a/0001", "train", 0, box=(10, 10, 40, 40))
        pack = prepare(MadeReader(tmp_path, [record]), tmp_path / "packs")
        assert np.array_equal(pack.images([0])[0], picture(1))

    def test_with_boxes_the_crop_is_cut_by_the_one_definition(self, tmp_path: Path) -> None:
        preprocessing = Preprocessing(size=24, margin=0.2, alignment="eyes")
        eyes = ((18.0, 20.0), (30.0, 24.0), (25.0, 28.0), (20.0, 33.0), (29.0, 34.0))
        record = Sample("a/0001", "train", 0, box=(10, 12, 40, 38), landmarks=eyes)
        reader = MadeReader(tmp_path, [record])
        pack = prepare_pack(reader, preprocessing, tmp_path / "packs", crop="box", processes=1, progress=False)
        assert np.array_equal(pack.images([0])[0], preprocessing.crop(picture(1), record.box, record.landmarks))

    def test_large_jpegs_with_boxes_keep_their_own_pixels(self, tmp_path: Path) -> None:
        """Without a box a JPEG may be decoded smaller; with one the box is in its own pixels."""
        whole = np.full((400, 400, 3), 30, np.uint8)
        whole[300:380, 300:380] = 220
        file = tmp_path / "a.jpg"
        Image.fromarray(whole).save(file, quality=95)
        record = Sample("a/0001", "train", 0, box=(300, 300, 380, 380))
        reader = MadeReader(tmp_path, [record], {record.key: file.read_bytes()})
        pack = prepare(reader, tmp_path / "packs", crop="box")
        assert pack.images([0]).min() > 200
        other = prepare(reader, tmp_path / "packs")
        assert np.abs(other.images([0])[0, :30, :30].astype(int) - 30).max() < 10
        assert other.folder != pack.folder

    def test_large_jpegs_without_boxes_are_decoded_smaller(self, tmp_path: Path) -> None:
        """A net of 48 pixels needs no more than that; averaging twice changes no smooth picture by much."""
        across = np.linspace(0, 255, 192)[None, :, None]
        whole = np.broadcast_to(across, (192, 192, 3)).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(whole).save(stream, "JPEG", quality=95)
        pack = prepare(MadeReader(tmp_path, records(1), {"train/0000": stream.getvalue()}), tmp_path / "packs")
        assert np.abs(pack.images([0])[0].astype(int) - CROP.crop(whole)).max() <= 3

    def test_the_part_size_means_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        faces = [*records(70, emotion=1), *records(9, "val", 70, emotion=2)]
        broken: dict[str, bytes | None] = {faces[row].key: b"" for row in (0, 33, 78)}
        one = prepare(MadeReader(tmp_path, faces, broken), tmp_path / "one", max_unreadable=0.1)
        monkeypatch.setattr("emodet.data.parts.PART_BYTES", 10 * 48 * 48 * 3)
        eight = prepare(MadeReader(tmp_path, faces, broken), tmp_path / "eight", max_unreadable=0.1)
        assert [shard["faces"] for shard in eight.manifest["shards"]] == [8, 10, 10, 9, 10, 10, 10, 9]
        assert len(one.manifest["shards"]) == 1
        assert one.fingerprint == eight.fingerprint
        assert one.manifest["unreadable"] == eight.manifest["unreadable"]
        assert np.array_equal(one.images(range(76)), eight.images(range(76)))
        rows = np.random.default_rng(0).integers(0, 76, 200)
        assert np.array_equal(one.images(rows), eight.images(rows))
        eight.verify()

    def test_identical_pictures_in_two_splits_are_counted(self, tmp_path: Path) -> None:
        faces = [*records(4, "train", 0, emotion=1), *records(3, "val", 2, emotion=1)]
        pack = prepare(MadeReader(tmp_path, faces), tmp_path / "packs")
        assert pack.manifest["identical_across_splits"] == {"groups": 2, "faces": 4}
        assert "2 pictures occur in more than one split (4 faces)" in summary(pack.manifest)

    def test_the_folder_changes_with_what_matters(self, tmp_path: Path) -> None:
        reader, packs = MadeReader(tmp_path, records(1)), tmp_path / "packs"
        base = pack_folder(reader, CROP, "image", packs)
        assert base == pack_folder(reader, Preprocessing(size=48, mean=(0, 0, 0)), "image", packs)
        others = [
            pack_folder(reader, Preprocessing(size=48, colour="grey"), "image", packs),
            pack_folder(reader, CROP, "box", packs),
            pack_folder(MadeReader(tmp_path / "b", []), CROP, "image", packs),
        ]
        assert len({base, *others}) == 4


class TestUnreadable:
    def faces(self, tmp_path: Path, bad: int, count: int = 200) -> MadeReader:
        damage: list[bytes | None] = [None, b"", b"text", png(picture(0))[:200]]
        faces = records(count, emotion=1)
        pictures = {faces[number * 7].key: damage[number % 4] for number in range(bad)}
        return MadeReader(tmp_path, faces, pictures)

    def test_up_to_one_percent_are_listed_and_left_out(self, tmp_path: Path) -> None:
        pack = prepare(self.faces(tmp_path, 2), tmp_path / "packs")
        assert len(pack) == 198
        assert [entry["key"] for entry in pack.manifest["unreadable"]] == ["train/0000", "train/0007"]
        assert "No such file" in pack.manifest["unreadable"][0]["reason"]
        assert "empty" in pack.manifest["unreadable"][1]["reason"]
        rest = [number for number in range(200) if number not in (0, 7)]
        assert pack.table.key.tolist() == [f"train/{number:04d}" for number in rest]
        assert np.array_equal(pack.images(range(198)), np.stack([picture(number) for number in rest]))
        pack.verify()
        assert "unreadable: train/0007: train/0007: the file is empty" in summary(pack.manifest)

    def test_more_stop_with_their_names_and_leave_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(EmodetError) as caught:
            prepare(self.faces(tmp_path, 3), tmp_path / "packs")
        message = str(caught.value)
        assert "more than 1.0% of the 200 pictures cannot be read (data.max_unreadable=0.01)" in message
        for name in ("train/0000", "train/0007", "train/0014"):
            assert name in message
        assert list((tmp_path / "packs").iterdir()) == []

    def test_more_are_allowed_when_asked_for(self, tmp_path: Path) -> None:
        pack = prepare(self.faces(tmp_path, 28), tmp_path / "packs", max_unreadable=0.14)
        assert len(pack) == 172
        text = summary(pack.manifest)
        assert text.count("unreadable: ") == 21
        assert "8 more, listed in manifest.json" in text

    def test_bombs_pipes_and_giants_are_unreadable(self, tmp_path: Path) -> None:
        """Nothing of them is decoded, waited for or read into memory."""

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        pixels = zlib.compress(bytes(10**6))
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
        root = tmp_path / "root"
        root.mkdir()
        (root / "0000.png").write_bytes(bomb)
        os.mkfifo(root / "0001.png")
        with (root / "0002.png").open("wb") as giant:
            giant.truncate(2**40)
        (root / "0003.png").symlink_to("/dev/zero")
        (root / "0004.png").mkdir()
        (root / "0005.png").write_bytes(png(picture(5)))

        class OnDisk(MadeReader):
            file_of = Reader.file_of
            encoded = Reader.encoded

        faces = [Sample(f"{number:04d}.png", "train", 1) for number in range(6)]
        pack = prepare(OnDisk(root, faces), tmp_path / "packs", max_unreadable=0.9)
        assert pack.table.key.tolist() == ["0005.png"]
        reasons = [entry["reason"] for entry in pack.manifest["unreadable"]]
        for reason, told in zip(
            reasons, ("more pixels than the limit", "a pipe", "1,099,511,627,776", "a device", "a folder"), strict=True
        ):
            assert told in reason

    def test_one_of_a_few_is_more_than_one_percent(self, tmp_path: Path) -> None:
        with pytest.raises(EmodetError, match="cannot be read"):
            prepare(self.faces(tmp_path, 1, 60), tmp_path / "packs")

    def test_no_picture_at_all(self, tmp_path: Path) -> None:
        """A release whose images are not there."""
        faces = records(9, emotion=1)
        reader = MadeReader(tmp_path, faces, {face.key: None for face in faces})
        with pytest.raises(EmodetError, match="cannot be read"):
            prepare(reader, tmp_path / "packs")
        with pytest.raises(EmodetError, match="none of the 9 pictures can be read"):
            prepare(reader, tmp_path / "packs", max_unreadable=1)
        assert list((tmp_path / "packs").iterdir()) == []


class TestRefused:
    @pytest.mark.parametrize(
        ("option", "value", "message"),
        [
            ("crop", "face", "data.crop='face': there are image and box"),
            ("crop", "box", "2 of 2 faces have no box; use data.crop=image"),
            ("max_unreadable", -0.1, r"data.max_unreadable=-0.1"),
            ("max_unreadable", 5, r"data.max_unreadable=5"),
            ("processes", 0, "data.processes=0"),
        ],
    )
    def test_arguments(self, tmp_path: Path, option: str, value: object, message: str) -> None:
        with pytest.raises(EmodetError, match=message):
            prepare(MadeReader(tmp_path, records(2)), tmp_path / "packs", **{option: value})
        assert not (tmp_path / "packs").exists()

    def test_no_face(self, tmp_path: Path) -> None:
        with pytest.raises(EmodetError, match="no face in it"):
            prepare(MadeReader(tmp_path, []), tmp_path / "packs")

    def test_something_else_in_its_place(self, tmp_path: Path) -> None:
        reader = MadeReader(tmp_path, records(2))
        folder = pack_folder(reader, CROP, "image", tmp_path / "packs")
        folder.mkdir(parents=True)
        (folder / "images-00000.npy").write_bytes(b"half")
        with pytest.raises(EmodetError, match=r"lies something else .* delete it"):
            prepare(reader, tmp_path / "packs")
        assert (folder / "images-00000.npy").read_bytes() == b"half"

    def test_packs_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "packs").write_text("a file")
        with pytest.raises(EmodetError, match=r"data\.packs=.*writing the pack failed"):
            prepare(MadeReader(tmp_path, records(2)), tmp_path / "packs")


def test_a_pack_that_is_there_is_opened_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = MadeReader(tmp_path, records(4))
    first = prepare(reader, tmp_path / "packs")
    times = {file: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    monkeypatch.setattr(MadeReader, "read", lambda _: pytest.fail("was read again"))
    assert prepare(reader, tmp_path / "packs").fingerprint == first.fingerprint
    assert {file: file.stat().st_mtime_ns for file in first.folder.iterdir()} == times


def test_an_older_pack_is_named_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = MadeReader(tmp_path, records(3))
    old = pack_folder(reader, CROP, "image", tmp_path / "packs", version=1)
    old.mkdir(parents=True)
    pack = prepare(reader, tmp_path / "packs")
    assert f"{old} is a pack of version 1" in caplog.text
    assert old.is_dir()
    assert pack.folder != old


def test_without_the_calls_that_only_linux_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS allocates and counts its cores otherwise; Windows has no such locks; some file systems know no links."""

    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    expected = prepare(MadeReader(tmp_path, records(6)), tmp_path / "packs")
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(unfinished, "_locking", False)
    found = prepare(MadeReader(tmp_path, records(6)), tmp_path / "other", processes=None)
    assert found.fingerprint == expected.fingerprint
    assert [file.name for file in (tmp_path / "other").iterdir()] == [found.folder.name]
    assert found.folder.stat().st_mode == expected.folder.stat().st_mode


class TestImageFile:
    @pytest.mark.parametrize("kept", [[], [0], [9], [1, 2, 8], list(range(10))])
    def test_closing_gaps(self, tmp_path: Path, kept: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(image_file, "_ROWS_MOVED_AT_ONCE", 2)
        file = image_file.ImageFile(tmp_path / "a.npy", 10, 8, 3)
        file.create()
        crops = np.stack([picture(number, 8) for number in range(10)])
        file.write(4, crops[4:])
        file.write(0, crops[:4])
        assert np.array_equal(np.load(file.path), crops)
        file.keep(kept)
        assert np.array_equal(np.load(file.path), crops[kept])

    def test_any_number_of_rows_has_a_header_of_one_length(self) -> None:
        lengths = {len(image_file.ImageFile(Path("a"), rows, 96, 3)._header()) for rows in (0, 1, 10, 10**6, 10**12)}
        assert len(lengths) == 1


@pytest.mark.parametrize("layout", ["affectnet_csv", "affectnet_npy", "yolo", "ferplus"])
def test_every_layout_goes_in(tmp_path: Path, layout: str) -> None:
    faces = {"train": 16, "val": 8}
    reader = open_reader(write_release(tmp_path / layout, layout, faces, size=48))  # type: ignore[arg-type]
    pack = prepare_pack(reader, CROP, tmp_path / "packs", processes=1, progress=False)
    assert len(pack) == 24
    assert pack.manifest["reader"] == layout
    assert json.loads(json.dumps(pack.manifest)) == pack.manifest
    text = summary(pack.manifest)
    assert "train" in text
    if reader.expected:
        assert "were published; by class: " in text
    if layout.startswith("affectnet_csv"):
        boxed = prepare_pack(reader, CROP, tmp_path / "packs", crop="box", processes=1, progress=False)
        assert boxed.fingerprint != pack.fingerprint
