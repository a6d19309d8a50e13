"""A release that changes: while it is packed and afterwards, in its lists, its folders and its pictures."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_reader import picture, png

from emodet.data import changes as changes_module
from emodet.data import packing as packing_module
from emodet.data.changes import Changes, check_release, looks_changed
from emodet.datasets.own_csv import OwnCsv
from emodet.data.pack import Pack
from emodet.data.packing import Packing
from emodet.datasets.samples import Sample
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

Rows = list[tuple[str, str]]


def write_list(root: Path, rows: Rows) -> None:
    with (root / "faces.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "emotion"), *rows])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve pictures in two folders, and a list."""
    rows = []
    for number in range(12):
        file = tmp_path / "release" / f"{number % 2}" / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(picture(number)))
        rows.append((f"{number % 2}/{number:02d}.png", ("happy", "sad")[number % 2]))
    write_list(tmp_path / "release", rows)
    return tmp_path / "release"


def packing(root: Path) -> Packing:
    return Packing(
        reader=OwnCsv(root),
        preprocessing=Preprocessing(size=48),
        packs=root.parent / "packs",
        processes=1,
        progress=False,
        max_unreadable=0.1,
    )


@pytest.fixture
def pack(root: Path) -> Pack:
    return packing(root).whole()


def found(root: Path, pack: Pack, *, thorough: bool = False) -> Changes:
    work = packing(root)
    return check_release(pack, work.cropper, work.packs, thorough=thorough)


def rows_of(root: Path) -> Rows:
    with (root / "faces.csv").open(newline="") as stream:
        return [(path, emotion) for path, emotion in csv.reader(stream)][1:]


class TestAfterwards:
    def test_nothing(self, root: Path, pack: Pack) -> None:
        assert not looks_changed(pack, root)
        assert not found(root, pack, thorough=True)

    def test_another_label(self, root: Path, pack: Pack) -> None:
        write_list(root, [("0/00.png", "fear"), *rows_of(root)[1:]])
        changes = found(root, pack)
        assert changes.annotated == ["0/00.png"]
        assert str(changes) == "1 face is annotated otherwise (0/00.png)"

    def test_more_and_fewer_faces(self, root: Path, pack: Pack) -> None:
        (root / "0" / "new.png").write_bytes(png(picture(99)))
        write_list(root, [*rows_of(root)[4:], ("0/new.png", "sad")])
        changes = found(root, pack)
        assert changes.new == ["0/new.png"]
        assert sorted(changes.gone) == ["0/00.png", "0/02.png", "1/01.png", "1/03.png"]
        assert "1 face is new (0/new.png); 4 faces are no longer listed (" in str(changes)
        assert ", …)" in str(changes)

    @pytest.mark.parametrize("how", ["another", "of the same size", "damaged"])
    def test_another_picture(self, root: Path, pack: Pack, how: str) -> None:
        """Overwritten in place it leaves no trace in its folder: only looking at each picture notices."""
        file = root / "1" / "03.png"
        size = file.stat().st_size
        data = png(picture(77)) if how == "another" else png(picture(3)[::-1].copy())
        data = b"" if how == "damaged" else data + b"\0" * (size - len(data)) if how == "of the same size" else data
        file.write_bytes(data)
        os.utime(file, ns=(0, 0))
        assert not found(root, pack)
        assert found(root, pack, thorough=True).pictures == ["1/03.png"]

    def test_a_picture_that_was_replaced(self, root: Path, pack: Pack) -> None:
        """As most programs write: a new file under the old name."""
        other = root / "1" / "other"
        other.write_bytes(png(picture(77)))
        other.replace(root / "1" / "03.png")
        assert found(root, pack).pictures == ["1/03.png"]

    def test_a_picture_that_is_gone(self, root: Path, pack: Pack) -> None:
        (root / "1" / "03.png").unlink()
        assert found(root, pack).gone == ["1/03.png"]

    def test_times_alone_change_nothing(self, root: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
        """A copy of a release may have other times: its crops are cut again and compared, of many of them a sample."""
        for file in root.rglob("*"):
            os.utime(file, ns=(1, 1))
        assert looks_changed(pack, root)
        assert not found(root, pack)
        # Noted, so that the next use need not look again.
        assert not looks_changed(pack, root)
        monkeypatch.setattr(changes_module, "_CUT_AGAIN", 3)
        cut = changes_module._hash_of
        keys: list[str] = []
        monkeypatch.setattr(changes_module, "_hash_of", lambda c, r: (keys.append(r.key), cut(c, r))[1])
        assert not found(root, pack, thorough=True)
        assert keys == ["0/00.png", "0/10.png", "1/11.png"]

    def test_what_lies_beside_does_not_matter(self, root: Path, pack: Pack) -> None:
        (root / "Thumbs.db").write_bytes(b"1")
        (root / ".hidden").mkdir()
        (root / "notes.txt").write_text("hello")
        assert not found(root, pack)
        assert not looks_changed(pack, root)
        (root / "notes.txt").write_text("hello, again")
        assert looks_changed(pack, root)
        assert not found(root, pack)

    def test_a_pack_that_may_not_be_written_is_compared_each_time(
        self, root: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read_only(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(changes_module, "write_traces", read_only)
        (root / "notes.txt").write_text("hello")
        assert not found(root, pack)
        assert looks_changed(pack, root)

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "null"])
    def test_without_its_notes_everything_is_compared(self, root: Path, pack: Pack, text: str) -> None:
        (pack.folder / "release.json").write_text(text)
        assert looks_changed(pack, root)
        assert not found(root, pack)
        assert not looks_changed(pack, root)

    def test_a_damaged_list_of_pictures_is_named(self, root: Path, pack: Pack) -> None:
        (pack.folder / "pictures.parquet").write_bytes(b"")
        with pytest.raises(EmodetError, match=r"pictures\.parquet is missing or was changed"):
            found(root, pack, thorough=True)

    def test_packs_within_the_release(self, root: Path) -> None:
        """Another pack of the same release is no change of it."""
        work = Packing(reader=OwnCsv(root), preprocessing=Preprocessing(size=48), packs=root / "packs", progress=False)
        pack = work.whole()
        Packing(reader=OwnCsv(root), preprocessing=Preprocessing(size=24), packs=root / "packs", progress=False).whole()
        assert not looks_changed(pack, root)
        assert not check_release(pack, work.cropper, work.packs, thorough=True)


class TestWhilePacking:
    """Something happens when half of the faces are cut."""

    def packed(self, root: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> Pack:
        work, seen = packing(root), []
        encoded = work.reader.encoded

        def reading(record: Sample) -> bytes:
            seen.append(record.key)
            if len(seen) == 7:
                happens()
            return encoded(record)

        monkeypatch.setattr(work.reader, "encoded", reading)
        return work.whole()

    def test_a_picture_vanishes(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also from the listing, as a reader lists what is there."""
        with pytest.raises(EmodetError, match=r"changed while it was packed: 1 face is no longer listed \(1/09\.png\)"):
            self.packed(root, monkeypatch, (root / "1" / "09.png").unlink)
        pack = packing(root).whole()
        assert len(pack) == 11

    def test_a_picture_is_written_while_it_is_read(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        work = packing(root)
        encoded = work.reader.encoded

        def reading(record: Sample) -> bytes:
            data = encoded(record)
            if record.key == "1/03.png":
                with (root / record.key).open("ab") as stream:
                    stream.write(b"1")
            return data

        monkeypatch.setattr(work.reader, "encoded", reading)
        pack = work.whole()
        (entry,) = pack.manifest["unreadable"]
        assert "1/03.png: 03.png was changed while it was read" in entry["reason"]

    @pytest.mark.parametrize("key", ["0/02.png", "1/09.png"])
    def test_a_picture_changes(self, root: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
        """One that was cut already is named; one that was not is packed as it is now."""

        def change() -> None:
            (root / key).write_bytes(png(picture(99)))

        if key == "1/09.png":
            pack = self.packed(root, monkeypatch, change)
            assert np.array_equal(pack.images([pack.table.key.tolist().index(key)])[0], picture(99))
            return
        with pytest.raises(EmodetError, match=r"1 pictures are not what was cut \(0/02\.png\).*Prepare again"):
            self.packed(root, monkeypatch, change)
        pack = packing(root).whole()
        assert np.array_equal(pack.images([pack.table.key.tolist().index(key)])[0], picture(99))

    def test_the_list_changes(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [(path, "fear") for path, _ in rows_of(root)[:2]] + rows_of(root)[2:]
        with pytest.raises(EmodetError, match=r"changed while it was packed: 2 faces are annotated otherwise"):
            self.packed(root, monkeypatch, lambda: write_list(root, rows))
        assert not list(root.parent.glob("packs/*/manifest.json"))
        assert (packing(root).whole().table.emotion == 4).sum() == 2

    def test_something_else_changes(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pack = self.packed(root, monkeypatch, lambda: (root / "notes.txt").write_text("hello"))
        assert not looks_changed(pack, root)

    def test_between_a_stop_and_the_next_run(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Kept parts are looked at again."""
        with monkeypatch.context() as patched:
            patched.setattr(packing_module, "assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                packing(root).whole()
        (root / "1" / "03.png").write_bytes(png(picture(99)))
        pack = packing(root).whole()
        assert np.array_equal(pack.images([pack.table.key.tolist().index("1/03.png")])[0], picture(99))
