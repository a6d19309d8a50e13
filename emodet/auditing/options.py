"""Options of the audit: the groups `proposals` and `out_of_fold` of its configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from emodet.errors import require


@dataclass(frozen=True, slots=True)
class ProposalOptions:
    """Conditions for proposed corrections.

    Relabelling is never proposed: voters agreed with only 70 % of new labels with a probability of 0.95 in FER2013
    (experiments/ferplus/audit/README.md), and a wrong label is worse than a missing face.

    Attributes:
        splits: Splits with corrections. Scores on a changed val or test split are not comparable.
        exclude_below: Probability of the label below which a label issue is proposed for exclusion.
        agreed_from: Share of the label in the soft label (votes of several people) from which nothing is proposed.
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
        folds: Number of folds, each with its own net, at least 2.
        epochs: Epochs of each net.
        side: Size of the reduced crops in pixels, at least 16.
    """

    folds: int = 5
    epochs: int = 6
    side: int = 32

    def __post_init__(self) -> None:
        for name, value, least in (("folds", self.folds, 2), ("epochs", self.epochs, 1), ("side", self.side, 16)):
            require(value >= least, f"out_of_fold.{name}", value, f"{least} or more")
