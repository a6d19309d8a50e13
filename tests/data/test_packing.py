"""Preparing: whole or not at all, whatever happens; unreadable pictures are listed; the result is always the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_reader import MadeReader, picture, png, records
from PIL import Image

from emodet.data import packing
from emodet.data.pack import Pack
from emodet.data.packing import pack_folder, prepare_pack
from emodet.data.readers import open_reader
from emodet.data.records import Record
from emodet.data.summary import summary
from emodet.data.synthetic_releases import write_release
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48)


def prepare(reader: MadeReader, packs: Path, **options: object) -> Pack:
    values: dict[str, object] = {"processes": 1, "progress": False} | options
    return prepare_pack(reader, CROP, packs, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 little pictures as a release on disk: worker processes must find them."""
    root = tmp_path_factory.mktemp("release") / "yolo"
    for name, count in (("train", 400), ("valid", 8)):
        for part in ("images", "labels"):
            (root / name / part).mkdir(parents=True)
        for number in range(count):
            (root / name / "images" / f"{number:04d}.png").write_bytes(png(picture(number + len(name))))
            (root / name / "labels" / f"{number:04d}.txt").write_text(f"{number % 8} 0.5 0.5 1 1\n")
    names = "[anger, contempt, disgust, fear, happy, neutral, sad, surprise]"
    (root / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 8\nnames: {names}\n")
    return root


class TestWhatIsPacked:
    def test_without_boxes_the_stored_picture_is_the_crop(self, tmp_path: Path) -> None:
        record = Record("a/0001", "train", 0, box=(10, 10, 40, 40))
        pack = prepare(MadeReader(tmp_path, [record]), tmp_path / "packs")
        assert np.array_equal(pack.images([0])[0], picture(1))

    def test_with_boxes_the_crop_is_cut_by_the_one_definition(self, tmp_path: Path) -> None:
        preprocessing = Preprocessing(size=24, margin=0.2, alignment="eyes")
        eyes = ((18.0, 20.0), (30.0, 24.0), (25.0, 28.0), (20.0, 33.0), (29.0, 34.0))
        record = Record("a/0001", "train", 0, box=(10, 12, 40, 38), landmarks=eyes)
        reader = MadeReader(tmp_path, [record])
        pack = prepare_pack(reader, preprocessing, tmp_path / "packs", crop="box", processes=1, progress=False)
        assert np.array_equal(pack.images([0])[0], preprocessing.crop(picture(1), record.box, record.landmarks))

    def test_large_jpegs_with_boxes_keep_their_own_pixels(self, tmp_path: Path) -> None:
        """Without a box a JPEG may be decoded smaller; with one the box is in its own pixels."""
        whole = np.full((400, 400, 3), 30, np.uint8)
        whole[300:380, 300:380] = 220
        file = tmp_path / "a.jpg"
        Image.fromarray(whole).save(file, quality=95)
        record = Record("a/0001", "train", 0, box=(300, 300, 380, 380))
        reader = MadeReader(tmp_path, [record], {record.key: file.read_bytes()})
        pack = prepare(reader, tmp_path / "packs", crop="box")
        assert pack.images([0]).min() > 200
        other = prepare(reader, tmp_path / "packs")
        assert np.abs(other.images([0])[0, :30, :30].astype(int) - 30).max() < 10
        assert other.folder != pack.folder

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


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    reader = MadeReader(tmp_path, records(4))
    for place in ("_cut", "__call__"):
        with monkeypatch.context() as patched:
            patched.setattr(packing._Cutter, place, failing)
            with pytest.raises(KeyboardInterrupt):
                prepare(reader, tmp_path / "packs")
        assert list((tmp_path / "packs").iterdir()) == []
    for place in ("_write_manifest", "block_hashes"):
        with monkeypatch.context() as patched:
            patched.setattr(packing, place, failing)
            with pytest.raises(KeyboardInterrupt):
                prepare(reader, tmp_path / "packs")
        assert list((tmp_path / "packs").iterdir()) == []
    assert len(prepare(reader, tmp_path / "packs")) == 4


def test_without_the_calls_that_only_linux_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS allocates and counts its cores otherwise; Windows has no such locks."""
    expected = prepare(MadeReader(tmp_path, records(6)), tmp_path / "packs")
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(packing, "_locking", False)
    found = prepare(MadeReader(tmp_path, records(6)), tmp_path / "other", processes=None)
    assert found.fingerprint == expected.fingerprint
    assert [file.name for file in (tmp_path / "other").iterdir()] == [found.folder.name]
    assert found.folder.stat().st_mode == expected.folder.stat().st_mode


PREPARE = """
import sys
from pathlib import Path
from emodet.data.packing import prepare_pack
from emodet.data.readers import open_reader
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

if __name__ == "__main__":
    root, packs, processes, size = sys.argv[1:5]
    if len(sys.argv) > 5:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]),) * 2)
    print("go", flush=True)
    try:
        crop, count = Preprocessing(size=int(size)), int(processes)
        pack = prepare_pack(open_reader(Path(root)), crop, Path(packs), processes=count, progress=False)
    except EmodetError as error:
        sys.exit(f"error: {error}")
    print(pack.fingerprint)
"""


def prepare_apart(root: Path, packs: Path, processes: int = 1, size: int = 48, limit: int | None = None) -> list[str]:
    script = packs.parent / "prepare.py"
    script.write_text(PREPARE)
    limits = [] if limit is None else [str(limit)]
    return [sys.executable, str(script), str(root), str(packs), str(processes), str(size), *limits]


def test_the_number_of_processes_does_not_matter(yolo: Path, tmp_path: Path) -> None:
    one = prepare_pack(open_reader(yolo), CROP, tmp_path / "one", processes=1, progress=False)
    done = subprocess.run(prepare_apart(yolo, tmp_path / "two", 2), capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == one.fingerprint
    assert done.stderr == ""
    two = prepare_pack(open_reader(yolo), CROP, tmp_path / "two", progress=False)
    for name in ("images-00000.npy", "table.parquet"):
        assert (one.folder / name).read_bytes() == (two.folder / name).read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_any_moment_it_leaves_nothing_that_looks_whole(yolo: Path, tmp_path: Path, processes: int) -> None:
    expected = prepare_pack(open_reader(yolo), CROP, tmp_path / "expected", processes=1, progress=False)
    packs = tmp_path / "packs"
    rng = random.Random(processes)
    killed = 0
    for delay in (0.0, 0.02, 0.1) if processes == 1 else (0.1, 0.8):
        process = subprocess.Popen(prepare_apart(yolo, packs, processes), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay * rng.uniform(0.7, 1.3))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        for folder in packs.glob("*") if packs.exists() else ():
            if folder.name == expected.folder.name or (folder / "manifest.json").exists():
                # It was finished, so it must be whole.
                assert Pack(folder).fingerprint == expected.fingerprint
            else:
                assert folder.name.endswith(".unfinished")
    assert killed
    pack = prepare_pack(open_reader(yolo), CROP, packs, processes=1, progress=False)
    pack.verify()
    assert pack.fingerprint == expected.fingerprint
    assert [folder.name for folder in packs.iterdir()] == [pack.folder.name]  # what was left is gone


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            its_parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if its_parent == parent and b"spawn_main" in command:
            found.append(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_of_a_killed_parent_end(yolo: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(prepare_apart(yolo, tmp_path / "packs", 2, 900), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while len(workers := children(process.pid)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    file = next(tmp_path.glob("packs/*.unfinished/images-00000.npy"))
    while not np.load(file, mmap_mode="r")[0].any() and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    left = [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert len(workers) == 2
    assert left == []


def test_a_killed_worker_is_an_error_and_leaves_nothing(yolo: Path, tmp_path: Path) -> None:
    """As the kernel does when memory runs out."""
    killer = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    script = tmp_path / "main.py"
    script.write_text(f"if __name__ == '__mp_main__':\n    {killer}\n{PREPARE}")
    command = [sys.executable, str(script), str(yolo), str(tmp_path / "packs"), "2", "48"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: a process that prepares pictures was killed")
    assert list((tmp_path / "packs").iterdir()) == []


def test_two_at_once_make_one_pack(yolo: Path, tmp_path: Path) -> None:
    command = prepare_apart(yolo, tmp_path / "packs")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == outputs[1]
    assert len(list((tmp_path / "packs").iterdir())) == 1


class TestFullDisk:
    """A limit on file sizes makes every write beyond it fail, as a full disk does."""

    @pytest.mark.parametrize("limit", [1000, 2_000_000, 2_820_000])
    def test_is_an_error_and_leaves_nothing(self, yolo: Path, tmp_path: Path, limit: int) -> None:
        command = prepare_apart(yolo, tmp_path / "packs", limit=limit)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "writing the pack failed" in done.stderr
        assert "nothing was kept" in done.stderr
        assert list((tmp_path / "packs").iterdir()) == []

    def test_that_suffices_it_works(self, yolo: Path, tmp_path: Path) -> None:
        command = prepare_apart(yolo, tmp_path / "packs", limit=2_821_000)
        subprocess.run(command, capture_output=True, text=True, check=True)

    @pytest.mark.parametrize("place", ["_without_gaps", "_write_manifest"])
    def test_late(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(packing, place, full)
        faces = records(100, emotion=1)
        with pytest.raises(EmodetError, match=r"No space left on device.*nothing was kept"):
            prepare(MadeReader(tmp_path, faces, {faces[3].key: b""}), tmp_path / "packs")
        assert list((tmp_path / "packs").iterdir()) == []


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
