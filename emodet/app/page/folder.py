"""The page as a static folder: ``python -m emodet.export format=web output=DIR``, also in the light install."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emodet.app.page.files import model_for_page, page_files, write_folder
from emodet.errors import EmodetError

__all__ = ["is_asked", "main", "write_page"]

_KEYS = ("format", "output", "model", "overwrite", "checkpoint")


def is_asked(arguments: Sequence[str]) -> bool:
    """Whether a command line of ``emodet.export`` is for the page: none of what training needs is imported then."""
    return any(argument.startswith("format=") for argument in arguments)


def main(arguments: Sequence[str]) -> int:
    """Write the page as ``KEY=VALUE`` arguments say. Returns the exit status."""
    try:
        settings: dict[str, Any] = {}
        for argument in arguments:
            key, sign, value = argument.partition("=")
            if not sign or key not in _KEYS:
                raise EmodetError(f"{argument}: format=web takes output=DIR, model=FILE.onnx and overwrite=true")
            settings[key] = value
        overwrite = settings.get("overwrite", "false").lower()
        if overwrite not in ("true", "false"):
            raise EmodetError(f"overwrite={settings['overwrite']}: expected true or false")
        write_page(settings | {"overwrite": overwrite == "true"})
    except EmodetError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


def write_page(settings: Mapping[str, Any]) -> None:
    """Write the page that recognises in the browser as a static folder.

    Args:
        settings: ``format``, ``output``, ``overwrite`` and perhaps ``model``.

    Raises:
        EmodetError: A value does not fit, or something that the page needs is not in this installation.
    """
    if settings["format"] != "web":
        raise EmodetError(f"format={settings['format']}: only web; for model files use formats=[fp32,int8]")
    if "checkpoint" in settings:
        raise EmodetError(
            f"format=web takes a model file: export checkpoint={settings['checkpoint']} first, then name the file with "
            "model=FILE.onnx"
        )
    if not settings.get("output"):
        raise EmodetError("format=web needs a folder to write the page to: output=DIR")
    output = Path(settings["output"]).expanduser()
    model, card = model_for_page(settings.get("model"))
    files = page_files(model, card=card)
    write_folder(files, output, overwrite=settings["overwrite"])
    size = sum(len(file.content) for file in files.values())
    print(f"page:  {output}  {len(files)} files, {size / 1e6:.1f} MB")
    print(f"to view it:  python -m http.server --directory {output} --bind 127.0.0.1")
