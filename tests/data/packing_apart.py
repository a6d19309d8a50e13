"""Preparing in processes of their own, which can be killed and limited."""

import json
import sys
from pathlib import Path

from made_reader import picture, png

PREPARE = """
import json, sys
from pathlib import Path
from emodet.data import parts
from emodet.data.packing import Packing
from emodet.datasets.readers import open_reader
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

if __name__ == "__main__":
    root, packs, given = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    parts.PART_BYTES = given["part_bytes"]
    if given["limit"]:
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (given["limit"],) * 2)
    if given["blind"]:
        import shutil
        shutil.disk_usage = lambda _: type("", (), {"free": 2**50})
    print("go", flush=True)
    try:
        packing = Packing(
            reader=open_reader(Path(root)),
            preprocessing=Preprocessing(size=given["size"]),
            packs=packs,
            processes=given["processes"],
            progress=False,
        )
        if given["shard"]:
            done = packing.shard(parts.Shard.parse(given["shard"]))
            print(done.faces)
        else:
            print(packing.whole().fingerprint)
    except EmodetError as error:
        sys.exit(f"error: {error}")
"""


def prepare_apart(
    root: Path,
    packs: Path,
    processes: int = 1,
    *,
    size: int = 48,
    limit: int | None = None,
    part_bytes: int = 2**29,
    shard: str | None = None,
    blind: bool = False,
    script: str = PREPARE,
) -> list[str]:
    """The command. It says ``go`` when everything is imported, and the fingerprint, or a shard's faces, at the end.

    `blind` makes it believe that there is room enough.
    """
    file = packs.parent / "prepare.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script)
    given = {"processes": processes, "size": size, "limit": limit, "part_bytes": part_bytes, "shard": shard}
    given["blind"] = blind
    return [sys.executable, str(file), str(root), str(packs), json.dumps(given)]


def yolo_release(root: Path, train: int = 400) -> Path:
    """So many little pictures as a release on disk, and eight for validation."""
    for name, count in (("train", train), ("valid", 8)):
        for part in ("images", "labels"):
            (root / name / part).mkdir(parents=True)
        for number in range(count):
            (root / name / "images" / f"{number:04d}.png").write_bytes(png(picture(number + len(name))))
            (root / name / "labels" / f"{number:04d}.txt").write_text(f"{number % 8} 0.5 0.5 1 1\n")
    names = "[anger, contempt, disgust, fear, happy, neutral, sad, surprise]"
    (root / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 8\nnames: {names}\n")
    return root
