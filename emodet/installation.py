"""How the commands are typed here, and how a missing extra is installed."""

__all__ = ["install", "named", "spelled", "typed_as"]

_MODULE = "python -m emodet."
_typed = _MODULE


def typed_as(prefix: str) -> None:
    """Say how this process was started: ``emodet `` or ``python -m emodet ``, before the name of the command."""
    global _typed
    _typed = prefix


def spelled(text: str) -> str:
    """`text` with commands as the user types them, instead of ``python -m emodet.COMMAND``."""
    return text.replace(_MODULE, _typed)


def named(command: str) -> str:
    """A command as the user types it, for usage lines and messages."""
    return spelled(f"{_MODULE}{command}")


def install(*extras: str) -> str:
    """How to install extras of this package, from an index and in a checkout."""
    names = ",".join(extras)
    return f"pip install 'emodet[{names}]' (in a checkout: pip install -e '.[{names}]')"
