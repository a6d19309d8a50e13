"""Preparing on several machines: what they make together is what one makes; what is missing or foreign is named."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from made_reader import MadeReader, png, records
from packing_apart import prepare_apart, yolo_release

from emodet.data import cutting
from emodet.data.pack import Pack
from emodet.data.packing import Packing
from emodet.data.parts import Shard, spans
from emodet.datasets.readers import open_reader
from emodet.datasets.samples import Reader
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48)
FACES = [*records(37, emotion=1), *records(5, "val", 37, emotion=2)]


def packing(reader: Reader, packs: Path, **given: object) -> Packing:
    values: dict[str, object] = {"preprocessing": CROP, "processes": 1, "progress": False} | given
    return Packing(reader=reader, packs=packs, **values)  # type: ignore[arg-type]


def same(one: Pack, other: Pack) -> bool:
    """Byte for byte of what is read."""
    return (
        one.fingerprint == other.fingerprint
        and one.table.digest() == other.table.digest()
        and np.array_equal(one.images(range(len(one))), other.images(range(len(other))))
        and all(one.manifest[name] == other.manifest[name] for name in ("counts", "unreadable", "left_out", "notes"))
    )


@pytest.fixture
def made(tmp_path: Path) -> MadeReader:
    return MadeReader(tmp_path, FACES)


@pytest.fixture
def whole(made: MadeReader, tmp_path: Path) -> Pack:
    return packing(made, tmp_path / "whole").whole()


@pytest.mark.slow
def test_four_processes_as_four_machines(tmp_path: Path) -> None:
    """Two share a disk; each of the others has a copy of the release and packs of its own, which are copied over."""
    release = yolo_release(tmp_path / "release")
    expected = packing(open_reader(release), tmp_path / "whole").whole()
    machines = []
    for number in (1, 2, 3, 4):
        own = release if number < 3 else Path(shutil.copytree(release, tmp_path / f"disk{number}" / "elsewhere"))
        packs = tmp_path / ("shared" if number < 3 else f"disk{number}/packs")
        command = prepare_apart(own, packs, shard=f"{number}/4", part_bytes=30 * 48 * 48 * 3)
        machines.append((packs, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
    faces = [int(process.communicate()[0].split()[-1]) for _, process in machines]
    assert faces == [102, 102, 102, 102]
    for packs, _ in machines[2:]:
        shutil.copytree(packs, tmp_path / "shared", dirs_exist_ok=True)
    merged = packing(open_reader(release), tmp_path / "shared").merged()
    merged.verify()
    assert same(merged, expected)
    assert len(merged.manifest["shards"]) == 16
    assert [folder.name for folder in (tmp_path / "shared").iterdir()] == [merged.folder.name]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_shards_in_any_order(made: MadeReader, whole: Pack, tmp_path: Path, count: int) -> None:
    packs = tmp_path / "packs"
    for number in np.random.default_rng(count).permutation(count).tolist():
        done = packing(made, packs).shard(Shard(number + 1, count))
    assert done.missing == []
    merged = packing(made, packs).merged()
    assert same(merged, whole)
    assert Pack(merged.folder).manifest["shards"] == merged.manifest["shards"]


def test_more_shards_than_faces(tmp_path: Path) -> None:
    reader = MadeReader(tmp_path, FACES[:2])
    for number in (1, 2, 3):
        done = packing(reader, tmp_path / "packs").shard(Shard(number, 3))
        assert len(done.rows) == done.faces == (number > 1)
    assert len(packing(reader, tmp_path / "packs").merged()) == 2


def test_the_files_are_linked_not_copied(made: MadeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        packing(made, tmp_path / "packs").shard(Shard(number, 2))
    inodes = {file.stat().st_ino for file in tmp_path.glob("packs/*.parts/*/images.npy")}
    monkeypatch.setattr(shutil, "copyfile", lambda *_: pytest.fail("was copied"))
    merged = packing(made, tmp_path / "packs").merged()
    assert {file.stat().st_ino for file in merged.folder.glob("images-*.npy")} == inodes
    assert {file.stat().st_nlink for file in merged.folder.iterdir()} == {1}


def test_a_lost_shard_is_named(made: MadeReader, tmp_path: Path) -> None:
    for number in (1, 2, 4):
        done = packing(made, tmp_path / "packs").shard(Shard(number, 4))
    assert [str(shard) for shard in done.missing] == ["3/4"]
    with pytest.raises(EmodetError, match=r"shard 3/4 is missing \(10 of 42 faces\)\. Prepare with shard=3/4"):
        packing(made, tmp_path / "packs").merged()
    assert len(list(tmp_path.glob("packs/*.parts/*"))) == 3


def test_no_shard_at_all(made: MadeReader, tmp_path: Path) -> None:
    with pytest.raises(EmodetError, match=r"42 of 42 faces are missing.*Prepare each with shard=1/4"):
        packing(made, tmp_path / "packs").merged()


def test_a_whole_preparation_takes_the_shards_that_are_there(
    made: MadeReader, whole: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing(made, tmp_path / "packs").shard(Shard(2, 3))
    cut, keys = cutting.cut, []
    monkeypatch.setattr(cutting, "cut", lambda *given: (keys.append(given[1].key), cut(*given))[1])
    assert same(packing(made, tmp_path / "packs").whole(), whole)
    assert keys == [face.key for face in (*FACES[:14], *FACES[28:])]


def test_a_shard_twice_is_made_once(made: MadeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packing(made, tmp_path / "packs").shard(Shard(1, 2))
    monkeypatch.setattr(cutting.CropPool, "cut", lambda *_: pytest.fail("was cut again"))
    assert packing(made, tmp_path / "packs").shard(Shard(1, 2)) == first


def test_after_the_pack_is_made_a_shard_has_nothing_to_add(made: MadeReader, tmp_path: Path) -> None:
    pack = packing(made, tmp_path / "packs").whole()
    with pytest.raises(EmodetError, match="the whole pack is there already"):
        packing(made, tmp_path / "packs").shard(Shard(1, 2))
    assert packing(made, tmp_path / "packs").merged().fingerprint == pack.fingerprint


class TestForeignParts:
    """Parts that belong to something else never get in, and merging says where the missing ones may have gone."""

    @pytest.mark.parametrize(
        ("other", "told"),
        [
            ({"preprocessing": Preprocessing(size=48, colour="grey")}, "preprocessing"),
            ({"reader": MadeReader(Path("/elsewhere"), FACES[1:])}, "listing, faces"),
            ({"reader": MadeReader(Path("/elsewhere"), [*records(37, emotion=3), *FACES[37:]])}, "listing"),
        ],
    )
    def test_go_to_a_folder_of_their_own(
        self, made: MadeReader, tmp_path: Path, other: dict[str, object], told: str
    ) -> None:
        packing(made, tmp_path / "packs").shard(Shard(1, 2))
        packing(**({"reader": made, "packs": tmp_path / "packs"} | other)).shard(Shard(2, 2))  # type: ignore[arg-type]
        with pytest.raises(EmodetError) as caught:
            packing(made, tmp_path / "packs").merged()
        assert "shard 2/2 is missing" in str(caught.value)
        assert f"holds parts of other work, with another {told}" in str(caught.value)

    @pytest.mark.parametrize("name", ["listing", "preprocessing", "version", "crop", "options", "reader"])
    def test_are_refused_where_they_were_put_by_hand(self, made: MadeReader, tmp_path: Path, name: str) -> None:
        for number in (1, 2):
            packing(made, tmp_path / "packs").shard(Shard(number, 2))
        file = next(iter(tmp_path.glob("packs/*.parts/*/part.json")))
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: "other"}))
        with pytest.raises(EmodetError, match=f"belongs to other work, with another {name}; delete it"):
            packing(made, tmp_path / "packs").merged()

    def test_of_other_numbers_of_shards_do_not_overlap(self, made: MadeReader, whole: Pack, tmp_path: Path) -> None:
        for shard in ("1/2", "2/3", "3/3"):
            packing(made, tmp_path / "packs").shard(Shard.parse(shard))
        # The second of three made only what the first of two had not.
        assert same(packing(made, tmp_path / "packs").merged(), whole)
        for shard, packs in (("1/2", "a"), ("2/3", "b")):
            packing(made, tmp_path / packs).shard(Shard.parse(shard))
        shutil.copytree(tmp_path / "a", tmp_path / "b", dirs_exist_ok=True)
        with pytest.raises(EmodetError, match="have faces in common"):
            packing(made, tmp_path / "b").merged()


class TestDamagedParts:
    @pytest.fixture
    def parts(self, made: MadeReader, tmp_path: Path) -> Path:
        for number in (1, 2):
            packing(made, tmp_path / "packs").shard(Shard(number, 2))
        return next(iter(sorted(tmp_path.glob("packs/*.parts/*"))))

    @pytest.mark.parametrize("name", ["images.npy", "table.parquet", "pictures.parquet"])
    @pytest.mark.parametrize("how", ["missing", "cut off", "changed", "longer"])
    def test_are_refused(self, made: MadeReader, parts: Path, tmp_path: Path, name: str, how: str) -> None:
        file = parts / name
        data = bytearray(file.read_bytes())
        if how == "missing":
            file.unlink()
        elif how == "cut off":
            file.write_bytes(data[:-100])
        elif how == "longer":
            file.write_bytes(data + b"1")
        else:
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        with pytest.raises(
            EmodetError, match=rf"{parts.name}: {name} is missing or is not what was written.*shard=1/2"
        ):
            packing(made, tmp_path / "packs").merged()
        assert not list(tmp_path.glob("packs/*/manifest.json"))

    def test_half_a_folder_is_no_part(self, made: MadeReader, parts: Path, tmp_path: Path) -> None:
        (parts / "part.json").unlink()
        with pytest.raises(EmodetError, match=rf"{parts.name}: not a whole part .*copy it again, or delete it"):
            packing(made, tmp_path / "packs").merged()

    def test_leftovers_of_killed_processes_do_not_count(self, made: MadeReader, parts: Path, tmp_path: Path) -> None:
        parts.rename(parts.with_name(f"{parts.name}.unfinished"))
        with pytest.raises(EmodetError, match="shard 1/2 is missing"):
            packing(made, tmp_path / "packs").merged()


class TestUnreadable:
    def shards(self, reader: MadeReader, packs: Path, **given: object) -> Pack:
        for number in (1, 2):
            packing(reader, packs, **given).shard(Shard(number, 2))
        return packing(reader, packs, **given).merged()

    def test_are_counted_over_all_shards(self, tmp_path: Path) -> None:
        broken: dict[str, bytes | None] = {FACES[3].key: b"", FACES[40].key: b"", FACES[41].key: None}
        reader = MadeReader(tmp_path, FACES, broken)
        merged = self.shards(reader, tmp_path / "packs", max_unreadable=0.08)
        assert same(merged, packing(reader, tmp_path / "whole", max_unreadable=0.08).whole())
        assert [entry["key"] for entry in merged.manifest["unreadable"]] == list(broken)
        for number in (1, 2):  # 1 and 2 of 42 are allowed, 3 are not
            packing(reader, tmp_path / f"strict{number}", max_unreadable=0.05).shard(Shard(number, 2))
        shutil.copytree(tmp_path / "strict2", tmp_path / "strict1", dirs_exist_ok=True)
        with pytest.raises(EmodetError, match=r"more than 5\.0% of the 42 pictures cannot be read"):
            packing(reader, tmp_path / "strict1", max_unreadable=0.05).merged()

    def test_a_shard_with_too_many_stops_by_itself(self, tmp_path: Path) -> None:
        reader = MadeReader(tmp_path, FACES, {face.key: None for face in FACES[:21]})
        with pytest.raises(EmodetError, match=r"more than 1\.0% of the 42"):
            packing(reader, tmp_path / "packs").shard(Shard(1, 2))
        assert list((tmp_path / "packs").iterdir()) == []

    def test_a_shard_of_nothing_else(self, tmp_path: Path) -> None:
        reader = MadeReader(tmp_path, FACES, {face.key: None for face in FACES[:21]})
        merged = self.shards(reader, tmp_path / "packs", max_unreadable=0.5)
        assert len(merged) == 21
        assert same(merged, packing(reader, tmp_path / "whole", max_unreadable=0.5).whole())

    def test_what_has_been_put_right_is_tried_again(self, tmp_path: Path) -> None:
        broken: dict[str, bytes | None] = {FACES[3].key: b"", FACES[40].key: b""}
        reader = MadeReader(tmp_path, FACES, broken)
        for number in (1, 2):
            packing(reader, tmp_path / "packs", max_unreadable=0.1).shard(Shard(number, 2))
        reader.pictures[FACES[3].key] = png(np.zeros((48, 48, 3), np.uint8))
        with pytest.raises(EmodetError, match=rf"1 pictures are not what was cut \({FACES[3].key}\)"):
            packing(reader, tmp_path / "packs", max_unreadable=0.1).merged()
        packing(reader, tmp_path / "packs", max_unreadable=0.1).shard(Shard(1, 2))
        merged = packing(reader, tmp_path / "packs", max_unreadable=0.1).merged()
        assert [entry["key"] for entry in merged.manifest["unreadable"]] == [FACES[40].key]


def test_other_libraries_on_other_machines_are_noted(
    made: MadeReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packing(made, tmp_path / "packs").shard(Shard(1, 2))
    monkeypatch.setattr("PIL.__version__", "0.1")
    packing(made, tmp_path / "packs").shard(Shard(2, 2))
    merged = packing(made, tmp_path / "packs").merged()
    (note,) = merged.manifest["notes"]
    assert "different libraries" in note
    assert "Pillow 0.1" in note
    assert note in caplog.text


class TestShard:
    @pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/2", "1.5/4", "²/4"])
    def test_refused(self, text: str) -> None:
        with pytest.raises(EmodetError, match="shard="):
            Shard.parse(text)

    @pytest.mark.parametrize(("faces", "count"), [(0, 1), (1, 3), (287_651, 16), (16, 16)])
    def test_each_face_is_in_one_shard(self, faces: int, count: int) -> None:
        rows = [row for number in range(count) for row in Shard(number + 1, count).rows(faces)]
        assert rows == list(range(faces))

    def test_spans_hold_each_row_and_no_more_than_fit(self) -> None:
        cut = spans(range(1000, 50_000), 96 * 96 * 3)
        assert [row for span in cut for row in span] == list(range(1000, 50_000))
        assert max(map(len, cut)) * 96 * 96 * 3 <= 2**29
        assert max(map(len, cut)) - min(map(len, cut)) <= 1
        assert spans(range(5, 5), 10) == []
        assert spans(range(5, 7), 2**40) == [range(5, 6), range(6, 7)]
