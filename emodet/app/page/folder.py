"""The page as a static folder: ``python -m emodet.export format=web output=DIR``, also in the light install."""

from collections.abc import Sequence
from pathlib import Path

from emodet.app.page.files import model_for_page, page_files, write_folder
from emodet.errors import EmodetError
from emodet.modelfile import DEFAULT_MODEL
from emodet.termination import exit_status

_KEYS = ("format", "output", "model", "overwrite")


def is_asked(arguments: Sequence[str]) -> bool:
    """Whether a command line of ``emodet.export`` is for the page: none of what training needs is imported then."""
    return any(argument.startswith("format=") for argument in arguments)


def main(arguments: Sequence[str]) -> int:
    """Write the page as ``KEY=VALUE`` arguments say. Returns the exit status."""
    return exit_status(lambda: _write(arguments))


def _write(arguments: Sequence[str]) -> int:
    settings = {"overwrite": "false"}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or key not in _KEYS:
            raise EmodetError(f"{argument}: format=web takes output=DIR, model=FILE.onnx and overwrite=true")
        settings[key] = value
    if settings["format"] != "web":
        raise EmodetError(f"format={settings['format']}: only web; for model files use formats=[fp32,int8]")
    if settings["overwrite"] not in ("true", "false"):
        raise EmodetError(f"overwrite={settings['overwrite']}: expected true or false")
    if not settings.get("output"):
        raise EmodetError("format=web needs a folder to write the page to: output=DIR")
    output = Path(settings["output"]).expanduser()
    model, card = model_for_page(settings.get("model", DEFAULT_MODEL))
    files = page_files(model, card=card)
    write_folder(files, output, overwrite=settings["overwrite"] == "true")
    size = sum(len(file.content) for file in files.values())
    print(f"page:  {output}  {len(files)} files, {size / 1e6:.1f} MB")
    print(f"to view it:  python -m http.server --directory {output} --bind 127.0.0.1")
    return 0
