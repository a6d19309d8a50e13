"""Make a pack: ``python -m emodet.prepare data=affectnet data.root=/path/to/AffectNet``.

With ``experiment=NAME`` it makes the pack that this experiment will ask for; `emodet.train` then starts at once.
"""

from emodet.laboratory import require_laboratory

require_laboratory("emodet.prepare")

import shutil

from omegaconf import DictConfig

from emodet.config import command, given
from emodet.data.summary import summary
from emodet.runs.assembly import build_data


@command("prepare")
def main(config: DictConfig) -> None:
    """Read, crop, pack, and say what was found."""
    data = build_data(given(config))
    folder = data.pack_folder()
    if config.force and folder.is_dir():
        shutil.rmtree(folder)
    was_there = folder.is_dir()
    data.prepare_data()
    data.setup()
    print(summary(data.pack.manifest))
    if was_there and config.verify:
        data.pack.verify()
        print("every byte is what the manifest says")
    print(f"pack:        {folder}{' (was there)' if was_there else ''}\nfingerprint: {data.pack.fingerprint}")


if __name__ == "__main__":
    main()
