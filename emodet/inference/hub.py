"""Model files on the Hugging Face Hub, or in a local folder with the same layout; needs the extra ``hub``."""

import os
import tempfile
from pathlib import Path
from typing import Any

from emodet.errors import EmodetError, os_errors, require
from emodet.files import write_atomically
from emodet.inference.recognizer import Recognizer
from emodet.installation import needed
from emodet.modelfile import model_path, read_model_file
from emodet.modelinfo import ModelInfo

MODEL, CARD = "emodet.onnx", "README.md"
_CARD_START = "---\nlibrary_name: emodet\n"


def save_pretrained(
    model: str | os.PathLike[str], folder: str | os.PathLike[str], *, repo_id: str | None = None
) -> Path:
    """Copy a model file, or a shipped one by name, with a model card to a folder that `from_pretrained` can load.

    The card's example loads `repo_id`, or the folder if that is None. Raises `EmodetError` if `model` is not a model
    file, or if the folder cannot be written or contains another README.md.
    """
    source, place = model_path(model), Path(folder)
    card = _card(read_model_file(source).info, repo_id or place.as_posix())
    with os_errors(f"folder={folder}: could not be written"):
        place.mkdir(parents=True, exist_ok=True)
        ours = not (place / CARD).exists() or (place / CARD).read_bytes().startswith(_CARD_START.encode())
        require(ours, "folder", str(folder), f"a folder without a {CARD}, or with a model card of emodet")
        write_atomically(place / MODEL, source.read_bytes())
        write_atomically(place / CARD, card.encode())
    return place


def push_to_hub(
    model: str | os.PathLike[str], repo_id: str, *, private: bool | None = None, token: str | None = None
) -> str:
    """Upload a model file with a model card. Check first that the terms of its training data allow this.

    Args:
        model: Path of a model file, or a shipped one: ``int8``, ``accurate`` or ``fp32``.
        repo_id: ``user/name``; the repository is created if it does not exist.
        private: Whether a new repository is private; None for the default of the account.
        token: Token with write access; None for the one of ``hf auth login`` or of the variable ``HF_TOKEN``.

    Returns:
        Address of the commit.

    Raises:
        EmodetError: The file is not a model file, huggingface_hub is not installed, or the upload fails.
    """
    api = needed("huggingface_hub", "push_to_hub", "hub").HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, repo_id=repo_id)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload with emodet"))
        except Exception as problem:  # the library and its HTTP client have no common exception class
            raise EmodetError(f"repo_id={repo_id}: the upload failed ({problem}); see `hf auth login`") from None


def from_pretrained(repo: str | os.PathLike[str], *, revision: str | None = None, **options: Any) -> Recognizer:
    """Load a `Recognizer` from a repository ``user/name``, downloaded once, or from a folder of `save_pretrained`.

    Args:
        repo: Repository, or an existing folder.
        revision: Branch, tag or commit of a repository; a full commit hash always loads the same file.
        **options: Keyword arguments of `Recognizer`.

    Raises:
        EmodetError: huggingface_hub is not installed, the file cannot be downloaded or is not a model file, a folder is
            combined with a revision, or an option is invalid.
    """
    if (folder := Path(repo)).is_dir():
        require(revision is None, "revision", revision, f"None, since {repo} is a folder")
        return Recognizer(folder / MODEL, **options)
    library = needed("huggingface_hub", f"repo={repo}: there is no such folder, and a repository of the Hub", "hub")
    try:
        file = library.hf_hub_download(os.fspath(repo), MODEL, revision=revision)
    except Exception as problem:  # see `push_to_hub`
        raise EmodetError(
            f"repo={repo}: neither a folder nor a repository with {MODEL} that can be downloaded ({problem})"
        ) from None
    return Recognizer(file, **options)


def _card(info: ModelInfo, name: str) -> str:
    figures = [
        f"| {split} | {key} | {value:.4g} |" for split, all_ in info.metrics.items() for key, value in all_.items()
    ]
    lines = [
        *(f"{_CARD_START}pipeline_tag: image-classification", "license: other", "---", ""),
        *(f"Classes of a face: {', '.join(info.class_names)} ({info.precision}).", "", "```python"),
        *("from emodet.inference.hub import from_pretrained", ""),
        *(f'result = from_pretrained("{name}")("photo.jpg")', "```", "", "Training data and its terms:", ""),
        *(f"- {data.name}: {data.terms}" for data in info.training_data),
        *(("", "| split | metric | value |", "|---|---|---|", *figures) if figures else ()),
    ]
    return "\n".join([*lines, ""])
