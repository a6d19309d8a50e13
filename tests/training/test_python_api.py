"""Training in ten lines of Python: data module, classifier and Lightning's trainer, without Hydra."""

import lightning as L
import torch

from emodet.data.datamodule import EmotionDataModule
from emodet.data.sources import Source
from emodet.models.classifier import EmotionClassifier
from emodet.models.residual_cnn import ResidualCNN
from emodet.preprocessing import Preprocessing


def test_ten_lines_of_python_train(release, tmp_path):
    preprocessing = Preprocessing(size=48)
    source = Source(root=release, reader="yolo", packs=tmp_path / "packs", processes=1)
    data = EmotionDataModule(source, preprocessing, batch_size=8, num_workers=0)
    data.prepare_data()
    data.setup()
    assert data.places() == {"root": str(release.resolve()), "packs": str((tmp_path / "packs").resolve())}
    net = ResidualCNN(num_classes=8, channels=[4, 4, 8, 8], features=8)
    classifier = EmotionClassifier(net, data.class_names, preprocessing)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, enable_progress_bar=False)
    trainer.fit(classifier, datamodule=data)
    metrics = trainer.validate(classifier, datamodule=data, verbose=False)[0]
    assert 0 <= metrics["val/accuracy"] <= 1
    image = torch.randint(0, 256, (2, 48, 48, 3), dtype=torch.uint8)
    assert classifier.eval().probabilities(image).sum(dim=1).allclose(torch.ones(2), atol=1e-5)
