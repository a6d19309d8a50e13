"""The exception for user errors.

Commands print the message of an `EmodetError` after ``error:`` and exit with 2; any other exception is a
defect and keeps its traceback. Messages name the argument, its value and the way out.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class EmodetError(Exception):
    """A mistake that the user can correct: a path, a value, an invalid file.

    Raised for an argument that is unknown or out of range, and for a file that is missing, damaged or not writable.
    """

    def __str__(self) -> str:
        # Messages quote the contents of files, whose control characters could change the state of the terminal.
        text = super().__str__()
        return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def require(holds: bool, argument: str, value: object, expected: str) -> None:
    """Unless `holds`, raise an `EmodetError` with the argument, its value and the `expected` values."""
    if not holds:
        raise EmodetError(f"{argument}={value!r}: expected {expected}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown name: the nearest known name, or all known names."""
    from difflib import get_close_matches  # deferred: needed only after a mistake

    bare, name = {each.lstrip("-"): each for each in known}, name.lstrip("-")  # dashes do not count as similarity
    parent, dot, last = name.rpartition(".")
    if siblings := [each for each in bare if dot and each.rpartition(".")[0] == parent]:  # nor does a common group
        bare, name = {each.rpartition(".")[2]: bare[each] for each in siblings}, last
    near = [each for each in bare if len(name) > 3 and name in each] or get_close_matches(name, bare, 1)
    return f"did you mean {bare[near[0]]}?" if near else f"there are {', '.join(bare.values())}"


@contextmanager
def os_errors(
    what: str, way_out: str = "", *also: type[Exception], kind: type[EmodetError] = EmodetError
) -> Iterator[None]:
    """Convert an `OSError`, or one of `also`, to an `EmodetError` with the message ``WHAT (REASON)WAY_OUT``."""
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except BrokenPipeError:  # the reader of our output has closed it
        raise
    except kinds as problem:
        # torch's workers put a traceback before the reason.
        reason = getattr(problem, "strerror", None) or str(problem).strip().rpartition("\n")[2]
        raise kind(f"{what} ({reason}){way_out}") from None


@contextmanager
def errors_of(place: object, what: str = "", *kinds: type[Exception]) -> Iterator[None]:
    """Add a prefix, the file or line, to an `EmodetError`; convert errors of these kinds to one with message `what`."""
    try:
        yield
    except EmodetError as problem:
        raise EmodetError(f"{place}: {problem}") from None
    except kinds as problem:
        raise EmodetError(f"{place}: {what} ({' '.join(str(problem).split())})") from None
