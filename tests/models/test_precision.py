"""Precision by the processor's features."""

import pytest

from emodet.models.precision import default_precision


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ({"avx2", "amx_tile", "amx_bf16"}, "bf16-mixed"),
        ({"avx512f", "avx512_bf16"}, "bf16-mixed"),
        ({"avx512f", "avx512_vnni"}, "32-true"),
        (set(), "32-true"),
    ],
)
def test_a_cpu_takes_bf16_where_it_has_instructions_for_it(flags: set[str], precision: str) -> None:
    chosen = default_precision("cpu", flags)
    assert chosen.precision == precision
    assert chosen.channels_last
    assert chosen.reason


def test_this_machine_has_a_precision() -> None:
    assert default_precision().precision in ("bf16-mixed", "32-true")
