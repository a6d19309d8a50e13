"""Small nets that answer far from evenly, also as plain weights with a card: teachers without a training."""

import torch
from torch import nn

from emodet.emotions import EMOTIONS
from emodet.modelinfo import OUTPUTS, ModelInfo
from emodet.models.classifier import EmotionClassifier
from emodet.training.checkpoints import write_weights


def made_classifier(valence_arousal=None, **preprocessing):
    """Untrained, with batch norms that change their input, a temperature, and logits far enough apart to compare."""
    torch.manual_seed(0)
    classifier = EmotionClassifier(
        net={"name": "residual_cnn", "channels": [4, 8, 8, 16], "features": 16},
        class_names=list(EMOTIONS),
        preprocessing={"size": 48, "mean": [0.5, 0.4, 0.6], "std": [0.25, 0.3, 0.2], **preprocessing},
        valence_arousal=valence_arousal,
    ).eval()
    for norm in (each for each in classifier.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.3, 1.5)
    with torch.no_grad():
        classifier.net.head[-1].weight.mul_(12)
    classifier.temperature.fill_(1.7)
    return classifier


def made_teacher(file):
    """Write such a net as plain weights (.pt) with their card."""
    classifier = made_classifier()
    write_weights(classifier, card_of(classifier, temperature=1.7), file)
    return file


def card_of(classifier, **given):
    """The card of its plain weights; what is not given is empty."""
    values = {"temperature": 1.0, "training_data": (), "metrics": {}, "commit": "", "fingerprint": ""} | given
    outputs = OUTPUTS if classifier.has_va_head else OUTPUTS[:1]
    values |= {"class_names": classifier.class_names, "preprocessing": classifier.preprocessing}
    return ModelInfo(**values, precision="fp32", outputs=outputs)
