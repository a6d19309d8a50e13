"""Files of the page, for the server and for ``python -m emodet.export format=web output=DIR``.

The page runs the model file and the detector in the browser. ``page.json`` contains their parameters (crop, classes,
thresholds, smoothing), generated from the Python definitions.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emodet import __version__
from emodet.emotions import UNCERTAIN
from emodet.errors import EmodetError, os_errors
from emodet.files import expanded, write_files
from emodet.inference import centerface, detectors
from emodet.inference.faces import MIN_CONFIDENCE
from emodet.inference.pipeline import SCORE_TO_HIDE
from emodet.inference.recognizer import BALANCE
from emodet.inference.rows import row_columns
from emodet.inference.tracking import DETECT_EVERY, PATIENCE_S, Smoothing
from emodet.installation import exit_status, project_url
from emodet.modelfile import DEFAULT_MODEL, model_path, read_model_file
from emodet.palette import UNCERTAIN_COLOUR, class_colours

# Size at which camera frames are searched for faces, in pixels along the longer side. In one WebAssembly thread this
# takes half the time of the size for videos.
_LIVE_SIDE = 320
_LIVE_EVERY_S = 0.4  # interval of face detection; in between, faces are tracked
_USUAL_RATE = 25  # frames per second for which `DETECT_EVERY` is chosen

FOLDER = Path(__file__).parent

_OWN = ("index.html", "style.css", "icon.svg", "third_party.txt", "js", "samples")
_RUNTIME = ("runtime/ort.js", "runtime/ort-wasm-simd-threaded.js", "runtime/ort-wasm-simd-threaded.wasm.gzip")
# Optional, 7 MB.
_WEBGPU = (
    *("runtime/ort-webgpu.js", "runtime/ort-wasm-simd-threaded.asyncify.js"),
    "runtime/ort-wasm-simd-threaded.asyncify.wasm.gzip",
)
_FORMAT_VERSION = 1


def page_files(path: Path, *, server: dict[str, Any] | None = None) -> dict[str, bytes]:
    """Collect the contents of the page's files by relative URL. The page loads nothing from other origins.

    `path` is a model file, `server` a description of the page's server as JSON types. Raises `EmodetError` if the model
    file is invalid, or the installation lacks the runtime.
    """
    file, model = read_model_file(path), path.read_bytes()
    info = file.info
    weights = centerface.weights_file().read_bytes()
    model_name, detector_name = f"model/emodet-{info.precision}.onnx", "model/centerface.onnx"
    colours = (*class_colours(info.class_names), UNCERTAIN_COLOUR)
    files = dict(_shipped_files()) | {model_name: model, detector_name: weights}
    description = {
        "format_version": _FORMAT_VERSION,
        "emodet": __version__,
        "project": project_url(),
        "server": server,
        "webgpu": _WEBGPU[0] in files,
        "runtime_bytes": {name: len(content) for name, content in files.items() if name.endswith(".gzip")},
        "model": {
            "file": model_name,
            "bytes": len(model),
            "sha256": file.sha256,
            "card": model_card(path),
            "colours": dict(zip((*info.class_names, UNCERTAIN), colours, strict=True)),
            **{key.removeprefix("emodet."): json.loads(text) for key, text in info.to_metadata().items()},
        },
        "detector": {"file": detector_name, "bytes": len(weights), **_detector_settings()},
        "stream": {"smoothing": asdict(Smoothing()), "patience_s": PATIENCE_S, "score_to_hide": SCORE_TO_HIDE},
        "min_confidence": MIN_CONFIDENCE,
        "balance": BALANCE,
        "columns": row_columns(info.class_names),
    }
    files["page.json"] = json.dumps(description, ensure_ascii=False, indent=1).encode()
    return files


def write_folder(files: Mapping[str, bytes], output: Path) -> Path:
    """Write the result of `page_files` to a new or empty folder; returns the folder.

    Raises `EmodetError` if the folder is not empty or cannot be written.
    """
    with os_errors(f"output={output}: cannot be written"):
        if output.exists() and any(output.iterdir()):
            raise EmodetError(f"output={output} is not empty; delete it, or choose another folder")
    write_files(output, files)
    return output


def _detector_settings() -> dict[str, Any]:
    constants = {**vars(centerface), **vars(detectors)}.items()
    return {
        **{name.lower(): value for name, value in constants if name.isupper() and not name.startswith("_")},
        "sure_score": centerface.CenterFace.sure_score,
        "sure_large_score": centerface.CenterFace.sure_large_score,
        "check": detectors.check_crop.to_dict(),
        "stream_side": detectors.STREAM_SIDES[0],
        "stream_every_s": DETECT_EVERY / _USUAL_RATE,
        "live_side": _LIVE_SIDE,
        "live_every_s": _LIVE_EVERY_S,
    }


def model_card(model: Path) -> str | None:
    """Read the model card (Markdown) in the folder of a model file; None if there is none."""
    card = model.with_name("MODEL_CARD.md")
    return card.read_text(encoding="utf-8") if card.is_file() else None


def _shipped_files() -> Iterator[tuple[str, bytes]]:
    missing = [name for name in _RUNTIME if not (FOLDER / name).is_file()]
    if missing:
        raise EmodetError(
            f"the page's runtime (ONNX Runtime Web) is not in this installation: {', '.join(missing)} missing. In a "
            "checkout, `make page` downloads it; this needs Node.js 18 or newer with npm (nodejs.org, or `apt install "
            "nodejs npm`). Wheels built afterwards contain it"
        )
    more = _WEBGPU if all((FOLDER / name).is_file() for name in _WEBGPU) else ()
    for name in (*_OWN, *_RUNTIME, *more):
        place = FOLDER / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file():
                yield file.relative_to(FOLDER).as_posix(), file.read_bytes()


def main(arguments: Sequence[str]) -> int:
    """Write the page with the options in ``KEY=VALUE`` arguments; returns the exit status."""
    return exit_status(lambda: _write_page(arguments))


def _write_page(arguments: Sequence[str]) -> int:
    settings: dict[str, str] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or key not in ("format", "output", "model"):
            raise EmodetError(f"{argument}: format=web accepts only output=DIR and model=FILE.onnx")
        settings[key] = value
    if settings["format"] != "web":
        raise EmodetError(f"format={settings['format']}: only web; for model files use formats=[fp32,int8]")
    if not settings.get("output"):
        raise EmodetError("format=web needs a folder for the page: output=DIR")
    output = expanded(settings["output"])
    files = page_files(model_path(settings.get("model", DEFAULT_MODEL)))
    write_folder(files, output)
    print(f"page:  {output}  {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB")
    print(f"to view it:  python -m http.server --directory {output} --bind 127.0.0.1")
    return 0
