"""Write the image of drawn faces for README.md: a row for each person, a column for each emotion.

python experiments/pictures/synthetic_faces.py
"""

from pathlib import Path

import cv2
import numpy as np

from emodet.synthetic.faces import draw_face, draw_identity

PEOPLE, SIZE, SEED = 6, 112, 12

rows = []
for person in range(PEOPLE):
    options = {"identity": draw_identity(np.random.default_rng((SEED, person))), "clean": True, "framing": (0.59, 0.59)}
    faces = [draw_face(emotion, (SEED, person, emotion), SIZE, **options) for emotion in range(8)]
    rows.append(np.concatenate([face.image for face in faces], axis=1))
sheet = np.concatenate(rows)
cv2.imwrite(str(Path(__file__).with_name("synthetic_faces.png")), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
