"""`python -m emodet.export format=web`: the page as a folder, or a refusal that says what to do. No browser here."""

import json
import re
from pathlib import Path

import pytest
from made_commands import python
from made_files import put, put_text

import emodet.app.page
from emodet.modelfile import SHIPPED, read_model_file

RUNTIME = Path(emodet.app.page.__file__).parent / "runtime"
ALL_OF_IT = 10_000_000

pytestmark = pytest.mark.skipif(
    not RUNTIME.is_dir(), reason="the page's runtime is not there: `make page` gets it, with Node.js and npm"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp("export") / "site"
    assert command("emodet.export", "format=web", f"output={folder}") == 0
    return folder


def test_the_folder_is_whole_small_enough_and_knows_the_model_file(written):
    files = [file for file in written.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < ALL_OF_IT
    assert (written / "index.html").is_file()
    assert not list(written.parent.glob(".*"))  # nothing unfinished stays
    for file in (*written.rglob("js/**/*.js"), written / "index.html"):
        content = file.read_text(encoding="utf-8")
        for name in re.findall(r'(?:from|import|src=|href=)\s*\(?"([^"#]+)"', content):
            assert (file.parent / name).resolve().is_file(), f"{file}: {name}"
        assert "https://" not in content
        assert "http://" not in content.replace("http://www.w3.org", "")
    about = json.loads((written / "page.json").read_text(encoding="utf-8"))
    info = read_model_file("int8").info
    assert about["server"] is None
    assert about["model"]["preprocessing"] == info.preprocessing.to_dict()
    assert tuple(about["model"]["class_names"]) == info.class_names
    assert (written / about["model"]["file"]).read_bytes() == SHIPPED["int8"].read_bytes()
    assert about["model"]["bytes"] == (written / about["model"]["file"]).stat().st_size
    assert "Limits" in about["model"]["card"]


def test_it_needs_nothing_of_the_training_extra(written, tmp_path):
    code = (
        "import runpy, sys; blocked = ('torch', 'lightning', 'hydra', 'omegaconf'); "
        "sys.modules.update(dict.fromkeys(blocked)); sys.argv = ['export', 'format=web', 'output=site']; "
        "runpy.run_module('emodet.export', run_name='__main__')"
    )
    done = python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = {file.relative_to(tmp_path / "site") for file in (tmp_path / "site").rglob("*")}
    assert names == {file.relative_to(written) for file in written.rglob("*")}


def test_another_model_file(tmp_path, command):
    mine = put(tmp_path / "mine.onnx", SHIPPED["fp32"].read_bytes())
    assert command("emodet.export", "format=web", f"output={tmp_path / 'site'}", f"model={mine}") == 0
    about = json.loads((tmp_path / "site" / "page.json").read_text(encoding="utf-8"))
    assert about["model"]["precision"] == "fp32"
    assert about["model"]["card"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["format=web"], "output=DIR"),
        (["format=web", "output=there", "ouput=elsewhere"], "ouput=elsewhere"),
        (["format=pdf", "output=there"], "format=pdf"),
        (["format=web", "output=there", "checkpoint=best.ckpt"], "model=FILE.onnx"),
        (["format=web", "output=there", "model=missing.onnx"], "missing.onnx"),
        (["format=web", "output=there", "model=other.onnx"], "not an ONNX model"),
        (["format=web", "output=work"], "work is not empty"),
    ],
)
def test_refusals(refused, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    thesis = put_text(tmp_path / "work" / "thesis.tex", "of years")
    put(tmp_path / "other.onnx", b"\xff" * 100)
    assert said in refused("emodet.export", *arguments)
    assert not (tmp_path / "there").exists()
    assert [file.name for file in thesis.parent.iterdir()] == ["thesis.tex"]
