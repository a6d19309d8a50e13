"""The exception for user errors.

Commands print the message of an `EmodetError` after ``error:`` and exit with 2; any other exception is a
defect and keeps its traceback. Messages name the argument, its value and the way out.
"""


class EmodetError(Exception):
    """A mistake that the user can correct: a path, a value, an invalid file.

    Every class and function raises it for an argument that is not known or out of range.
    """
