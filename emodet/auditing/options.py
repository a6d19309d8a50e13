"""Options of the audit, the keys `proposals` and `out_of_fold` of its configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from emodet.errors import require


@dataclass(frozen=True, slots=True)
class ProposalOptions:
    """Which corrections are proposed.

    None is proposed for relabelling: at 0.95 for another class, voters agreed with 70 % of the new labels of FER2013
    (experiments/ferplus/audit/README.md), and a wrong label is worse than one face less.

    Attributes:
        splits: Splits whose faces may be corrected. Scores on a changed val or test split are not comparable.
        exclude_below: A label issue is proposed for exclusion where the label's probability is below this.
        agreed_from: Nothing is proposed where the soft label (votes of several people) gives the label this share.
    """

    splits: Sequence[str] = ("train",)
    exclude_below: float = 0.05
    agreed_from: float = 0.5

    def __post_init__(self) -> None:
        require(set(self.splits) <= {"train", "val", "test"}, "proposals.splits", [*self.splits], "train, val or test")


@dataclass(frozen=True, slots=True)
class OutOfFoldOptions:
    """Size of the out-of-fold trainings.

    Attributes:
        folds: Number of folds and of nets, at least 2.
        epochs: Epochs of each net.
        side: Pixels that crops are reduced to, at least 16.
    """

    folds: int = 5
    epochs: int = 6
    side: int = 32

    def __post_init__(self) -> None:
        for name, value, least in (("folds", self.folds, 2), ("epochs", self.epochs, 1), ("side", self.side, 16)):
            require(value >= least, f"out_of_fold.{name}", value, f"{least} or more")
