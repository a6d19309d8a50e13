"""Classes of one's own: from folders and CSV files to packs, splits and batches, by name; fine-tuning to an answer."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_files import encoded, put
from made_reader import put_picture, ready

from emodet import Recognizer
from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.errors import EmodetError
from emodet.images import decode_rgb
from emodet.inference.detectors import find_faces, make_detector
from emodet.modelfile import SHIPPED as SHIPPED_FILES
from emodet.modelfile import read_model_file
from emodet.models.classifier import EmotionClassifier
from emodet.synthetic.faces import draw_face
from emodet.training.checkpoints import load_weights, read_card
from emodet.training.trained import SHIPPED, init_from

OWN = ("bored", "confused", "engaged")


def folders(root, *names, count=6, start=0):
    for place, name in enumerate(names, start):
        for number in range(count):
            put_picture(root / name / f"{number}.png", 100 * place + number)
    return root


def opened(root, reader="class_folders", **options):
    source = Source(root, reader, packs=root.parent / "packs", processes=1, val_from=0.34)
    return ready(EmotionDataModule(source, {"size": 16}, batch_size=4, num_workers=0, **options))


EMOTION_FOLDERS = {"happy": "happiness", "angry": "anger", "Neutral": "neutral"}


@pytest.mark.parametrize(
    ("labels", "classes", "class_names"),
    [
        ({"engaged": "engaged", "2_bored": "bored", "confused": "confused"}, None, OWN),  # in alphabetical order
        ({"engaged": "engaged", "bored": "bored", "confused": None}, ["engaged", "Bored"], ("engaged", "bored")),
        (EMOTION_FOLDERS, None, EMOTIONS),
        (EMOTION_FOLDERS, ["happy", "anger", "neutral"], ("happiness", "anger", "neutral")),
        ({"happy": "happy", "bored": "bored"}, ["bored", "happiness"], ("bored", "happy")),
    ],
)
def test_folders_are_classes_and_classes_choose_and_order_them(labels, classes, class_names, tmp_path):
    data = opened(folders(tmp_path / "photos", *labels), classes=classes)
    assert data.class_names == class_names
    used, table = np.concatenate([data.splits.train, data.splits.val]), data.pack.table
    found = {(table.key[row].split("/")[0], class_names[table.emotion[row]]) for row in used}
    assert found == {(folder, label) for folder, label in labels.items() if label}
    assert sorted(data.class_counts())[-len(found) :] == [4] * len(found)
    assert next(iter(data.train_dataloader()))["target"].shape == (4, len(class_names))
    data.pack.verify()


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        *((OWN, classes, r"data\.classes=") for classes in (["bored", "angry"], ["bored", "Bored"], 8)),
        (("happy", "bored"), None, r"'bored'.*data\.classes=\[bored,happy\]"),
    ],
)
def test_classes_that_the_data_lacks_are_refused(tmp_path, names, classes, message):
    with pytest.raises(EmodetError, match=message):
        opened(folders(tmp_path / "photos", *names), classes=classes)


def test_an_audit_leaves_out_a_model_of_other_classes(command, refused, tmp_path, capfd):
    own = f"data.root={folders(tmp_path / 'photos', *OWN)}"
    audit = ["data=class_folders", own, "preprocessing.size=16", "quick=true", f"output={tmp_path / 'audit'}"]
    assert command("emodet.audit", *audit) == 0
    assert "not checked by model=int8, which lacks bored, confused, engaged" in capfd.readouterr().out
    assert "lacks bored, confused, engaged" in refused("emodet.audit", *audit, f"model={SHIPPED_FILES['fp32']}")


def test_a_csv_with_own_labels(tmp_path):
    root = folders(tmp_path / "photos", *OWN)
    rows = [f"{name}/{number}.png,{name.title()}" for name in OWN for number in range(6)]
    (root / "labels.csv").write_text("\n".join(["source,label", *rows]), encoding="utf-8")
    data = opened(root, "own_csv")
    assert data.class_names == ("Bored", "Confused", "Engaged")
    assert data.class_counts() == [4, 4, 4]
    (root / "labels.csv").write_text("\n".join(["source,label", *rows, "bored/0.png,-1"]), encoding="utf-8")
    with pytest.raises(EmodetError, match="emotion='-1' is a number"):
        open_reader(root, "own_csv").read()


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


FINETUNE = Path(__file__).parents[1] / "conf" / "experiment" / "finetune.yaml"
CLASSES = {"cheerful": "happiness", "cross": "anger", "gloomy": "sadness"}


def photograph(emotion, number):
    """uint8 (240, 320, 3), RGB: a drawn face somewhere before a plain ground."""
    random = np.random.default_rng([77, number])
    picture = np.full((240, 320, 3), random.integers(90, 180, 3), dtype=np.uint8)
    side, left, top = random.integers(120, 170), random.integers(10, 130), random.integers(10, 60)
    face = draw_face(EMOTIONS.index(emotion), (6, number), int(side)).image
    picture[top : top + side, left : left + side] = face
    return picture


def found_photographs(emotion, count, start=0):
    """The first ones in which the detector finds the drawn face."""
    detector = make_detector("auto", threads=1)
    pictures = (photograph(emotion, number) for number in itertools.count(start))
    return list(itertools.islice((each for each in pictures if find_faces(detector, each)), count))


def test_the_finetune_experiment_suits_the_shipped_weights():
    settings, crops = yaml.safe_load(FINETUNE.read_text(encoding="utf-8")), read_card(SHIPPED)[1].preprocessing
    assert {key: crops.to_dict()[key] for key in settings["preprocessing"]} == settings["preprocessing"]
    classifier = EmotionClassifier({"_target_": "emodet.models.residual_cnn.ResidualCNN"}, ("happy", "bored"), crops)
    notes = init_from(classifier, Path("shipped"))
    assert "carried over" in notes[0]
    assert all("happy" in note and "fresh rows for bored" in note for note in notes[1:])
    given = torch.load(SHIPPED, weights_only=True)
    (layer,) = (name for name in given if name.endswith("weight") and given[name].shape[0] == len(EMOTIONS))
    assert torch.equal(classifier.net.state_dict()[layer][0], given[layer][EMOTIONS.index("happiness")].float())
    classifier, _ = load_weights(SHIPPED)
    model = read_model_file("fp32", threads=1)
    crops = np.stack([draw_face(number % 8, (7, number), model.info.preprocessing.size).image for number in range(16)])
    crops = np.stack([model.info.preprocessing.crop(crop) for crop in crops])
    with torch.inference_mode():
        probabilities = classifier.probabilities(torch.from_numpy(crops)).numpy()
    assert np.abs(probabilities - model.probabilities(crops)).max() < 0.02


@pytest.mark.slow
def test_thirty_photographs_of_own_classes_become_answers(output, tmp_path):
    photos, run = tmp_path / "photos", tmp_path / "run"
    for name, emotion in CLASSES.items():
        for number, picture in enumerate(found_photographs(emotion, 10)):
            put(photos / name / f"{number}.png", encoded(picture))
    arguments = ["experiment=finetune", "data=class_folders", f"data.root={photos}", f"hydra.run.dir={run}"]
    printed = output("emodet.train", *arguments)
    model = run / "model" / "emodet-fp32.onnx"
    assert f"python -m emodet.predict photo.jpg --model {model}" in printed
    assert "too few" in printed
    recognizer = Recognizer(model)
    assert recognizer.model.info.class_names == tuple(CLASSES)
    right = 0
    for name, emotion in CLASSES.items():
        for picture in found_photographs(emotion, 4, start=1000):
            right += recognizer(picture)[0].emotion == name
    assert right >= 8  # of 12; by chance 4


def test_rows_of_predict_are_labels_for_the_next_training(command, tmp_path):
    for number, picture in enumerate(found_photographs("happiness", 3)):
        put(tmp_path / "photos" / f"{number}.png", encoded(picture))
    arguments = [str(tmp_path / "photos"), "--rows", "csv", "--output", str(tmp_path), "--threads", "1"]
    assert command("emodet.predict", *arguments) == 0
    file = tmp_path / "faces.csv"
    header, *rows = csv.reader(file.read_text(encoding="utf-8").splitlines())
    for row, label in zip(rows, ("keen", "bored", "uncertain"), strict=True):
        row[header.index("emotion")] = label  # put right by hand
    file.write_text("\n".join(map(",".join, [header, *rows])), encoding="utf-8")
    reader = open_reader(file)
    listing = reader.read()
    assert listing.class_names == ("bored", "keen")
    assert listing.left_out == {"uncertain": 1}
    detector = make_detector("auto", threads=1)
    for sample in listing.samples:
        (face,) = find_faces(detector, decode_rgb(reader.encoded(sample)))
        assert np.allclose(sample.box, face.box, atol=0.05)
        assert np.allclose(sample.landmarks, face.landmarks, atol=0.05)
