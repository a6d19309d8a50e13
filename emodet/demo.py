"""The command `python -m emodet.demo`: recognise a portrait that is part of the package and annotate it.

The picture is Eileen Collins, astronaut, photographed by NASA: public domain, from scikit-image's `data.astronaut()`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from emodet.files import default_outputs
from emodet.installation import command_parser, exit_with, named


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status of `emodet.predict`."""
    purpose = "Recognise the emotion in a portrait that is part of the package, and write it annotated."
    parser = command_parser("demo", purpose, "example: python -m emodet.demo --output demo")
    parser.add_argument("--output", type=Path, default=default_outputs() / "demo", help="folder (default: %(default)s)")
    output: Path = parser.parse_args(argv).output

    from emodet.predict import main as predict

    picture = Path(__file__).parent / "pictures" / "portrait.jpg"
    status = predict([str(picture), "--annotate", "--quiet", "--output", str(output)])
    if status == 0:
        for row in map(json.loads, (output / "faces.jsonl").read_text(encoding="utf-8").splitlines()):
            best = sorted(row["probabilities"].items(), key=lambda item: -item[1])[:3]
            print(f"face {row['face']}: " + ", ".join(f"{name} {probability:.0%}" for name, probability in best))
        print(f"annotated picture: {output / 'portrait.annotated.jpg'}\n")
        print(f"next: {named('predict')} photo.jpg\n      {named('predict')} 0 --show  (camera 0)")
    return status


if __name__ == "__main__":
    exit_with(main)
