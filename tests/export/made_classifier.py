"""A small net whose every part affects its outputs."""

import torch

from emodet.emotions import EMOTIONS
from emodet.models.classifier import EmotionClassifier


def made_classifier(*, valence_arousal=None, **preprocessing):
    """Untrained, with batch norms that change their input, a temperature, and logits far enough apart to compare."""
    torch.manual_seed(0)
    classifier = EmotionClassifier(
        net={"name": "residual_cnn", "channels": [4, 8, 8, 16], "features": 16},
        class_names=list(EMOTIONS),
        preprocessing={"size": 48, "mean": [0.5, 0.4, 0.6], "std": [0.25, 0.3, 0.2], **preprocessing},
        valence_arousal=valence_arousal,
    ).eval()
    for module in classifier.net.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.3, 1.5)
    with torch.no_grad():
        classifier.net.head[-1].weight.mul_(12)
    classifier.temperature.fill_(1.7)
    return classifier
