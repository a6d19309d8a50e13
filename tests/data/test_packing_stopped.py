"""Preparing that is stopped, killed or finds no room: nothing half-written looks whole, and the next run carries on."""

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from made_reader import MadeReader, records
from packing_apart import PREPARE, prepare_apart, yolo_release

from emodet.data import assembling, cutting, part_making, parts
from emodet.data.pack import Pack
from emodet.data.packing import prepare_pack
from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48)
ROW = 48 * 48 * 3


def prepare(reader: MadeReader, packs: Path) -> Pack:
    return prepare_pack(reader, CROP, packs, processes=1, progress=False)


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return yolo_release(tmp_path_factory.mktemp("release") / "yolo")


@pytest.fixture(scope="module")
def expected(yolo: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return prepare_pack(open_reader(yolo), CROP, tmp_path_factory.mktemp("expected"), processes=1, progress=False)


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


class TestStoppedInTheMiddle:
    @pytest.mark.parametrize("place", [(cutting, "cut"), (cutting, "crop_hash"), (part_making, "put_in_place")])
    def test_what_is_not_finished_is_gone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[object, str]
    ) -> None:
        reader = MadeReader(tmp_path, records(4))
        with monkeypatch.context() as patched:
            patched.setattr(*place, stop)
            with pytest.raises(KeyboardInterrupt):
                prepare(reader, tmp_path / "packs")
        assert list((tmp_path / "packs").iterdir()) == []
        assert len(prepare(reader, tmp_path / "packs")) == 4

    @pytest.mark.parametrize("place", ["pq", "_link", "json", "fingerprint_of", "write_traces"])
    def test_while_joining_the_parts_stay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        reader = MadeReader(tmp_path, records(4))
        with monkeypatch.context() as patched:
            patched.setattr(assembling, place, stop)
            with pytest.raises((KeyboardInterrupt, AttributeError)):
                prepare(reader, tmp_path / "packs")
        (left,) = (tmp_path / "packs").iterdir()
        assert left.suffix == ".parts"
        monkeypatch.setattr(cutting.CropPool, "cut", lambda *_: pytest.fail("was cut again"))
        pack = prepare(reader, tmp_path / "packs")
        pack.verify()
        assert [folder.name for folder in (tmp_path / "packs").iterdir()] == [pack.folder.name]

    def test_finished_parts_are_not_made_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parts, "PART_BYTES", 64 * ROW)
        faces = records(640)
        cut = cutting.cut
        done: list[str] = []

        def until_400(image: object, record: object, *rest: object) -> object:
            if len(done) == 400:
                raise KeyboardInterrupt
            done.append(record.key)  # type: ignore[attr-defined]
            return cut(image, record, *rest)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(cutting, "cut", until_400)
            with pytest.raises(KeyboardInterrupt):
                prepare(MadeReader(tmp_path, faces), tmp_path / "packs")
        monkeypatch.setattr(cutting, "cut", lambda *given: (done.append(given[1].key), cut(*given))[1])
        pack = prepare(MadeReader(tmp_path, faces), tmp_path / "packs")
        assert len(done) == 400 + 640 - 384
        monkeypatch.undo()
        assert pack.fingerprint == prepare(MadeReader(tmp_path, faces), tmp_path / "whole").fingerprint

    def test_a_part_that_was_damaged_since_is_made_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        reader = MadeReader(tmp_path, records(4))
        with monkeypatch.context() as patched:
            patched.setattr(assembling, "_link", stop)
            with pytest.raises(KeyboardInterrupt):
                prepare(reader, tmp_path / "packs")
        (images,) = tmp_path.glob("packs/*.parts/*/images.npy")
        with images.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"\0" if images.read_bytes()[-1] else b"\1")
        pack = prepare(reader, tmp_path / "packs")
        pack.verify()
        assert "It is made again" in caplog.text


def test_the_number_of_processes_does_not_matter(yolo: Path, expected: Pack, tmp_path: Path) -> None:
    done = subprocess.run(prepare_apart(yolo, tmp_path / "two", 2), capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == expected.fingerprint
    assert done.stderr == ""
    two = prepare_pack(open_reader(yolo), CROP, tmp_path / "two", progress=False)
    for name in ("images-00000.npy", "table.parquet", "pictures.parquet"):
        assert (expected.folder / name).read_bytes() == (two.folder / name).read_bytes()


@pytest.mark.parametrize(
    ("processes", "delays"),
    [(1, (0.0, 0.05, 0.2)), pytest.param(2, (0.1, 0.8, 1.2), marks=pytest.mark.slow)],
)
def test_killed_at_any_moment_nothing_half_written_looks_whole(
    yolo: Path, expected: Pack, tmp_path: Path, processes: int, delays: tuple[float, ...]
) -> None:
    packs = tmp_path / "packs"
    rng = random.Random(processes)
    killed = 0
    for delay in delays:
        # Parts of 50 faces, so that the moment often lies between two.
        command = prepare_apart(yolo, packs, processes, part_bytes=50 * ROW)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay * rng.uniform(0.7, 1.3))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        for folder in packs.glob("*") if packs.exists() else ():
            if folder.name == expected.folder.name or (folder / "manifest.json").exists():
                # It was finished, so it must be whole.
                Pack(folder).verify()
            else:
                assert folder.name.endswith((".unfinished", ".parts"))
                assert all(
                    (part / "part.json").is_file() for part in folder.glob("*-*") if "unfinished" not in part.name
                )
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
    process = subprocess.Popen(prepare_apart(yolo, tmp_path / "packs", 2, size=900), stdout=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while len(workers := children(process.pid)) < 2 and time.monotonic() < until:
        time.sleep(0.02)
    is_cutting = False
    while not is_cutting and time.monotonic() < until:
        for file in tmp_path.glob("packs/*.parts/*.unfinished/images.npy"):
            with suppress(ValueError, OSError):  # its header may not be written yet
                is_cutting = bool(np.load(file, mmap_mode="r")[0].any())
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
    assert is_cutting
    assert left == []


def test_a_killed_worker_is_an_error(yolo: Path, tmp_path: Path) -> None:
    """As the kernel does when memory runs out."""
    killer = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    script = f"if __name__ == '__mp_main__':\n    {killer}\n{PREPARE}"
    command = prepare_apart(yolo, tmp_path / "packs", 2, script=script)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: a process that prepares pictures was killed")
    assert "nothing was kept" in done.stderr
    assert list((tmp_path / "packs").iterdir()) == []


def test_two_at_once_make_one_pack(yolo: Path, expected: Pack, tmp_path: Path) -> None:
    command = prepare_apart(yolo, tmp_path / "packs", part_bytes=50 * ROW)
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs == [expected.fingerprint] * 2
    assert len(list((tmp_path / "packs").iterdir())) == 1


class _Usage:
    free = 1000


class TestFullDisk:
    """A limit on file sizes makes every write beyond it fail, as a full disk does."""

    @pytest.mark.parametrize("limit", [1000, 2_820_000])
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

    def test_too_little_room_is_said_before_the_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(part_making.shutil, "disk_usage", lambda _: _Usage())
        with pytest.raises(EmodetError, match=r"data\.packs=.*need 0\.01 GB, but 0\.00 GB are free"):
            prepare(MadeReader(tmp_path, records(1000)), tmp_path / "packs")

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="a small file system can be mounted on Linux only")
    def test_wherever_the_room_ends_the_next_run_carries_on(self, yolo: Path, expected: Pack, tmp_path: Path) -> None:
        """On a real file system that is full, in a namespace of its own."""
        mount = ["unshare", "--user", "--map-root-user", "--mount"]
        probe = subprocess.run(
            [*mount, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False
        )
        if probe.returncode:
            pytest.skip(f"no file system can be mounted here: {probe.stderr.decode().strip()}")
        place = tmp_path / "small"
        place.mkdir()
        command = prepare_apart(yolo, tmp_path / "packs", part_bytes=50 * ROW, blind=True)
        command[3] = str(place / "packs")  # the script stays outside
        line = shlex.join(command)
        needed = sum(file.stat().st_size for file in expected.folder.iterdir()) // 1024
        # From too little for the first part to a little less than all of the pack, table and manifest.
        for share in (0.05, 0.4, 0.97, 1.01, 1.03):
            size = int(needed * share)
            steps = f"""
                mount -t tmpfs -o size={size}k tmpfs {place} || exit 99
                {line}; echo "first: $?"
                find {place} -name manifest.json -o -name part.json | sed 's/^/whole: /'
                mount -o remount,size={3 * needed}k {place} || exit 99
                {line}; echo "second: $?"
            """
            done = subprocess.run([*mount, "sh", "-c", steps], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            lines = done.stdout.split("\n")
            assert "first: 1" in lines, (share, done.stdout, done.stderr)
            assert "writing the pack failed" in done.stderr
            assert "Traceback" not in done.stderr
            assert not any(line.startswith("whole: ") and line.endswith("manifest.json") for line in lines)
            assert any(line.endswith("part.json") for line in lines) == (share > 0.2)
            assert lines[-3:] == [expected.fingerprint, "second: 0", ""]
