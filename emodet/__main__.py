"""The command line ``emodet COMMAND …``. Imports only the module of that command."""

import gc
import runpy
import sys
from pathlib import Path
from typing import NoReturn

from emodet import __version__
from emodet.errors import nearest
from emodet.installation import exit_with, typed_as

COMMANDS = {
    "predict": "find faces in images, videos and cameras, and recognise their emotions",
    "app": "serve the page for the browser and the REST interface",
    "demo": "recognise a portrait that is part of the package",
    "train": "train a model",
    "evaluate": "evaluate a checkpoint or a model file on labelled faces",
    "export": "export a trained model as a model file, or the page as a static folder",
    "prepare": "list a data set, and crop and pack it for training",
    "audit": "find duplicates, label issues and poor images in a data set",
    "compare": "compare training runs",
    "doctor": "check the installation and print how to add what is missing",
}


def main() -> NoReturn:
    """Run the command that the first argument names, as ``python -m emodet.COMMAND`` does."""
    exit_with(_dispatch)


def _dispatch() -> int:
    name, typed = next(iter(sys.argv[1:]), "--help"), sys.argv[2:]
    if name == "help" and typed:
        name, typed = typed[0], ["--help"]
    prefix = "python -m emodet " if Path(sys.argv[0]).name == "__main__.py" else "emodet "
    if name in ("--version", "-V"):
        print(f"emodet {__version__}")
    elif name in ("--help", "-h", "help"):
        print(f"usage: {prefix}COMMAND …\n\nFacial emotion recognition, from training to live video.\n\ncommands:")
        print("\n".join(f"  {command:<10}{purpose}" for command, purpose in COMMANDS.items()))
        print(f"\n{prefix}COMMAND --help describes a command; --version prints the version")
    elif name in COMMANDS:
        typed_as(prefix)
        sys.argv[1:] = typed
        if name in ("train", "evaluate", "export", "prepare", "audit"):
            sys.path.append("")  # import user classes from here, as `python -m` does, but shadow no library
        gc.disable()  # faster imports; `exit_with` enables it again
        # Run as the main module, which child processes, such as the ranks of a training, import by its name.
        runpy.run_module(f"emodet.{name}", run_name="__main__", alter_sys=True)
    else:
        is_input = "." in name or name.isdecimal() or Path(name).exists()
        way_out = f"{prefix}predict {name} recognises it" if is_input else nearest(name, COMMANDS)
        print(f"error: {name}: there is no such command; {way_out}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    main()
