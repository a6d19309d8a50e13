"""The classifier: its input, logged metrics, checkpoints, resume, and what stops a training."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import LambdaCallback
from made_classifiers import NAMES, MadeData, made, made_batch, made_trainer
from own_classes import OwnLoss, OwnNet
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from emodet.errors import EmodetError
from emodet.models.classifier import EmotionClassifier
from emodet.models.losses import SoftCrossEntropy
from emodet.training.checkpoints import load_classifier, read_checkpoint

LOSS = "emodet.models.losses.SoftCrossEntropy"
PLATEAU = "emodet.models.optimization.plateau"


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("contrast", ["fixed", "crop"])
def test_the_net_sees_what_preprocessing_defines(channels_last, contrast):
    classifier = made(channels_last=channels_last, preprocessing={"size": 32, "contrast": contrast}).eval()
    seen = []
    classifier.net.register_forward_pre_hook(lambda _net, inputs: seen.append(inputs[0]))
    image = made_batch(3)["image"]
    logits = classifier(image)
    np.testing.assert_allclose(seen[0].numpy(), classifier.preprocessing.normalise(image.numpy()), rtol=0, atol=5e-6)
    assert seen[0].is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert (logits.dtype, logits.shape) == (torch.float32, (3, 4))
    classifier.temperature.fill_(2.5)
    torch.testing.assert_close(classifier.probabilities(image), (logits / 2.5).softmax(dim=1))


def test_own_net_and_loss_objects_train_and_load_from_a_checkpoint(tmp_path):
    """In Python: net and loss are objects, and everything else has a default."""
    sgd = {"_target_": "torch.optim.SGD", "lr": 0.1}
    classifier = EmotionClassifier(net=OwnNet(4), class_names=NAMES, loss=OwnLoss(2.0), optimizer=sgd)
    trainer = made_trainer(tmp_path)
    trainer.fit(classifier, datamodule=MadeData())
    assert 0 < float(trainer.callback_metrics["val/loss"]) < 6
    trainer.save_checkpoint(file := tmp_path / "own.ckpt")
    again = EmotionClassifier.load_from_checkpoint(file, net=OwnNet(4), weights_only=True)
    image = made_batch(3)["image"]
    torch.testing.assert_close(again.eval()(image), classifier.eval()(image))
    with pytest.raises(EmodetError, match=r"net: .*OwnNet.*net="):
        load_classifier(file)
    with pytest.raises(EmodetError, match=r"loss: .*OwnLoss.*loss="):
        made_trainer(tmp_path).test(again, MadeData())


def test_a_net_of_other_outputs_and_a_loss_of_other_classes_are_refused():
    with pytest.raises(EmodetError, match="net: 5 outputs; 4 are needed"):
        EmotionClassifier(OwnNet(5), NAMES)(made_batch(2)["image"])
    with pytest.raises(EmodetError, match="net: 4 outputs; 6 are needed"):
        EmotionClassifier(OwnNet(4), NAMES, valence_arousal=1.0)(made_batch(2)["image"])
    with pytest.raises(EmodetError, match=r"loss\.class_weights=\[1, 2, 3\].*4 classes"):
        made(loss={"_target_": LOSS, "class_weights": [1, 2, 3]}).setup("fit")


def test_a_checkpoint_holds_plain_data_and_rebuilds_the_classifier(tmp_path):
    classifier = made(loss={"_target_": LOSS, "class_weights": [1.0, 2.0, 3.0, 4.0]})
    trainer = made_trainer(tmp_path)
    trainer.fit(classifier, MadeData())
    classifier.temperature.fill_(1.7)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    stored = read_checkpoint(tmp_path / "a.ckpt")["hyper_parameters"]
    assert json.loads(json.dumps(stored)) == dict(stored)
    rebuilt = load_classifier(tmp_path / "a.ckpt")
    assert not rebuilt.training
    image = made_batch(4)["image"]
    torch.testing.assert_close(rebuilt.probabilities(image), classifier.eval().probabilities(image), rtol=0, atol=0)
    assert rebuilt.class_names == tuple(NAMES)
    assert rebuilt.preprocessing == classifier.preprocessing
    for each in (classifier, rebuilt):
        made_trainer(tmp_path).test(each, MadeData(), verbose=False)
    assert isinstance(rebuilt.loss, SoftCrossEntropy)
    assert rebuilt.loss.weight is not None


def test_logged_metrics_are_those_of_all_val_faces(tmp_path):
    classifier, data = made(), MadeData()
    run = made_trainer(tmp_path, num_sanity_val_steps=1)
    run.fit(classifier, data)
    classifier.eval()
    faces = {key: torch.cat([part[key] for part in data.val]) for key in ("image", "emotion", "target")}
    with torch.no_grad():
        logits = classifier(faces["image"])
    labelled = faces["emotion"] >= 0
    right = (logits.argmax(dim=1) == faces["emotion"])[labelled]
    assert 0 < int((~labelled).sum()) < len(labelled)
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert logged["val/accuracy"] == pytest.approx(float(right.float().mean()))
    nll = F.cross_entropy(logits[labelled], faces["emotion"][labelled])
    assert logged["val/nll"] == pytest.approx(float(nll), rel=1e-5)
    assert logged["val/loss"] == pytest.approx(float(F.cross_entropy(logits, faces["target"])), rel=1e-5)
    # Test metrics use the temperature.
    classifier.temperature.fill_(4.0)
    run.test(classifier, data, verbose=False)
    nll = F.cross_entropy(logits[labelled] / 4, faces["emotion"][labelled])
    assert float(run.callback_metrics["test/nll"]) == pytest.approx(float(nll), rel=1e-5)


def test_predictions_carry_the_index_of_their_face(tmp_path):
    classifier = made(valence_arousal=1.0).eval()
    (answer,) = made_trainer(tmp_path).predict(classifier, DataLoader([made_batch(5)], batch_size=None))
    logits, both = classifier.predict_heads(made_batch(5)["image"])
    torch.testing.assert_close(answer["logits"], logits)
    torch.testing.assert_close(answer["valence_arousal"], both)
    torch.testing.assert_close(answer["index"], torch.arange(5))


def test_a_plateau_counts_validations_not_epochs(tmp_path):
    """A metric that never improves: the first validation sets the mark, each later one lowers the rate."""
    scheduler = {"_target_": PLATEAU, "factor": 0.5, "patience": 0, "monitor": "val/accuracy"}
    classifier = made(scheduler=scheduler, optimizer={"_target_": "torch.optim.SGD", "lr": 0.0008})
    never = made_batch(8)
    never["emotion"] = torch.full((8,), -1)
    never["emotion"][0] = 3
    with torch.no_grad():  # predicts the first class for ever
        classifier.net.head[-1].weight.zero_()
        classifier.net.head[-1].bias.copy_(torch.tensor([50.0, 0, 0, 0]))
    rates = []
    note = LambdaCallback(on_train_epoch_start=lambda run, _: rates.append(run.optimizers[0].param_groups[0]["lr"]))
    run = made_trainer(tmp_path, max_epochs=8, check_val_every_n_epoch=2, num_sanity_val_steps=2, callbacks=[note])
    run.fit(classifier, MadeData(val=[never]))
    assert isinstance(run.lr_scheduler_configs[0].scheduler, ReduceLROnPlateau)
    assert rates == pytest.approx([0.0008] * 4 + [0.0004] * 2 + [0.0002] * 2)


def test_compiling_keeps_names_and_values_of_weights(tmp_path, monkeypatch):
    # The same way in, without minutes of writing C++.
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compile_in_place(net, backend="eager"))
    compiled, plain = made(compile=True), made()
    for classifier in (compiled, plain):
        made_trainer(tmp_path).fit(classifier, MadeData())
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for name, tensor in compiled.net.state_dict().items():
        torch.testing.assert_close(tensor, plain.net.state_dict()[name], rtol=1e-3, atol=1e-4)
