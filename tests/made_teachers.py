"""Small nets that answer far from evenly, as plain weights with a card: teachers without a training."""

from pathlib import Path
from typing import Any

import torch

from emodet.emotions import chosen_classes
from emodet.modelfile import TrainingData
from emodet.models.classifier import EmotionClassifier
from emodet.training.weights import WeightsCard, write_weights


def made_teacher(file: Path, seed: int = 0, *, size: int = 48, classes: int = 8, temperature: float = 1.5) -> Path:
    """Write ``file`` (.pt) and its card; each seed gives another net."""
    torch.manual_seed(seed)
    classifier = EmotionClassifier(
        net={"name": "residual_cnn", "channels": [4, 8, 8, 16], "features": 16},
        class_names=list(chosen_classes(classes)),
        preprocessing={"size": size},
    )
    with torch.no_grad():
        # Batch norms that know what pictures do to them tell one picture from another.
        for norm in (module for module in classifier.modules() if isinstance(module, torch.nn.BatchNorm2d)):
            norm.momentum = None  # the mean of all
        for _ in range(10):
            blobs = torch.rand(16, 3, 4, 4) * torch.rand(16, 1, 1, 1) * 255
            pictures = torch.nn.functional.interpolate(blobs, size=(size, size), mode="bilinear")
            classifier.net(classifier.normalise(pictures.permute(0, 2, 3, 1)))
        classifier.net.head[-1].weight.mul_(6)
    terms = (TrainingData(f"teachers' faces {seed}", "may teach"),)
    write_weights(classifier, card_of(classifier, temperature=temperature, training_data=terms), file)
    return file


def card_of(classifier: EmotionClassifier, **given: Any) -> WeightsCard:
    """The card of its plain weights; what is not given is empty."""
    values = {"temperature": 1.0, "training_data": (), "metrics": {}, "commit": "", "fingerprint": ""} | given
    return WeightsCard(
        net=dict(classifier.hparams["net"]),
        class_names=classifier.class_names,
        preprocessing=classifier.preprocessing.to_dict(),
        valence_arousal=classifier.has_va_head,
        **values,
    )
