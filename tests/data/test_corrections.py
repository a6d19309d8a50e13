"""Corrections: the file's format, its effect on the data, and where runs and reports name it."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from made_predictions import make_predictions
from made_reader import MadeReader, ready, records

from emodet.data.corrections import Correction, read_corrections, write_corrections
from emodet.data.datamodule import build_datamodule
from emodet.data.mixed import MixedPack
from emodet.data.packing import Packing
from emodet.errors import EmodetError
from emodet.evaluation import report as reporting
from emodet.preprocessing import Preprocessing

HEADER = "key,split,action,emotion,was,reason,score\n"


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Sixteen faces of train, labelled 0 to 7 twice, and eight of val; every face also has a soft label."""
    shares = [tuple(1.0 if place == number % 8 else 0.0 for place in range(8)) for number in range(16)]
    faces = records(16, emotion=[number % 8 for number in range(16)], soft_label=shares)
    faces += records(8, "val", emotion=list(range(8)), soft_label=shares[:8])
    folder = tmp_path_factory.mktemp("corrections")
    return Packing(MadeReader(folder, faces), Preprocessing(size=48), folder / "packs", processes=1).make()


@pytest.fixture
def written(tmp_path):
    def write(rows, header=HEADER):
        file = tmp_path / "corrections.csv"
        file.write_text(header + rows, encoding="utf-8")
        return read_corrections(file)

    return write


def test_what_is_written_is_read_again(tmp_path):
    rows = [
        Correction("a,b.png", "exclude", split="train", was=3, reason="copy of c", score=0.25),
        Correction("c.png", "relabel", 6, was=-1, reason='he said "no"'),
        Correction("d.png", "relabel", 0, split="val"),
    ]
    write_corrections(rows, tmp_path / "some.csv")
    read = read_corrections(tmp_path / "some.csv")
    assert [replace(row, line=0) for row in read.rows] == rows
    assert [row.line for row in read.rows] == [2, 3, 4]
    assert b"\r" not in (tmp_path / "some.csv").read_bytes()  # people compare and edit it by line


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,,drop,,,,\n", "line 2: action 'drop'.*exclude, relabel"),
        ("a,,exclude,,,,\nb,,relabel,,,,\n", "line 3: relabel"),
        ("a,,relabel,furious,,,\n", "line 2: class name 'furious'"),
        ("a,,relabel,uncertain,,,\n", "line 2: relabel"),
        ("a,,exclude,fear,,,\n", "line 2: exclude .*emotion"),
        ("a,,exclude,,,,high\n", "line 2: score='high'"),
        ("a,training,exclude,,,,\n", "line 2: split 'training'.*train, val or test"),
        (",,exclude,,,,\n", "line 2: .*key"),
        ("a,,exclude\n", "line 2: 3 columns.*7"),
        ("", "no rows"),
        # Rows that do not fit the data.
        ("train/0003,,exclude,,,,\ntrain/9999,,exclude,,,,\n", "1 of 2 rows"),
        ("train/9999,,exclude,,,,\n", "line 2: train/9999"),
        ("train/0003,val,exclude,,,,\n", "line 2: train/0003 .*train.*val"),
        ("train/0003,,exclude,,fear,,\n", "surprise.*fear"),
        ("train/0003,,exclude,,,,\ntrain/0003,train,relabel,fear,,,\n", "line 3: train/0003"),
    ],
)
def test_a_bad_row_is_named(written, pack, rows, said):
    with pytest.raises(EmodetError, match=said) as problem:
        MixedPack({"": pack}, corrections=written(rows).file)
    assert "corrections.csv" in str(problem.value)


def test_a_missing_column_or_file_is_named(written, tmp_path):
    with pytest.raises(EmodetError, match=r"corrections\.csv: the header lacks action"):
        written("a,fear\n", header="key,emotion\n")
    for path in (tmp_path / "nowhere.csv", "/dev/zero"):
        with pytest.raises(EmodetError, match="cannot be read"):
            read_corrections(path)


def test_corrections_change_the_named_faces_alone(written, pack):
    before = pack.table
    corrections = written("train/0003,train,exclude,,surprise,,\nval/0005,,relabel,happy,disgust,,\n")
    after, counts = corrections.apply(before)
    changed = np.flatnonzero(before.emotion != after.emotion)
    assert before.key[changed].tolist() == ["train/0003", "val/0005"]
    assert after.emotion[changed].tolist() == [-1, 1]
    assert np.isnan(after.soft_label[changed]).all()
    others = np.setdiff1d(np.arange(len(before)), changed)
    np.testing.assert_array_equal(before.soft_label[others], after.soft_label[others])
    assert counts == {"train": {"excluded": 1}, "val": {"relabelled": 1}}


def test_workers_read_the_corrected_table(written, pack):
    corrected = MixedPack({"": pack}, corrections=written("train/0003,,relabel,fear,,,\n").file)
    far = pickle.loads(pickle.dumps(corrected))
    assert far.table.emotion.tolist() == corrected.table.emotion.tolist() != pack.table.emotion.tolist()
    np.testing.assert_array_equal(far.images([3, 20]), pack.images([3, 20]))
    assert (len(far), far.fingerprint) == (len(pack), pack.fingerprint)
    # The table is read again there, not sent.
    assert len(pickle.dumps(corrected)) < len(pickle.dumps(corrected.table))


@pytest.fixture
def data_with(release, own_folders):
    def make(**options):
        values = {"packs": own_folders / "packs", "num_workers": 0, "processes": 1, "batch_size": 8} | options
        return ready(build_datamodule({"root": release, **values}, {"size": 48}))

    return make


def test_the_data_module_leaves_out_and_relabels_and_a_report_says_so(data_with, tmp_path, caplog, monkeypatch):
    plain, file = data_with(), tmp_path / "mine.csv"
    gone, renamed, tested = *plain.splits.train[:2].tolist(), plain.splits.test[0]
    table = plain.pack.table
    new = int(table.emotion[renamed] + 1) % 8
    rows = [Correction(str(table.key[gone]), "exclude"), Correction(str(table.key[renamed]), "relabel", new)]
    write_corrections([*rows, Correction(str(table.key[tested]), "exclude")], file)
    with caplog.at_level("INFO"):
        data = data_with(corrections=str(file))
    assert gone not in np.concatenate([data.splits.train, data.splits.val, data.splits.test])
    assert tested not in data.splits.test
    assert data.splits.dropped["excluded by corrections"] == 1
    assert "train 1 excluded, 1 relabelled; test 1 excluded" in caplog.text
    assert "1 training faces dropped: excluded by corrections" in caplog.text
    (place,) = np.flatnonzero(data.splits.train == renamed)
    loader = data.evaluation_dataloader("train")
    assert loader.dataset.__getitems__(next(iter(loader.batch_sampler)))["target"][place].argmax() == new
    assert data.pack.fingerprint == plain.pack.fingerprint == plain.fingerprint != data.fingerprint
    seen = {}
    monkeypatch.setattr(reporting, "write_report", lambda evaluation, *_, details, **__: seen.update(details))
    rows = data.splits.test
    predictions = make_predictions(len(rows), emotion=data.pack.table.emotion[rows], index=rows)
    evaluation = reporting.report(predictions, data, tmp_path / "report", {}, resamples=10)
    assert "test 1 excluded" in seen["corrections"]
    assert read_corrections(file).sha256 in seen["corrections"]
    assert any("cannot be compared" in note for note in evaluation.notes)


@pytest.mark.usefixtures("without_pictures")
def test_a_run_records_its_corrections_and_resumes_with_no_others(command, refused, small, data_with, tmp_path):
    table, train = data_with().pack.table, data_with().splits.train
    file, run = tmp_path / "mine.csv", tmp_path / "run"
    write_corrections([Correction(str(table.key[train[0]]), "exclude")], file)
    arguments = ["experiment=affectnet_yolo", *small, "logger=csv", "trainer.precision=32-true", "trainer.max_epochs=1"]
    assert command("emodet.train", *arguments, f"data.corrections={file}", f"hydra.run.dir={run}") == 0
    facts = json.loads((run / "run.json").read_text())
    digest = read_corrections(file).sha256
    assert facts["corrections"] == {"file": "mine.csv", "sha256": digest, "faces": {"train": {"excluded": 1}}}
    assert facts["fingerprint"] != facts["pack"]["fingerprint"]
    assert facts["faces"]["dropped"]["excluded by corrections"] == 1
    assert (run / "corrections.csv").read_bytes() == file.read_bytes()
    # The run keeps its own copy: what becomes of the file changes nothing, editing the copy is noticed.
    file.unlink()
    write_corrections([Correction(str(table.key[train[1]]), "exclude")], run / "corrections.csv")
    assert "this run began with other data" in refused("emodet.train", f"resume={run}")
