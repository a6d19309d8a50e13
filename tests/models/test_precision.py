"""Precision by the processor's features."""

import pytest

from emodet.models.precision import default_precision
from emodet.training.assembly import build_trainer
from emodet.training.folder import RunFolder


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx2", "amx_tile", "amx_bf16"}, "bf16-mixed"),
        ({"avx512f", "avx512_bf16"}, "bf16-mixed"),
        ({"avx512f", "avx512_vnni"}, "32-true"),
        (None, "bf16-mixed|32-true"),
    ],
)
def test_a_cpu_takes_bf16_where_it_has_instructions_for_it(flags, precision):
    chosen, reason = default_precision("cpu", flags)
    assert chosen in precision.split("|")
    assert reason


def test_auto_is_resolved_where_the_trainer_is_built(tmp_path, caplog):
    options = {"_target_": "lightning.Trainer", "accelerator": "cpu", "precision": "auto"}
    with caplog.at_level("INFO"):
        trainer = build_trainer({"trainer": options, "callbacks": {}}, RunFolder(tmp_path))
    assert trainer.precision == default_precision("cpu")[0]
    assert f"precision: {trainer.precision} (" in caplog.text
