"""Packing: contents, unreadable pictures, refusals, and resuming."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from made_commands import python, wait_for
from made_files import encoded, put_text
from made_reader import MadeReader, picture, put_picture, records
from made_releases import RELEASES

from emodet.data import crop_pool
from emodet.data.packing import Packing
from emodet.data.sources import Source
from emodet.datasets.readers import open_reader
from emodet.datasets.samples import Sample
from emodet.datasets.summary import summary
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48)


def prepare(reader, packs, **options):
    return Packing(reader, CROP, packs, **{"processes": 1, "progress": False} | options).make()


def finished(packs):
    return [file.parent for file in packs.glob("*/manifest.json")]


class TestWhatIsPacked:
    def test_large_jpegs_are_decoded_smaller_where_they_have_no_box(self, tmp_path):
        """A box is in the pixels of the whole picture."""
        whole = np.full((400, 400, 3), 30, np.uint8)
        whole[300:380, 300:380] = 220
        record, state = Sample("a/0001", "train", 0, box=(300, 300, 380, 380)), torch.get_rng_state()
        reader = MadeReader(tmp_path, [record], {record.key: encoded(whole, "JPEG", quality=95)})
        assert prepare(reader, tmp_path / "boxes", crop="box").images([0]).min() > 200
        other = prepare(reader, tmp_path / "whole").images([0])[0]
        assert np.abs(other[0, :30, :30].astype(int) - 30).max() < 10
        assert torch.equal(torch.get_rng_state(), state)  # initial weights do not depend on whether a pack existed

    def test_the_folder_changes_with_what_matters(self, tmp_path):
        reader, packs = MadeReader(tmp_path, records(1)), tmp_path / "packs"
        base = Packing(reader, CROP, packs, "image").folder
        assert base == Packing(reader, Preprocessing(size=48, mean=(0, 0, 0)), packs, "image").folder
        others = [
            Packing(reader, Preprocessing(size=48, colour="grey"), packs, "image").folder,
            Packing(reader, CROP, packs, "box").folder,
            Packing(MadeReader(tmp_path / "b", []), CROP, packs, "image").folder,
        ]
        assert len({base, *others}) == 4


class TestUnreadable:
    def faces(self, tmp_path, bad, count=200):
        damage = [None, b"", b"text", encoded(picture(0))[:200]]
        faces = records(count, emotion=1)
        pictures = {faces[number * 7].key: damage[number % 4] for number in range(bad)}
        return MadeReader(tmp_path, faces, pictures)

    def test_up_to_one_percent_of_unreadable_pictures_are_listed_and_left_out(self, tmp_path):
        pack = prepare(self.faces(tmp_path, 2), tmp_path / "packs")
        assert [entry["key"] for entry in pack.manifest["unreadable"]] == ["train/0000", "train/0007"]
        rest = [number for number in range(200) if number not in (0, 7)]
        assert pack.table.key.tolist() == [f"train/{number:04d}" for number in rest]
        assert np.array_equal(pack.images(range(198)), np.stack([picture(number) for number in rest]))
        pack.verify()
        assert "unreadable: train/0007" in summary(pack.manifest)

    def test_more_unreadable_pictures_are_an_error_that_names_them(self, tmp_path):
        reader = self.faces(tmp_path, 3)
        with pytest.raises(EmodetError, match=r"data\.max_unreadable=0\.01") as caught:
            prepare(reader, tmp_path / "packs")
        for name in ("train/0000", "train/0007", "train/0014"):
            assert name in str(caught.value)
        assert not finished(tmp_path / "packs")
        assert len(prepare(reader, tmp_path / "packs", max_unreadable=0.1)) == 197
        faces = records(9, emotion=1)
        reader = MadeReader(tmp_path, faces, {face.key: None for face in faces})
        with pytest.raises(EmodetError, match="none of the 9 pictures can be read"):
            prepare(reader, tmp_path / "none", max_unreadable=1)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    reader = MadeReader(tmp_path, records(2))
    mine = put_text(Packing(reader, CROP, tmp_path / "packs", "image").folder / "mine.txt", "half")
    with pytest.raises(EmodetError, match=r"not a pack .* delete it"):
        prepare(reader, tmp_path / "packs")
    assert mine.is_file()
    with pytest.raises(EmodetError, match=r"data\.packs=.*writing the pack failed"):
        prepare(reader, mine)


class TestStopped:
    @pytest.mark.parametrize("after", [0, 100, 320])
    def test_finished_chunks_are_not_cropped_again(self, tmp_path, monkeypatch, after):
        faces, bad = records(320), {"train/0003": b"", "train/0130": b""}
        cut, done = crop_pool.cut, []

        def cut_some(image, sample, *rest):
            if len(done) == after:
                raise KeyboardInterrupt
            done.append(sample.key)
            return cut(image, sample, *rest)

        monkeypatch.setattr(crop_pool, "cut", cut_some)
        if after < 320:
            with pytest.raises(KeyboardInterrupt):
                prepare(MadeReader(tmp_path, faces, bad), tmp_path / "packs")
            assert not finished(tmp_path / "packs")
        after, count = -1, len(done)
        pack = prepare(MadeReader(tmp_path, faces, bad), tmp_path / "packs")
        assert len(done) - count == 318 - max(0, count // 64 * 64 - 1 if count else 0)
        monkeypatch.undo()
        whole = prepare(MadeReader(tmp_path, faces, bad), tmp_path / "whole")
        assert pack.fingerprint == whole.fingerprint
        pack.verify()
        assert [path.name for path in (tmp_path / "packs").iterdir()] == [pack.folder.name]

    @pytest.mark.parametrize("fault", ["a changed crop", "half a line", "another listing", "closed gaps"])
    def test_chunks_that_are_damaged_or_of_another_listing_are_made_again(self, tmp_path, monkeypatch, fault):
        faces, bad = records(200, emotion=1), {"train/0130": b""}
        stopped_in = "os.fsync" if fault == "closed gaps" else "emodet.data.packing.table_of"
        with monkeypatch.context() as patched:
            patched.setattr(stopped_in, mock.Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                prepare(MadeReader(tmp_path, faces, bad), tmp_path / "packs")
        (work,) = (tmp_path / "packs").glob("*.unfinished")
        if fault == "a changed crop":
            crops = np.load(work / "images.npy", mmap_mode="r+")
            crops[70] ^= 1
            crops.flush()
        elif fault == "half a line":
            os.truncate(work / "journal.jsonl", (work / "journal.jsonl").stat().st_size - 100)
        elif fault == "another listing":
            faces = records(200, start=20, emotion=1)
        pack = prepare(MadeReader(tmp_path, faces, bad), tmp_path / "packs")
        pack.verify()
        assert pack.fingerprint == prepare(MadeReader(tmp_path, faces, bad), tmp_path / "whole").fingerprint

    def test_a_release_that_changes_meanwhile_is_refused(self, tmp_path, monkeypatch):
        made = RELEASES["class_folders"](tmp_path / "release")
        cut = crop_pool.cut

        def cut_and_change(*given):
            os.utime(made.picture)
            return cut(*given)

        monkeypatch.setattr(crop_pool, "cut", cut_and_change)
        with pytest.raises(EmodetError, match="changed during packing"):
            prepare(open_reader(made.root), tmp_path / "packs")
        assert not finished(tmp_path / "packs")


SCRIPT = """
import sys
from pathlib import Path
from emodet.data.packing import Packing
from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

if __name__ == "__main__":
    root, packs, processes, size = sys.argv[1:]
    print("started", flush=True)
    try:
        crop = Preprocessing(size=int(size))
        print(Packing(open_reader(Path(root)), crop, Path(packs), processes=int(processes)).make().fingerprint)
    except EmodetError as problem:
        sys.exit(f"error: {problem}")
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders") / "release"
    for number in range(500):
        put_picture(root / ("happy" if number % 2 else "sad") / f"{number:04d}.png", number, 64)
    return root


def apart(root, packs, processes, size=48, script=SCRIPT):
    file = put_text(packs.parent / "pack_it.py", script)
    return list(map(str, (file, root, packs, processes, size)))


def test_a_script_without_a_main_guard_is_refused_at_once(folders, tmp_path):
    """Each process of the pool imports the script again: it must not wait for the lock that its parent holds."""
    source = f"source = Source({str(folders)!r}, packs={str(tmp_path / 'packs')!r}, processes=2)"
    code = "from emodet.preprocessing import Preprocessing\nsource.prepare(Preprocessing(size=48))"
    script = put_text(tmp_path / "train_it.py", "from emodet.data.sources import Source", source, code)
    done = python(script)
    assert done.returncode == 1
    (last,) = done.stderr.strip().splitlines()[-1:]
    assert last.startswith("emodet.errors.EmodetError")
    assert 'if __name__ == "__main__":' in last
    assert "processes=1" in last
    assert not finished(tmp_path / "packs")


@pytest.mark.slow
class TestProcesses:
    def test_the_number_of_processes_does_not_matter_and_two_at_once_make_one_pack(self, folders, tmp_path):
        done = python(*apart(folders, tmp_path / "two", 2), check=True)
        assert done.stdout.split()[-1] == prepare(open_reader(folders), tmp_path / "one").fingerprint
        command = [sys.executable, *apart(folders, tmp_path / "packs", 1, 200)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = {process.communicate()[0].split()[-1] for process in both}
        assert [process.returncode for process in both] == [0, 0]
        assert len(outputs) == 1
        assert len(finished(tmp_path / "packs")) == 1

    @pytest.mark.parametrize(
        ("end", "starting"), [(signal.SIGKILL, False), (signal.SIGTERM, False), (signal.SIGKILL, True)]
    )
    def test_a_killed_packing_ends_with_its_workers_and_is_resumed(self, folders, tmp_path, end, starting):
        command = [sys.executable, *apart(folders, tmp_path / "packs", 2, 400)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

        def workers():
            children = ["pgrep", "-P", str(process.pid), "-f", "spawn_main"]
            found = subprocess.run(children, capture_output=True, text=True, check=False).stdout.split()
            journals = tmp_path.glob("packs/*.unfinished/journal.jsonl")
            return (starting or any(b"[[" in file.read_bytes() for file in journals)) and found

        working = wait_for(workers)
        process.send_signal(end)
        process.wait()
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in working))
        assert not finished(tmp_path / "packs")
        done = python(*apart(folders, tmp_path / "packs", 1, 400), check=True)
        whole = Packing(open_reader(folders), Preprocessing(size=400), tmp_path / "whole", progress=False).make()
        assert done.stdout.split()[-1] == whole.fingerprint

    KILLER = "import os, signal\nif __name__ == '__mp_main__': os.kill(os.getpid(), signal.SIGKILL)\n"
    LIMIT = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    LIMIT += "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"

    @pytest.mark.parametrize(
        ("fault", "processes", "message"),
        [(KILLER, 2, r"out of memory.*data\.processes=1"), (LIMIT, 1, "writing the pack failed")],
    )
    def test_a_killed_worker_and_a_full_disk_are_errors(self, folders, tmp_path, fault, processes, message):
        """The kernel kills when memory runs out; beyond a limit on file sizes every write fails as on a full disk."""
        done = python(*apart(folders, tmp_path / "packs", processes, script=fault + SCRIPT))
        assert done.returncode == 1
        assert re.search(message, done.stderr)
        assert not finished(tmp_path / "packs")


class TestChangedRelease:
    @pytest.mark.parametrize("root", ["release", "link", "{tmp_path}/release"])
    def test_nothing_changed(self, tmp_path, caplog, monkeypatch, root):
        RELEASES["own_csv"](tmp_path / "release")
        assert not Source(tmp_path / "release", packs=tmp_path / "packs", processes=1).prepare(CROP)[1]
        (tmp_path / "link").symlink_to("release")
        monkeypatch.chdir(tmp_path)
        source = Source(root.format(tmp_path=tmp_path), packs="packs", processes=1)
        pack, existed = source.prepare(CROP)
        assert existed
        source.require_unchanged(pack, CROP)
        assert "has changed" not in caplog.text

    @pytest.mark.parametrize(
        ("name", "change", "said"),
        [
            (
                "own_csv",
                lambda made: made.said_in.write_text(made.said_in.read_text().replace("sad", "neutral")),
                "faces",
            ),
            ("class_folders", lambda made: put_picture(made.picture.parent / "new.jpg", 78), "faces"),
            *((name, lambda made: put_picture(made.picture, 77), "files") for name in ("own_csv", "affectnet_npy")),
        ],
    )
    def test_changes_are_refused_by_prepare_and_all_but_pixels_noticed_by_training(
        self, tmp_path, caplog, name, change, said
    ):
        made = RELEASES[name](tmp_path / "release")
        source = Source(made.root, packs=tmp_path / "packs", processes=1)
        source.prepare(CROP)
        change(made)
        pack, _ = source.prepare(CROP)
        assert ("has changed" in caplog.text) == ("force=true" in caplog.text) == (said == "faces")
        with pytest.raises(EmodetError, match=f"other {said}.*force=true"):
            source.require_unchanged(pack, CROP)
