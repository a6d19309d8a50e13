"""`python -m emodet.prepare` lists and packs a release, keeps an existing pack and verifies it."""

import shutil

import numpy as np
from made_releases import as_ferplus, class_folders

from emodet.data.pack import Pack

SMALL = ["data.processes=1", "preprocessing.size=32"]


def only_pack(packs):
    (folder,) = [file.parent for file in packs.glob("*/manifest.json")]
    return folder


def test_a_release_is_listed_and_packed(output, release, packs, tmp_path):
    said = output("emodet.prepare", "data=affectnet_yolo", f"data.root={release}", *SMALL)
    pack = Pack(only_pack(packs))
    assert len(pack) == 120
    assert pack.preprocessing.size == 32
    for part in (pack.fingerprint, "train", "contempt", "faces packed"):
        assert part in said
    assert "published" not in said  # drawn faces are no part of AffectNet's
    copy = shutil.copytree(release, tmp_path / "copy", ignore=shutil.ignore_patterns("synthetic.json"))
    assert "published" in output("emodet.prepare", "data=affectnet_yolo", f"data.root={copy}", "list=true")
    class_folders(tmp_path / "own")
    said = output("emodet.prepare", "data=class_folders", f"data.root={tmp_path / 'own'}", "list=true")
    assert "published" not in said


def test_an_existing_pack_is_kept_and_verified(command, output, refused, release, packs):
    arguments = ("emodet.prepare", "data=affectnet_yolo", f"data.root={release}", *SMALL)
    command(*arguments)
    before = (only_pack(packs) / "manifest.json").stat().st_mtime_ns
    assert "(was there)" in output(*arguments, "verify=true")
    assert (only_pack(packs) / "manifest.json").stat().st_mtime_ns == before
    assert command(*arguments, "force=true") == 0
    assert (only_pack(packs) / "manifest.json").stat().st_mtime_ns > before
    images = np.load(only_pack(packs) / "images.npy", mmap_mode="r+")
    images[60, 3, 3, 1] ^= 1
    images.flush()
    assert "images.npy" in refused(*arguments, "verify=true")


def test_an_experiment_can_be_prepared(command, release, tmp_path, packs):
    root = as_ferplus(release, tmp_path / "ferplus")
    assert command("emodet.prepare", "experiment=ferplus", f"data.root={root}", "data.processes=1") == 0
    pack = Pack(only_pack(packs))
    assert pack.preprocessing.colour == "grey"
    assert pack.preprocessing.size == 48


def test_drawn_faces_are_drawn_before_packing(output, tmp_path, packs, command):
    root = tmp_path / "drawn"
    assert str(root) in output("emodet.prepare", "data=synthetic", f"data.root={root}", "list=true")
    assert not root.exists()
    drawn = ["data=synthetic", f"data.root={tmp_path}/drawn", "data.synthetic.faces={train: 16, val: 8, test: 8}"]
    assert command("emodet.prepare", *drawn, "data.synthetic.progress=false", *SMALL) == 0
    assert "drawn faces" in Pack(only_pack(packs)).manifest["title"]
    few = "synthetic: {faces: {train: 16, val: 8, test: 8}, seed: 1}"
    mix = f"data.sources={{a: {{data: class_folders, root: {tmp_path}/drawn, reader: yolo}}, "
    mix += f"b: {{data: synthetic, root: {tmp_path}/other, {few}}}}}"
    assert "fingerprint of the mix" in output("emodet.prepare", "data=mixed", mix, *SMALL)


def test_a_changed_release_is_refused_until_it_is_packed_again(command, refused, release, tmp_path, packs):
    root = tmp_path / "changed"
    shutil.copytree(release, root)
    arguments = ("emodet.prepare", f"data.root={root}", "data.reader=yolo", *SMALL)
    assert command(*arguments) == 0
    label = sorted((root / "train" / "labels").iterdir())[0]
    label.write_text(f"{(int(label.read_text()[0]) + 1) % 8} 0.5 0.5 1 1\n")
    message = refused(*arguments)
    assert str(root) in message
    assert "force=true" in message
    assert command(*arguments, "force=true") == 0
