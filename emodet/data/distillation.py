"""The targets of a student: its labels, and what its teachers said of the same crops (Hinton et al. 2015)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emodet.data.splits import Draw
from emodet.data.teachers_answers import TeachersAnswers
from emodet.errors import EmodetError

__all__ = ["Distillation", "open_distillation"]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Distillation:
    """Stored answers, and how much a student learns from them.

    The student's target is ``(1 - weight) · label + weight · softened answer``, which for cross entropy is the same as
    adding up two losses with these weights. Answers that were stored for the augmented crops make it function matching
    (Beyer et al. 2022, "Knowledge distillation: a good teacher is patient and consistent").

    Attributes:
        answers: See `TeachersAnswers`.
        weight: The teachers' share of the target, above 0 to 1; 1 leaves the labels out.
        temperature: Softens the answers, or sharpens them below 1: probabilities p become p^(1/T), made to sum to 1.
            The student's own logits are not divided by it, as Hinton et al. do besides, so there is no T² to scale by.

    Raises:
        EmodetError: A number is out of its range.
    """

    answers: TeachersAnswers
    weight: float = 0.7
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise EmodetError(
                f"distillation.weight={self.weight}: the teachers' share of the target, above 0 to 1, was expected; to "
                "train without teachers leave distillation.answers out"
            )
        if not 0 < self.temperature < float("inf"):
            raise EmodetError(f"distillation.temperature={self.temperature}: a number above 0 was expected")

    def facts(self) -> dict[str, Any]:
        """What a run that learns from them says of it: plain values."""
        return {
            "answers": str(self.answers.folder.resolve()),
            "weight": self.weight,
            "temperature": self.temperature,
            "augmented": self.answers.asked.views is not None,
            **self.answers.made,
            "teachers": [dict(teacher) for teacher in self.answers.teachers],
        }

    def targets(self, labels: Float32, draw: Draw) -> Float32:
        """Labels and answers together.

        Args:
            labels: float32 (N, K), rows sum to 1.
            draw: The training batch that they are of.

        Returns:
            float32 (N, K), rows sum to 1; a new array.
        """
        softened = self.answers.of(draw) / np.float32(self.temperature)
        shares = np.exp(softened - softened.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return np.asarray((1 - self.weight) * labels + self.weight * shares, dtype=np.float32)


def open_distillation(
    answers: str | Path | None = None, weight: float | None = None, temperature: float | None = None
) -> Distillation:
    """From the configuration's group ``distillation``; None keeps a default.

    Raises:
        EmodetError: It is not said where the answers lie, they cannot be opened, or a number is out of its range.
    """
    if answers is None:
        raise EmodetError(
            "distillation.answers is not set: say in which folder the teachers' answers lie. python -m emodet.teach "
            "with checkpoint=TEACHER and the settings of this training makes them"
        )
    numbers = {"weight": weight, "temperature": temperature}
    given = {name: value for name, value in numbers.items() if value is not None}
    return Distillation(TeachersAnswers(Path(answers).expanduser()), **given)
