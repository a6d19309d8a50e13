"""Classes of one's own: from folders and CSV files to packs, splits and batches, always by name."""

import numpy as np
import pytest
from made_reader import put_picture, ready

from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError

OWN = ("bored", "confused", "engaged")


def folders(root, *names, count=6, start=0):
    for place, name in enumerate(names, start):
        for number in range(count):
            put_picture(root / name / f"{number}.png", 100 * place + number)
    return root


def opened(root, reader="class_folders", **options):
    source = Source(root, reader, packs=root.parent / "packs", processes=1, val_from=0.34)
    return ready(EmotionDataModule(source, {"size": 16}, batch_size=4, num_workers=0, **options))


def test_folders_of_any_names_are_classes_in_alphabetical_order(tmp_path):
    data = opened(folders(tmp_path / "photos", "engaged", "2_bored", "confused"))
    assert data.class_names == data.pack.class_names == OWN
    assert data.class_counts() == [4, 4, 4]
    assert data.pack.manifest["counts"] == {"train": dict.fromkeys(OWN, 6)}
    rows = data.splits.val
    keys = data.pack.table.key[rows].tolist()
    assert [OWN[number] for number in data.pack.table.emotion[rows]] == [key.split("/")[0].strip("2_") for key in keys]
    batch = next(iter(data.train_dataloader()))
    assert batch["target"].shape == (4, 3)
    data.pack.verify()


def test_named_classes_are_in_the_order_named_and_others_are_not_used(tmp_path):
    data = opened(folders(tmp_path / "photos", *OWN), classes=["engaged", "Bored"])
    assert data.class_names == ("engaged", "bored")
    assert data.pack.class_names == ("engaged", "bored", "confused")
    used = np.concatenate([data.splits.train, data.splits.val])
    shown = {(data.pack.table.key[row].split("/")[0], int(data.pack.table.emotion[row])) for row in used}
    assert shown == {("engaged", 0), ("bored", 1)}


def test_a_subset_of_the_emotions_is_a_smaller_net_and_another_label_beside_them_needs_names(tmp_path):
    root = folders(tmp_path / "photos", "happy", "angry", "Neutral")
    assert opened(root).class_names == EMOTIONS
    data = opened(root, classes=["happy", "anger", "neutral"])
    assert data.class_names == ("happiness", "anger", "neutral")
    assert data.class_counts() == [4, 4, 4]
    root = folders(tmp_path / "more" / "photos", "happy", "bored")
    with pytest.raises(EmodetError, match=r"'bored'.*data\.classes=\[bored,happy\]"):
        opened(root)
    assert opened(root, classes=["bored", "happiness"]).class_names == ("bored", "happy")


def test_a_csv_with_labels_of_ones_own(tmp_path):
    root = folders(tmp_path / "photos", *OWN)
    rows = [f"{name}/{number}.png,{name.title()}" for name in OWN for number in range(6)]
    (root / "labels.csv").write_text("\n".join(["source,label", *rows]), encoding="utf-8")
    data = opened(root, "own_csv")
    assert data.class_names == ("Bored", "Confused", "Engaged")
    assert data.class_counts() == [4, 4, 4]
    (root / "labels.csv").write_text("\n".join(["source,label", *rows, "bored/0.png,-1"]), encoding="utf-8")
    with pytest.raises(EmodetError, match="emotion='-1' is a number"):
        open_reader(root, "own_csv").read()


@pytest.mark.parametrize("classes", [["bored", "angry"], ["bored", "Bored"], 8])
def test_classes_that_the_data_lacks_are_refused(tmp_path, classes):
    with pytest.raises(EmodetError, match=r"data\.classes="):
        opened(folders(tmp_path / "photos", *OWN), classes=classes)


def test_data_sets_are_mixed_by_class_name(tmp_path):
    one, other = folders(tmp_path / "one", "angry", "bored"), tmp_path / "other"
    folders(other, "anger", "sad", start=2)
    shared = {"packs": tmp_path / "packs", "processes": 1, "val_from": 0.34}
    sources = {"a": Source(one, "class_folders", **shared), "b": Source(other, "class_folders", **shared)}
    data = ready(EmotionDataModule(sources, {"size": 16}, 4, num_workers=0, classes=["bored", "angry", "sadness"]))
    assert data.class_names == ("bored", "angry", "sadness")
    table = data.pack.table
    numbers = {key.split("/")[0]: int(number) for key, number in zip(table.key, table.emotion, strict=True)}
    assert numbers == {"a:angry": 1, "a:bored": 0, "b:anger": 1, "b:sad": 2}
