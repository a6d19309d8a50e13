"""The command line: ``emodet COMMAND …``. Loads nothing but the command that is named."""

import runpy
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from emodet import __version__
from emodet.installation import typed_as

__all__ = ["main"]

COMMANDS = {
    "predict": "find faces in images, videos and cameras, and recognise their emotions",
    "app": "the page in the browser, and the REST interface",
    "demo": "recognise a portrait that is part of the package",
    "train": "train a model",
    "evaluate": "evaluate a checkpoint or a model file on labelled faces",
    "export": "export a trained model as a model file, or the page as a static folder",
    "prepare": "list a data set, and crop and pack it for training",
    "audit": "look for duplicates, label issues and poor images in a data set",
    "compare": "compare training runs",
    "doctor": "what is installed and what is missing, with its remedy",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, as ``python -m emodet.COMMAND`` does; returns the exit status."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    is_module = Path(sys.argv[0]).name == "__main__.py"
    prefix = "python -m emodet " if is_module else "emodet "
    name = typed[0] if typed else "--help"
    if name in ("--version", "-V"):
        print(f"emodet {__version__}")
        return 0
    if name in ("--help", "-h", "help"):
        print(f"usage: {prefix}COMMAND …\n\nFacial emotion recognition, from training to live video.\n\ncommands:")
        print("\n".join(f"  {command:<10}{purpose}" for command, purpose in COMMANDS.items()))
        print(f"\n{prefix}COMMAND --help describes a command; --version prints the version")
        return 0
    if name not in COMMANDS:
        near = get_close_matches(name, COMMANDS, 1)
        print(
            f"error: {name}: there is no such command; "
            + (f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"),
            file=sys.stderr,
        )
        return 2
    typed_as(prefix)
    sys.argv[1:] = typed[1:]
    # As the main module of this process: processes that it starts, such as ranks of a training, find it by its name.
    runpy.run_module(f"emodet.{name}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
