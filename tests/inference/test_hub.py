"""Model files on the Hugging Face Hub, here with repositories in a local folder."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import numpy as np
import pytest

from emodet.errors import EmodetError
from emodet.inference.hub import from_pretrained, push_to_hub, save_pretrained
from emodet.modelfile import SHIPPED


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Calls must fit the library's signatures."""
    library, folder = pytest.importorskip("huggingface_hub"), tmp_path / "hub"
    api, download = create_autospec(library.HfApi), create_autospec(library.hf_hub_download)

    def upload(*, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, folder / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/1"

    def downloaded(repo_id, filename, *, revision):
        if not (file := folder / repo_id / filename).is_file():
            raise FileNotFoundError(f"{repo_id}@{revision}")
        return str(file)

    api.return_value.create_repo.side_effect = lambda repo_id, **_: (folder / repo_id).mkdir(parents=True)
    api.return_value.upload_folder.side_effect, download.side_effect = upload, downloaded
    monkeypatch.setattr(library, "HfApi", api)
    monkeypatch.setattr(library, "hf_hub_download", download)
    return SimpleNamespace(folder=folder, api=api)


def test_a_model_file_is_uploaded_and_downloaded(hub):
    assert push_to_hub("int8", "me/faces", private=True, token="secret") == "https://hub/me/faces/commit/1"
    hub.api.assert_called_once_with(token="secret")
    hub.api.return_value.create_repo.assert_called_once_with("me/faces", private=True, exist_ok=True)
    card = (hub.folder / "me" / "faces" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: emodet\n")
    assert "neutral, happiness" in card
    assert 'from_pretrained("me/faces")' in card
    assert "research" in card
    recognizer = from_pretrained("me/faces", detector="none", min_confidence=0.7)
    assert recognizer.min_confidence == 0.7
    assert Path(recognizer.model.name.removeprefix("model file ")).read_bytes() == SHIPPED["int8"].read_bytes()
    with pytest.raises(EmodetError, match=r"repo=me/other: .*me/other@v1"):
        from_pretrained("me/other", revision="v1")


def test_a_folder_needs_no_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    folder = save_pretrained("int8", tmp_path / "model")
    assert len(from_pretrained(folder, detector="none")(np.full((64, 64, 3), 99, np.uint8))) == 1
    with pytest.raises(EmodetError, match=r"pip install 'emodet\[hub\]'"):
        push_to_hub("int8", "me/faces")
    with pytest.raises(EmodetError, match=r"repo=me/faces: .* no such folder.*pip install 'emodet\[hub\]'"):
        from_pretrained("me/faces")


def test_other_folders_are_neither_read_nor_overwritten(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(EmodetError, match=r"folder='.*README\.md"):
        save_pretrained("int8", tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["README.md"]
    folder = save_pretrained("int8", save_pretrained("fp32", tmp_path / "model"))
    assert "(int8)" in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(EmodetError, match=r"revision='v1'"):
        from_pretrained(folder, revision="v1")


def test_only_model_files_are_uploaded_and_a_failed_upload_is_reported(hub, tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"no model")
    with pytest.raises(EmodetError, match=r"net\.onnx"):
        push_to_hub(tmp_path / "net.onnx", "me/faces", token="secret")
    assert not hub.folder.exists()
    push_to_hub("int8", "me/faces", private=True, token="secret")
    with pytest.raises(EmodetError, match=r"repo_id=me/faces: the upload failed .*hf auth login"):
        push_to_hub("int8", "me/faces", private=True, token="secret")  # this hub makes a repository once
