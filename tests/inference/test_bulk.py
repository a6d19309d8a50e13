"""Pictures to rows with Ray Data."""

import os
import sys

import pytest
from PIL import Image

from emodet.errors import EmodetError
from emodet.inference.bulk import recognise_bulk


def test_ray_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EmodetError, match=r"emodet\[cluster\]"):
        recognise_bulk(["a.png"], tmp_path / "rows")


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed(model_path, tmp_path):
    ray, parquet = pytest.importorskip("ray"), pytest.importorskip("pyarrow.parquet")
    from emodet.inference.detectors import WholePicture

    killed = tmp_path / "killed"

    class Fragile(WholePicture):
        def __call__(self, image_rgb, *, longest_side=0, min_score=None):
            if image_rgb[0, 0, 0] == 90 and not killed.exists():
                killed.touch()
                os._exit(9)
            return super().__call__(image_rgb)

    paths = [str(tmp_path / f"{number:02}.png") for number in range(30)]
    for number, path in enumerate(paths):
        Image.new("RGB", (40, 40), (6 * number, 99, 150)).save(path)
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    try:
        recognise_bulk(
            [*paths, "missing.png"], tmp_path / "rows", batch_size=4, model=str(model_path), detector=Fragile()
        )
    finally:
        ray.shutdown()
    rows = parquet.read_table(tmp_path / "rows").to_pylist()
    assert killed.exists()
    assert sorted(row["source"] for row in rows) == sorted([*paths, "missing.png"])
    assert ["missing.png" in (row["error"] or "") for row in rows if row["source"] == "missing.png"] == [True]
