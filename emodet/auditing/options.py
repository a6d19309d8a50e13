"""Options of the audit, the keys `copies`, `quality`, `proposals` and `out_of_fold` of its configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from emodet.errors import EmodetError

__all__ = ["CopyOptions", "OutOfFoldOptions", "ProposalOptions", "QualityOptions"]


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """When two images are copies of one photograph.

    Attributes:
        radius: Bits, 0 to 31, in which the perceptual hashes of copies may differ.
        correlation: Least correlation of their 16×16 thumbnails, above 0 to 1.
        min_contrast: Images with a lower standard deviation of their grey values (0 to 127.5) are not compared.
    """

    radius: int = 8
    correlation: float = 0.95
    min_contrast: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.correlation <= 1:
            raise EmodetError(f"copies.correlation={self.correlation}: above 0, at most 1")
        if not 0 <= self.radius < 32:
            raise EmodetError(f"copies.radius={self.radius}: 0 to 31 bits")


@dataclass(frozen=True, slots=True)
class QualityOptions:
    """Thresholds of image issues. Grey values from 0 to 255.

    Attributes:
        uniform: Standard deviation below which an image has one colour.
        dark: Mean below which it is nearly black.
        glaring: Mean above which it is nearly white.
        flat: Standard deviation below which it has hardly any contrast.
        blurred: Robust deviations below the median log sharpness of the data set; relative, because sharpness depends
            on the size of the images before they were packed.
    """

    uniform: float = 2.0
    dark: float = 20.0
    glaring: float = 240.0
    flat: float = 12.0
    blurred: float = 3.0


@dataclass(frozen=True, slots=True)
class ProposalOptions:
    """Which corrections are proposed.

    None is proposed for relabelling: at 0.95 for another class, voters agreed with 70 % of the new labels of FER2013
    (experiments/ferplus/audit/README.md), and a wrong label is worse than one face less.

    Attributes:
        splits: Splits whose faces may be corrected. By default only train: scores on a changed val or test split cannot
            be compared with those of others.
        exclude_below: A label issue is proposed for exclusion where the label's probability is below this.
        agreed_from: No label issue is proposed where the soft label, the votes of several people, gives the label at
            least this share.
    """

    splits: Sequence[str] = ("train",)
    exclude_below: float = 0.05
    agreed_from: float = 0.5

    def __post_init__(self) -> None:
        odd = [split for split in self.splits if split not in ("train", "val", "test")]
        if odd:
            raise EmodetError(f"proposals.splits={list(self.splits)}: {odd[0]} is not train, val or test")


@dataclass(frozen=True, slots=True)
class OutOfFoldOptions:
    """Size of the out-of-fold trainings.

    Attributes:
        folds: Number of folds and of nets, at least 2.
        epochs: Of each net.
        side: Pixels that crops are reduced to, at least 16.
    """

    folds: int = 5
    epochs: int = 6
    side: int = 32

    def __post_init__(self) -> None:
        for name, value, least in (("folds", self.folds, 2), ("epochs", self.epochs, 1), ("side", self.side, 16)):
            if value < least:
                raise EmodetError(f"out_of_fold.{name}={value}: at least {least}")
