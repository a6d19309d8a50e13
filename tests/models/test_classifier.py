"""The classifier: what the net sees, what is logged, what a checkpoint needs, and what stops a training."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from emodet.data.faces import Batch
from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.models.extras import ProgressiveSizes
from emodet.models.losses import SoftCrossEntropy
from emodet.preprocessing import Preprocessing
from emodet.training.checkpoints import load_classifier, read_checkpoint

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]

NAMES = ("neutral", "happiness", "sadness", "anger")


def made(**settings: Any) -> EmotionClassifier:
    values: dict[str, Any] = {
        "net": {"name": "residual_cnn", "channels": [4, 4], "stage_dropout": [0.2, 0.2], "features": 8},
        "class_names": list(NAMES),
        "preprocessing": Preprocessing(size=32, mean=(0.6, 0.5, 0.4), std=(0.2, 0.25, 0.3)).to_dict(),
        "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.05},
    }
    return EmotionClassifier(**(values | settings))


def batch(faces: int, seed: int = 0) -> Batch:
    random = np.random.default_rng(seed)
    emotion = torch.from_numpy(random.integers(-1, 4, faces))
    target = F.one_hot(emotion.clamp(min=0), 4).float()
    target[emotion < 0] = 0.25
    return {
        "image": torch.from_numpy(random.integers(0, 256, (faces, 32, 32, 3), dtype=np.uint8)),
        "emotion": emotion,
        "target": target,
        "valence_arousal": torch.full((faces, 2), torch.nan),
        "index": torch.arange(faces),
        "source": torch.zeros(faces, dtype=torch.int64),
    }


class Made(L.LightningDataModule):
    """Batches made in memory: three to train on, two to select by."""

    def __init__(self, train: list[Batch] | None = None, val: list[Batch] | None = None) -> None:
        super().__init__()
        self.train = train or [batch(8, seed) for seed in range(3)]
        self.val = val or [batch(8, 10), batch(5, 11)]

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.train, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.val, batch_size=None)  # type: ignore[arg-type]

    test_dataloader = val_dataloader


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    values: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(default_root_dir=folder, **(values | settings))


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_net_sees_what_preprocessing_defines(channels_last: bool) -> None:
    classifier = made(channels_last=channels_last).eval()
    seen: list[torch.Tensor] = []
    classifier.net.register_forward_pre_hook(lambda _net, inputs: seen.append(inputs[0]))
    image = batch(3)["image"]
    logits = classifier(image)
    np.testing.assert_allclose(seen[0].numpy(), classifier.preprocessing.normalise(image.numpy()), rtol=0, atol=2e-6)
    assert seen[0].is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert (logits.dtype, logits.shape) == (torch.float32, (3, 4))
    torch.testing.assert_close(logits, classifier.net(seen[0]))


def test_probabilities_are_calibrated() -> None:
    classifier = made().eval()
    classifier.temperature.fill_(2.5)
    image = batch(3)["image"]
    torch.testing.assert_close(classifier.probabilities(image), (classifier(image) / 2.5).softmax(dim=1))


def test_training_sees_the_resolution_of_its_epoch_and_evaluation_the_full_one(tmp_path: Path) -> None:
    classifier = made(extras=[ProgressiveSizes([[0, 16], [2, 24], [3, 32]])])
    sides: list[tuple[int, bool, int]] = []
    classifier.net.register_forward_pre_hook(
        lambda net, inputs: sides.append((classifier.current_epoch, net.training, inputs[0].shape[-1]))
    )
    trainer(tmp_path, max_epochs=4, num_sanity_val_steps=0).fit(classifier, Made())
    assert {(epoch, side) for epoch, training, side in sides if training} == {(0, 16), (1, 16), (2, 24), (3, 32)}
    assert {side for _, training, side in sides if not training} == {32}


def test_a_smaller_resolution_is_the_mean_of_the_pixels() -> None:
    classifier = made()
    part = batch(2)
    image = part["image"]
    means = image.float().reshape(2, 16, 2, 16, 2, 3).mean(dim=(2, 4)).numpy()
    expected = (means / 255 - np.array(classifier.preprocessing.mean)) / np.array(classifier.preprocessing.std)
    np.testing.assert_allclose(
        classifier.normalise(ProgressiveSizes([[0, 16]]).transform_batch(part, classifier)["image"]).numpy(),
        expected.transpose(0, 3, 1, 2),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("sizes", [[[0, 15]], [[0, 33]], [[3, 32], [0, 16]], [[-1, 16]]])
def test_sizes_that_cannot_be(sizes: list[list[int]]) -> None:
    with pytest.raises(EmodetError, match=r"training\.progressive_sizes=.*(16|32)"):
        made(extras=[ProgressiveSizes(sizes)]).setup("fit")


def test_label_smoothing_out_of_range() -> None:
    with pytest.raises(EmodetError, match=r"loss\.label_smoothing=1\.0: expected 0 to below 1"):
        made(loss={"_target_": "emodet.models.losses.SoftCrossEntropy", "label_smoothing": 1.0}).setup("fit")


def test_class_weights_must_be_one_per_class() -> None:
    with pytest.raises(EmodetError, match=r"loss\.class_weights.*3.*4 classes"):
        made(loss=SoftCrossEntropy(class_weights=[1.0, 2.0, 3.0])).setup("fit")


def test_logged_metrics_are_those_of_the_selection_faces_alone(tmp_path: Path) -> None:
    classifier, data = made(), Made()
    run = trainer(tmp_path, num_sanity_val_steps=1)
    run.fit(classifier, data)
    classifier.eval()
    faces = {key: torch.cat([part[key] for part in data.val]) for key in ("image", "emotion", "target")}  # type: ignore[literal-required]
    with torch.no_grad():
        logits = classifier(faces["image"])
    labelled = faces["emotion"] >= 0
    right = (logits.argmax(dim=1) == faces["emotion"])[labelled]
    assert 0 < int((~labelled).sum()) < len(labelled)
    assert float(run.callback_metrics["val/accuracy"]) == pytest.approx(float(right.float().mean()))
    nll = F.cross_entropy(logits[labelled], faces["emotion"][labelled])
    assert float(run.callback_metrics["val/nll"]) == pytest.approx(float(nll), rel=1e-5)
    loss = F.cross_entropy(logits, faces["target"])
    assert float(run.callback_metrics["val/loss"]) == pytest.approx(float(loss), rel=1e-5)
    per_class = [run.callback_metrics[f"val/recall/{name}"] for name in NAMES]
    assert float(run.callback_metrics["val/balanced_accuracy"]) == pytest.approx(float(torch.stack(per_class).mean()))


def test_the_sanity_check_counts_nowhere(tmp_path: Path) -> None:
    counted: list[int] = []

    class Counting(EmotionClassifier):
        def on_validation_epoch_end(self) -> None:
            counted.append(int(self.val_metrics.scores["scores"].confmat.sum()))
            super().on_validation_epoch_end()

    values = dict(made().hparams)
    data = Made()
    trainer(tmp_path, num_sanity_val_steps=1).fit(Counting(**values), data)
    per_batch = [int((part["emotion"] >= 0).sum()) for part in data.val]
    assert counted == [per_batch[0], sum(per_batch)]


def test_test_metrics_use_the_temperature(tmp_path: Path) -> None:
    classifier = made()
    classifier.temperature.fill_(4.0)
    data = Made()
    run = trainer(tmp_path)
    run.test(classifier, data, verbose=False)
    classifier.eval()
    emotion = torch.cat([part["emotion"] for part in data.val])
    with torch.no_grad():
        logits = torch.cat([classifier(part["image"]) for part in data.val]) / 4
    nll = F.cross_entropy(logits[emotion >= 0], emotion[emotion >= 0])
    assert float(run.callback_metrics["test/nll"]) == pytest.approx(float(nll), rel=1e-5)


def test_predictions_say_which_face_they_are_of(tmp_path: Path) -> None:
    classifier = made().eval()
    (answer,) = trainer(tmp_path).predict(classifier, DataLoader([batch(5)], batch_size=None))  # type: ignore[arg-type, misc]
    torch.testing.assert_close(answer["logits"], classifier(batch(5)["image"]))  # type: ignore[call-overload, index]
    torch.testing.assert_close(answer["index"], torch.arange(5))  # type: ignore[call-overload, index]


def test_a_loss_that_is_no_number_stops_and_says_where(tmp_path: Path) -> None:
    bad = batch(8, 2)
    bad["target"] = bad["target"] * math.nan
    with pytest.raises(EmodetError, match=r"the loss became nan in epoch 0, batch 1.*optimizer\.lr"):
        trainer(tmp_path).fit(made(), Made([batch(8), bad]))


def test_one_face_with_batch_norm_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmodetError, match=r"data\.batch_size=1.*2"):
        trainer(tmp_path).fit(made(), Made([batch(1)]))


def test_dropout_is_a_function_of_seed_epoch_and_batch(tmp_path: Path) -> None:
    def weights(seed: int, disturbed: bool) -> torch.Tensor:
        torch.manual_seed(0)
        classifier = made(seed=seed)
        if disturbed:
            torch.manual_seed(99)
        trainer(tmp_path, num_sanity_val_steps=0).fit(classifier, Made())
        return torch.cat([parameter.detach().flatten() for parameter in classifier.net.parameters()])

    assert torch.equal(weights(1, False), weights(1, True))
    assert not torch.equal(weights(1, False), weights(2, False))


class Rates(L.Callback):
    """Notes the learning rate of every epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_a_plateau_counts_validations_not_epochs(tmp_path: Path) -> None:
    """A metric that never improves: the first validation sets the mark, each later one lowers the rate."""
    scheduler = {
        "_target_": "emodet.models.optimization.plateau",
        "factor": 0.5,
        "patience": 0,
        "monitor": "val/accuracy",
    }
    classifier = made(scheduler=scheduler, optimizer={"_target_": "torch.optim.SGD", "lr": 0.0008})
    never = batch(8)
    never["emotion"] = torch.full((8,), -1)
    never["emotion"][0] = 3
    with torch.no_grad():  # answers the first class for ever
        classifier.net.head[-1].weight.zero_()  # type: ignore[index, union-attr, operator]
        classifier.net.head[-1].bias.copy_(torch.tensor([50.0, 0, 0, 0]))  # type: ignore[index, union-attr, operator]
    rates = Rates()
    run = trainer(tmp_path, max_epochs=8, check_val_every_n_epoch=2, num_sanity_val_steps=2, callbacks=[rates])
    run.fit(classifier, Made(val=[never]))
    assert isinstance(run.lr_scheduler_configs[0].scheduler, ReduceLROnPlateau)
    assert rates.rates == pytest.approx([0.0008] * 4 + [0.0004] * 2 + [0.0002] * 2)


def test_a_plateau_on_no_metric(tmp_path: Path) -> None:
    classifier = made(scheduler={"_target_": "emodet.models.optimization.plateau", "monitor": "val/acuracy"})
    with pytest.raises(EmodetError, match=r"scheduler\.monitor=val/acuracy: .*val/accuracy, val/balanced_accuracy"):
        trainer(tmp_path).fit(classifier, Made())


def plain(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, member in value.items():
            assert isinstance(key, str | int)
            yield from plain(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from plain(member)
    else:
        yield value


def test_a_checkpoint_holds_plain_data_and_is_enough_to_rebuild(tmp_path: Path) -> None:
    classifier = made(loss={"_target_": "emodet.models.losses.SoftCrossEntropy", "class_weights": [1.0, 2.0, 3.0, 4.0]})
    run = trainer(tmp_path)
    run.fit(classifier, Made())
    classifier.temperature.fill_(1.7)
    run.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = read_checkpoint(tmp_path / "a.ckpt")
    assert json.loads(json.dumps(content["hyper_parameters"])) == content["hyper_parameters"]
    known = (torch.Tensor, int, float, str, bool, type(None))
    assert all(type(value) in known for value in plain(content["hyper_parameters"]))
    rebuilt = load_classifier(tmp_path / "a.ckpt")
    assert not rebuilt.training
    image = batch(4)["image"]
    torch.testing.assert_close(rebuilt.probabilities(image), classifier.eval().probabilities(image), rtol=0, atol=0)
    assert rebuilt.class_names == NAMES
    assert rebuilt.preprocessing == classifier.preprocessing
    assert float(rebuilt.temperature) == pytest.approx(1.7)


def test_compiling_keeps_the_weights_names_and_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same way in, without minutes of writing C++.
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compile_in_place(net, backend="eager"))
    compiled, as_it_is = made(compile=True), made()
    as_it_is.load_state_dict(compiled.state_dict())
    for classifier in (compiled, as_it_is):
        trainer(tmp_path).fit(classifier, Made())
    assert compiled.net._compiled_call_impl is not None
    assert compiled.state_dict().keys() == as_it_is.state_dict().keys()
    for name, tensor in compiled.net.state_dict().items():
        torch.testing.assert_close(tensor, as_it_is.net.state_dict()[name], rtol=1e-3, atol=1e-4)
