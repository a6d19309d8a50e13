"""Concordance, error and signs from sums: the textbook's figures, whatever is masked, however faces are shared out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emodet.models.agreement import AGREEMENTS, TERMS, agreement_terms, concordance, rmse, sign_agreement

VALUES = st.floats(-1, 1, allow_nan=False, width=32)
PAIRS = arrays.arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=VALUES)


def sums(said, annotated):
    return np.asarray(agreement_terms(said, annotated).sum(axis=0))


@given(PAIRS, st.data())
def test_a_face_without_annotation_counts_nowhere(pairs, data):
    known = data.draw(arrays.arrays(np.bool_, len(pairs)))
    annotated = np.where(known, pairs[:, 1], np.nan)
    found = sums(pairs[:, 0], annotated)
    np.testing.assert_array_equal(found, sums(np.where(known, pairs[:, 0], 0.77), annotated))
    np.testing.assert_allclose(found, sums(pairs[known, 0], pairs[known, 1]), atol=1e-12)
    assert found[0] == known.sum()


def test_what_is_not_defined_is_not_a_number():
    nothing = np.zeros(len(TERMS))
    assert all(np.isnan(measure(nothing)) for measure in AGREEMENTS.values())
    same = np.full(5, 0.3)
    assert np.isnan(concordance(sums(same, same)))
    assert concordance(sums(same, np.linspace(-1, 1, 5))) == pytest.approx(0, abs=1e-12)
    assert concordance(sums(same, same + 0.2)) == pytest.approx(0, abs=1e-12)
    # One face: a difference, but nothing that could go together.
    assert concordance(sums(np.array([0.5]), np.array([0.1]))) == 0
    assert rmse(sums(np.array([0.5]), np.array([0.1]))) == pytest.approx(0.4)


def test_a_zero_agrees_with_a_zero_alone():
    said, annotated = np.array([0.0, 0.2, 0.0, -0.1]), np.array([0.0, 0.0, -0.5, -0.9])
    assert sign_agreement(sums(said, annotated)) == 0.5
