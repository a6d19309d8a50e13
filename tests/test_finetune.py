"""``experiment=finetune``: own classes from a few photographs, to an answer of the recognizer."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_files import encoded, put

from emodet import Recognizer
from emodet.datasets.readers import open_reader
from emodet.emotions import EMOTIONS
from emodet.images import decode_rgb
from emodet.inference.detectors import find_faces, make_detector
from emodet.modelfile import read_model_file
from emodet.models.classifier import EmotionClassifier
from emodet.synthetic.faces import draw_face
from emodet.training.checkpoints import load_weights, read_card
from emodet.training.trained import SHIPPED, init_from

FINETUNE = Path(__file__).parents[1] / "conf" / "experiment" / "finetune.yaml"
OWN = {"cheerful": "happiness", "cross": "anger", "gloomy": "sadness"}


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


def test_the_experiment_suits_the_shipped_weights_and_these_the_shipped_model_file():
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
    for name, emotion in OWN.items():
        for number, picture in enumerate(found_photographs(emotion, 10)):
            put(photos / name / f"{number}.png", encoded(picture))
    arguments = ["experiment=finetune", "data=class_folders", f"data.root={photos}", f"hydra.run.dir={run}"]
    printed = output("emodet.train", *arguments)
    model = run / "model" / "emodet-fp32.onnx"
    assert f"python -m emodet.predict photo.jpg --model {model}" in printed
    assert "too few" in printed
    recognizer = Recognizer(model)
    assert recognizer.model.info.class_names == tuple(OWN)
    right = 0
    for name, emotion in OWN.items():
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
