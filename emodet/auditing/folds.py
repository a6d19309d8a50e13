"""Which faces are held out together: folds in which no photograph and no person lies on both sides."""

import warnings

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from emodet.errors import EmodetError

__all__ = ["assign_folds", "with_subjects"]

Int64 = npt.NDArray[np.int64]


def with_subjects(photographs: Int64, subject: npt.NDArray[np.str_]) -> Int64:
    """Join photographs of the same person: int64 (N,), equal for faces that must stay together.

    Args:
        photographs: int64 (N,), see `emodet.auditing.duplicates.group_numbers`.
        subject: str (N,), empty where unknown.
    """
    known = subject != ""
    if not known.any():
        return photographs
    names, of_person = np.unique(subject[known], return_inverse=True)
    count = int(photographs.max()) + 1
    edges = (photographs[known], count + of_person)
    graph = coo_array((np.ones(int(known.sum()), dtype=np.bool_), edges), shape=(count + len(names),) * 2)
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[photographs], dtype=np.int64)


def assign_folds(emotion: Int64, groups: Int64, folds: int, seed: int) -> Int64:
    """The fold that each face is held out in: int64 (N,), 0 to folds - 1.

    Args:
        emotion: int64 (N,); every fold gets its share of each class, as far as whole groups allow.
        groups: int64 (N,), what stays together.
        folds: At least 2.
        seed: Of the assignment.

    Raises:
        EmodetError: There are fewer groups than folds, or cleanlab's scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ModuleNotFoundError:
        raise EmodetError("folds need scikit-learn: pip install 'emodet[audit]'") from None
    available = len(np.unique(groups))
    if not 2 <= folds <= available:
        raise EmodetError(f"folds={folds}: from 2 to {available}, the number of different photographs or people")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    fold_of = np.empty(len(emotion), dtype=np.int64)
    with warnings.catch_warnings():
        # A class with fewer faces than folds is missing from some: nothing that could be done better.
        warnings.simplefilter("ignore", UserWarning)
        try:
            for number, (_, held_out) in enumerate(splitter.split(np.zeros(len(emotion)), emotion, groups)):
                fold_of[held_out] = number
        except ValueError as problem:
            raise EmodetError(f"folds={folds}: {problem}") from None
    return fold_of
