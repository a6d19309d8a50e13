"""Faces on a torch device: the same batches as worker processes make, but for what augmentation drew."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from made_reader import picture, png
from torch._subclasses.fake_tensor import FakeTensorMode

from emodet.data import device_faces
from emodet.data.datamodule import EmotionDataModule
from emodet.data.faces import Batch
from emodet.data.splits import Draw
from emodet.emotions import EMOTIONS, FERPLUS_ORDER
from emodet.errors import EmodetError
from emodet.preprocessing import Preprocessing

CROP = Preprocessing(size=48).to_dict()
STANDARD = yaml.safe_load((Path(__file__).parents[2] / "conf/augmentation/standard.yaml").read_text())["steps"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FER+'s layout; every tenth face is undecided, so that it only has a soft label."""
    folder = tmp_path_factory.mktemp("device") / "ferplus"
    folder.mkdir()
    rows: list[dict[str, Any]] = []
    for split, count in {"train": 60, "val": 17, "test": 11}.items():
        for number in range(count):
            votes = {EMOTIONS[number % 7]: 8, "contempt": 2} if number % 10 != 9 else {"fear": 5, "sadness": 5}
            every = dict.fromkeys((*FERPLUS_ORDER, "unknown", "NF"), 0) | votes
            rows.append({"index": len(rows), "split": split, "image": png(picture(len(rows))), **every})
    pq.write_table(pa.Table.from_pylist(rows), folder / "faces.parquet")
    return folder


@pytest.fixture
def both(root: Path) -> Any:
    """Makes two data modules that differ in where the faces lie."""

    def make(crop: dict[str, Any] = CROP, **options: Any) -> list[EmotionDataModule]:
        made = []
        for device in (None, "cpu"):
            values = {"batch_size": 8, "num_workers": 0, "processes": 1, "device": device} | options
            data = EmotionDataModule(root if "sources" not in values else None, crop, root.parent / "packs", **values)
            data.prepare_data()
            data.setup()
            made.append(data)
        return made

    return make


def require_equal(ones: Iterable[Batch], others: Iterable[Batch], *, crops: bool) -> None:
    count = 0
    for one, other in zip(ones, others, strict=True):
        assert set(one) == set(other)
        count += 1
        for name in one:
            left, right = one[name], other[name]  # type: ignore[literal-required]
            assert (left.shape, left.dtype, left.device) == (right.shape, right.dtype, right.device), name
            assert right.is_contiguous(), name
            if crops or name != "image":
                assert torch.equal(left.nan_to_num(), right.nan_to_num()), name
    assert count


class TestSameBatches:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"labels": "soft"},
            {"labels": "soft", "classes": 7},
            {"balanced": True, "seed": 3},
            {"training_faces": 20, "val": 0.3},
        ],
        ids=str,
    )
    def test_but_for_what_augmentation_drew(self, both: Any, options: dict[str, Any]) -> None:
        host, device = both(augmentation=STANDARD, **options)
        require_equal(host.train_dataloader(), device.train_dataloader(), crops=False)

    def test_to_the_last_bit_without_augmentation(self, both: Any) -> None:
        host, device = both(evaluation_batch_size=5)
        for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
            require_equal(getattr(host, name)(), getattr(device, name)(), crops=True)

    def test_evaluation_is_never_augmented(self, both: Any) -> None:
        host, device = both(augmentation=STANDARD, labels="soft")
        for name in ("val_dataloader", "test_dataloader"):
            require_equal(getattr(host, name)(), getattr(device, name)(), crops=True)
        for split in ("train", "val", "test"):
            require_equal(host.evaluation_dataloader(split), device.evaluation_dataloader(split), crops=True)

    def test_grey_crops_lie_there_as_one_channel(self, both: Any) -> None:
        host, device = both(Preprocessing(size=48, colour="grey").to_dict())
        require_equal(host.train_dataloader(), device.train_dataloader(), crops=True)
        dataset: Any = device.train_dataloader().dataset
        assert dataset._crops.shape == (len(device.splits.train), 48, 48, 1)

    def test_of_several_data_sets(self, both: Any, root: Path, release: Path) -> None:
        own = {"reader": "ferplus", "root": str(root), "labels": "soft", "weight": 2.0}
        sources = {"votes": own, "drawn": {"reader": "yolo", "root": str(release)}}
        host, device = both(sources=sources, evaluation_batch_size=16)
        require_equal(host.train_dataloader(), device.train_dataloader(), crops=True)
        require_equal(host.val_dataloader(), device.val_dataloader(), crops=True)
        assert {int(number) for batch in device.train_dataloader() for number in batch["source"]} == {0, 1}

    def test_with_corrections(self, both: Any, root: Path, tmp_path: Path) -> None:
        (plain, _), file = both(), tmp_path / "corrections.csv"
        keys = plain.pack.table.key[plain.splits.train[:2]].tolist()
        file.write_text(f"key,action,emotion\n{keys[0]},exclude,\n{keys[1]},relabel,contempt\n")
        host, device = both(corrections=file, batch_size=5)
        assert len(device.splits.train) == len(plain.splits.train) - 1
        require_equal(host.train_dataloader(), device.train_dataloader(), crops=True)
        found = {}
        for batch in device.train_dataloader():
            found |= dict(zip(batch["index"].tolist(), batch["emotion"].tolist(), strict=True))
        assert found[int(plain.splits.train[1])] == 7

    def test_each_process_has_its_share(self, both: Any) -> None:
        host, device = both(augmentation=STANDARD, evaluation_batch_size=4)
        for rank in (0, 1):
            for data in (host, device):
                data._place = lambda rank=rank: (rank, 2)
                data._on_device.clear()
            require_equal(host.train_dataloader(), device.train_dataloader(), crops=False)
            require_equal(host.val_dataloader(), device.val_dataloader(), crops=True)
            assert len(device._on_device["val"].rows) == len(range(rank, len(host.splits.val), 2))


class TestAugmented:
    def test_by_the_draw_alone(self, both: Any) -> None:
        for one, other in ((both(augmentation=STANDARD)[1], both(augmentation=STANDARD)[1]),):
            require_equal(one.train_dataloader(), other.train_dataloader(), crops=True)
            require_equal(one.train_dataloader(), one.train_dataloader(), crops=True)

    def test_otherwise_in_each_epoch(self, both: Any) -> None:
        data = both(augmentation=STANDARD)[1]
        faces: Any = data.train_dataloader().dataset
        rows = data.splits.train[:8]
        one, other = (faces.__getitems__(Draw(rows, seed))["image"] for seed in (1, 2))
        assert not torch.equal(one, other)
        assert not torch.equal(one, torch.from_numpy(data.pack.images(rows)))

    def test_what_is_shown_is_what_is_trained(self, both: Any) -> None:
        host, device = both(augmentation=STANDARD)
        shown = device.augmented(12)
        assert np.array_equal(shown[:, 0], host.augmented(12)[:, 0])
        assert not np.array_equal(shown[:, 1], host.augmented(12)[:, 1])
        assert not np.array_equal(shown[:, 1], shown[:, 0])
        assert np.array_equal(shown, device.augmented(12))

    def test_a_draw_of_other_faces_is_refused(self, both: Any) -> None:
        data = both()[1]
        faces: Any = data.train_dataloader().dataset
        with pytest.raises(IndexError, match="not among the 54"):
            faces.__getitems__(Draw(data.splits.test[:2], 0))


def test_the_faces_are_put_there_once(both: Any) -> None:
    data = both()[1]
    one, other = data.train_dataloader().dataset, data.train_dataloader().dataset
    assert one is other
    assert data.shared_out(data.splits).train_dataloader().dataset is not one


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"device": "gpu"},
                r"data\.device=gpu: there are cuda, cuda:0 and so on, and cpu; or leave out data\.device",
            ),
            ({"device": "cuda:x"}, r"data\.device=cuda:x: there are"),
            (
                {"device": "cpu", "augmentation": [{"name": "Posterize"}]},
                "Posterize is not made on a device, there are",
            ),
            (
                {"device": "cpu", "augmentation": [{"name": "OneOf", "transforms": [{"name": "Sharpen"}]}]},
                r"Sharpen is not made on a device.* leave out data\.device",
            ),
        ],
    )
    def test_arguments(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(EmodetError, match=message):
            EmotionDataModule(tmp_path, CROP, tmp_path, **options)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
    def test_a_device_that_is_not_there(self, tmp_path: Path) -> None:
        data = EmotionDataModule(tmp_path, CROP, tmp_path, device="cuda")
        with pytest.raises(EmodetError, match=r"data\.device=cuda: torch .* finds no CUDA device"):
            data.require_device()

    def test_too_little_memory(self, both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        data = both()[1]
        needed = 54 * 48 * 48 * 3
        monkeypatch.setattr(device_faces, "free_bytes", lambda device: int(needed / device_faces.FOR_FACES) - 1)
        with pytest.raises(EmodetError, match=r"54 training faces take 0\.00 GB \(48×48×3 bytes each\).*80%.*smaller"):
            data.train_dataloader()
        monkeypatch.setattr(device_faces, "free_bytes", lambda device: int(needed / device_faces.FOR_FACES) + 1)
        assert len(list(data.train_dataloader())) == 6

    def test_distillation_does_not_go_together_with_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("emodet.data.datamodule.open_distillation", lambda **_: object())
        with pytest.raises(EmodetError, match=r"data\.device=cpu does not go together with distillation\.answers"):
            EmotionDataModule(tmp_path, CROP, tmp_path, device="cpu", distillation={"answers": "somewhere"})


class TestPlace:
    """Which CUDA device it is, told by what a trainer says; there need not be one."""

    @pytest.fixture(autouse=True)
    def two_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)

    def place(self, name: str, net: str | None, processes: int = 1) -> str:
        trainer: Any = None
        if net is not None:
            trainer = SimpleNamespace(
                strategy=SimpleNamespace(root_device=torch.device(net)), world_size=processes, global_rank=0
            )
        return str(device_faces.place_of(device_faces.device_named(name), trainer))

    def test_it_is_the_one_that_the_net_trains_on(self) -> None:
        assert self.place("cuda", "cuda:0", 2) == "cuda:0"
        assert self.place("cuda", "cuda:1", 2) == "cuda:1"
        assert self.place("cuda", None) == "cuda:1"

    def test_it_may_be_named(self) -> None:
        assert self.place("cuda:0", "cuda:1") == "cuda:0"
        assert self.place("cpu", "cuda:1", 2) == "cpu"

    @pytest.mark.parametrize(
        ("name", "net", "processes", "message"),
        [
            ("cuda", "cpu", 1, r"data\.device=cuda, but the net trains on cpu.*trainer\.accelerator=gpu"),
            ("cuda:0", "cuda:0", 2, r"data\.device=cuda:0: the 2 processes.*data\.device=cuda the faces of each"),
            ("cuda:2", "cuda:0", 1, r"data\.device=cuda:2: torch sees 2 CUDA"),
        ],
    )
    def test_refused(self, name: str, net: str, processes: int, message: str) -> None:
        with pytest.raises(EmodetError, match=message):
            self.place(name, net, processes)


def test_a_resumed_epoch_goes_on_where_it_stopped(both: Any) -> None:
    data = both(augmentation=STANDARD)[1]
    data._progress = lambda: (2, 0)
    whole = list(data.train_dataloader())
    data._progress = lambda: (2, 4)
    require_equal(whole[4:], data.train_dataloader(), crops=True)


def test_a_batch_on_cuda_is_gathered_there(both: Any) -> None:
    """Without a CUDA device: torch's stand-ins for tensors know on which device each is."""
    data = both(Preprocessing(size=48, colour="grey").to_dict(), augmentation=STANDARD)[1]
    faces: Any = data.train_dataloader().dataset
    rows = data.splits.train[:16]
    with FakeTensorMode(allow_non_fake_inputs=True):
        faces.device = torch.device("cuda")
        faces._crops = torch.empty(faces._crops.shape, dtype=torch.uint8, device="cuda")
        faces._labels = {name: torch.empty_like(values, device="cuda") for name, values in faces._labels.items()}
        batch = faces.__getitems__(Draw(rows, 5))
    assert {values.device.type for values in batch.values()} == {"cuda"}
    assert batch["image"].shape == (16, 48, 48, 3)
