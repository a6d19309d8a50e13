"""Drawn faces in the layouts of AffectNet's CSV files and of FER+, and as the YOLO export."""

import cv2
from made_files import encoded, put, put_text
from made_releases import put_ferplus

from emodet.emotions import EMOTIONS
from emodet.synthetic import releases
from emodet.synthetic.faces import draw_face

SPLITS = ("train", "val", "test")
NOT_EMOTIONS = (8, 9, 10)  # none, uncertain, no face


def write_release(root, layout, faces, seed=0, size=48, balance="affectnet"):
    """See `emodet.synthetic.releases.write_release`. Nothing is written where there is something already."""
    if layout == "yolo":
        return releases.write_release(root, faces, seed, size, balance)
    if not root.is_dir():
        {"affectnet_csv": write_affectnet_csv, "ferplus": write_ferplus}[layout](root, faces, seed, size, balance)
    return root


def drawn(split, count, seed, size, balance, extra=()):
    """Labels and faces; a label that is no emotion has any face."""
    labels = [*releases.drawn_labels(count, seed, split, balance).tolist(), *extra]
    for number, label in enumerate(labels):
        yield label, draw_face(label % len(EMOTIONS), (seed, SPLITS.index(split), number), size)


def write_affectnet_csv(root, faces, seed, size, balance):
    """The release of 2017, with boxes, landmarks, valence and arousal; each list also has pictures of no emotion."""
    columns = "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression valence arousal"
    for split, name in (("train", "training"), ("val", "validation")):
        rows = []
        for label, face in drawn(split, faces[split], seed, size, balance, NOT_EMOTIONS):
            file = root / f"Manually_Annotated/Manually_Annotated_Images/{split}/{len(rows)}.jpg"
            put(file, encoded(face.image, "JPEG", quality=92))
            x1, y1, x2, y2 = (int(min(max(round(value), 0), size)) for value in face.box)
            landmarks = ";".join(f"{value:.2f}" for point in face.points for value in point)
            mood = (face.valence, face.arousal) if label <= 8 else (-2, -2)
            values = (f"{split}/{len(rows)}.jpg", x1, y1, x2 - x1, y2 - y1, landmarks, label, *mood)
            rows.append(",".join(map(str, values)))
        put_text(root / f"Manually_Annotated_file_lists/{name}.csv", columns.replace(" ", ","), *rows)


def write_ferplus(root, faces, seed, size, balance):
    """One Parquet file: grey pictures as lossless WebP, and ten votes each."""
    faces_with_votes = []
    for split in SPLITS:
        for label, face in drawn(split, faces.get(split, 0), seed, size, balance):
            grey = cv2.cvtColor(cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            votes = {EMOTIONS[label]: 8, EMOTIONS[(label + 1) % len(EMOTIONS)]: 2}
            faces_with_votes.append((split, encoded(grey, "WEBP", lossless=True), votes))
    put_ferplus(root / "ferplus_drawn.parquet", faces_with_votes)
