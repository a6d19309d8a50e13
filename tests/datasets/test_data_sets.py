"""Data sets of each kind, from their files on disk to a pack, by the real command."""

import cv2
import numpy as np
import pytest

from emodet.data.pack import Pack
from emodet.datasets.readers import READERS
from emodet.emotions import EMOTIONS


def colour(number):
    return (number * 29 % 256, number * 67 % 256, 255 - number * 13 % 256)


def put(root, path, number, side=40):
    """A picture of one colour that tells which one it is."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((side, side, 3), colour(number), np.uint8)
    assert cv2.imwrite(str(root / path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def put_text(root, path, *lines):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("\n".join([*lines, ""]))


def rafdb(root):
    names = [f"{'test' if number % 4 == 3 else 'train'}_{number:05d}" for number in range(28)]
    put_text(root, "EmoLabel/list_patition_label.txt", *(f"{name}.jpg {i % 7 + 1}" for i, name in enumerate(names)))
    for number, name in enumerate(names):
        put(root, f"Image/aligned/{name}_aligned.png", number)
        (root / f"Image/aligned/{name}_aligned.png").rename(root / f"Image/aligned/{name}_aligned.jpg")
    order = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    return {number: EMOTIONS.index(order[number % 7]) for number in range(28)}


def grey(number):
    return 9 * number


def fer2013(root):
    usages = ["Training", "Training", "PublicTest", "PrivateTest"]
    rows = [f"{i % 7},{' '.join([str(grey(i))] * 2304)},{usages[i % 4]}" for i in range(28)]
    put_text(root, "fer2013.csv", "emotion,pixels,Usage", *rows)
    order = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    return {number: EMOTIONS.index(order[number % 7]) for number in range(28)}


def expw(root):
    # Two faces a photograph, left and right; the first one's box is wider than high if top and left are mixed up.
    lines = []
    for number in range(0, 28, 2):
        picture = np.full((60, 120, 3), 0, np.uint8)
        picture[10:40, 5:35], picture[20:50, 80:110] = colour(number), colour(number + 1)
        (root / "image/origin").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"image/origin/{number}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        lines += [f"{number}.png 0 10 5 35 40 9.9 {number % 7}", f"{number}.png 1 20 80 110 50 9.9 {(number + 1) % 7}"]
    put_text(root, "label/label.lst", *lines)
    order = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    return {number: EMOTIONS.index(order[number % 7]) for number in range(28)}


def own_csv(root):
    splits = ["train", "train", "val", "test"]
    for number in range(32):
        put(root, f"pictures/{number}.png", number)
    rows = [f"{number}.png;{EMOTIONS[number % 8]};{splits[number // 8]}" for number in range(32)]
    put_text(root, "mine.csv", "path;emotion;split", *rows)
    return {number: number % 8 for number in range(32)}


def test_a_box_outside_the_picture_is_reported_and_never_a_smear_of_its_edge(command, tmp_path, capsys):
    for number in range(8):
        put(tmp_path, f"{number}.png", number)
    boxes = ["0,0,30,30", "-9,-9,20,20", "30,30,60,49", "45,0,90,30", "0,30,30,90", *["5,5,30,30"] * 3]
    rows = [f"{number}.png,{'happy' if number % 2 else 'sad'},{box}" for number, box in enumerate(boxes)]
    put_text(tmp_path, "mine.csv", "path,emotion,x1,y1,x2,y2", *rows)
    arguments = ["data=own_csv", f"data.root={tmp_path}", f"data.packs={tmp_path / 'packs'}", "data.processes=1"]
    arguments += ["data.crop=box", "data.val_from=0.5", "preprocessing.size=32"]
    assert command("emodet.prepare", *arguments) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in ("30, 30, 60, 49", "40×40", "data.max_unreadable"))
    assert command("emodet.prepare", *arguments, "data.max_unreadable=0.5") == 0
    said = capsys.readouterr().out
    assert all(f"unreadable: {number}.png" in said for number in (2, 3, 4))


@pytest.mark.parametrize("name", ["rafdb", "own_csv"])
def test_a_root_that_is_not_set_is_asked_for_by_the_data_sets_own_name(command, name, capsys):
    assert command("emodet.prepare", f"data={name}") == 2
    message = capsys.readouterr().err
    assert "data.root is not set" in message
    assert READERS[name].title in message
    assert "mohammadmahoor" not in message


MADE = [rafdb, fer2013, expw, own_csv]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_each_picture_keeps_its_label(make, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMODET_PACKS", str(tmp_path / "packs"))
    root = tmp_path / "release"
    labels = make(root)
    # Recognised by its signs too, before it is named.
    for choice in ("data=affectnet data.packs=" + str(tmp_path / "auto"), f"data={make.__name__}"):
        # So few faces are not enough for a tenth of each class.
        small = ["data.processes=1", "preprocessing.size=32", "data.val_from=0.5"]
        arguments = [*choice.split(), f"data.root={root}", *small]
        if make is expw and choice.startswith("data=affectnet"):
            arguments.append("data.crop=box")
        assert command("emodet.prepare", *arguments) == 0, capsys.readouterr().err
    (folder,), (same,) = (tmp_path / "packs").iterdir(), (tmp_path / "auto").iterdir()
    pack = Pack(folder)
    assert pack.fingerprint == Pack(same).fingerprint
    assert len(pack) == len(labels)
    crops = pack.images(np.arange(len(pack)))
    means = crops.reshape(len(pack), -1, 3).mean(axis=1)
    grey_set = make is fer2013
    wanted = np.array([(grey(number),) * 3 if grey_set else colour(number) for number in labels], np.float64)
    # Each pixel is its picture's colour, so the nearest colour names the picture.
    distance = np.abs(means[:, None] - wanted[None]).max(axis=2)
    assert distance.min(axis=1).max() < 3
    numbers = np.array(list(labels))[distance.argmin(axis=1)]
    assert sorted(numbers) == sorted(labels)
    assert [labels[number] for number in numbers.tolist()] == pack.table.emotion.tolist()
