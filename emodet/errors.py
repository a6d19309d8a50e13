"""The one exception that a user is meant to read.

Commands print the message of an `EmodetError` after ``error:`` and exit with 2; every other exception is a
defect and keeps its traceback. A message names the argument, the value it had and the way out.
"""

__all__ = ["EmodetError"]


class EmodetError(Exception):
    """Something the user can put right: a path, a value, a file that is not what it should be."""
