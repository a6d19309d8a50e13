"""The command `python -m emodet.doctor`: report what is installed, and how to install what is missing.

Exit status: 0 if pictures can be recognised, else 1.
"""

import platform
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from emodet import __version__
from emodet.errors import EmodetError
from emodet.installation import command_parser, exit_with, install, version_of

_RUNTIME = ("numpy", "opencv-python", "onnxruntime", "pillow", "av")
_LABORATORY = ("torch", "torchvision", "lightning", "hydra-core", "albumentations", "wandb")
_NAME = re.compile(r"[\w.-]+")
Row = tuple[str, str, str]
"""Mark (``ok``; ``--``: an optional part is missing; ``!!``: the runtime does not work), name and finding."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    purpose = "Check versions, extras, accelerator, detector, model, camera and page; print a remedy for each problem."
    command_parser("doctor", purpose, "exit status: 0 if pictures can be recognised, else 1").parse_args(argv)
    status = 0
    for check in (_versions, _detector, _model, _accelerator, _camera, _page, _extras):
        for mark, name, finding in _rows_or_error(check):
            print(f"{mark}  {name:<16}{finding}", flush=True)
            status = 1 if mark == "!!" else status
    return status


def _rows_or_error(check: Callable[[], Iterator[Row]]) -> Iterator[Row]:
    """Yield the rows of a check; if the check fails, the last row describes the error."""
    try:
        yield from check()
    except (ImportError, EmodetError) as problem:
        remedy = "; install emodet again" if isinstance(problem, ImportError) else ""
        yield "!!", check.__name__.strip("_"), f"{problem}{remedy}"


def _versions() -> Iterator[Row]:
    yield "ok", "emodet", f"{__version__}, in {Path(__file__).parent}"
    yield "ok", "Python", f"{platform.python_version()} on {platform.platform()}"
    for name in (*_RUNTIME, *_LABORATORY):
        if version := version_of(name) or (version_of(f"{name}-headless") if name == "opencv-python" else None):
            yield "ok", name, version
        elif name in _RUNTIME:
            yield "!!", name, f"missing: pip install {name}"


def _detector() -> Iterator[Row]:
    import numpy as np

    from emodet.inference.detectors import make_detector

    detector = make_detector()
    detector(np.zeros((64, 64, 3), np.uint8), longest_side=64)
    yield "ok", "detector", detector.description


def _model() -> Iterator[Row]:
    from emodet.modelfile import DEFAULT_MODEL, read_model_file

    model = read_model_file(DEFAULT_MODEL)  # opening it runs it once
    size = model.info.preprocessing.size
    yield "ok", "model", f"{model.name}, {len(model.info.class_names)} classes, {size} px"


def _accelerator() -> Iterator[Row]:
    import onnxruntime

    yield "ok", "providers", f"{', '.join(onnxruntime.get_available_providers())} (ONNX Runtime)"
    if version_of("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield "ok", "accelerator", f"CUDA {torch.version.cuda}: {', '.join(names)}"
    elif torch.backends.mps.is_available():
        yield "ok", "accelerator", "MPS"
    else:
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for the CPU"
        yield "--", "accelerator", f"none, training uses the CPU ({built})"


def _camera() -> Iterator[Row]:
    import cv2

    cv2.utils.logging.setLogLevel(0)  # OpenCV would log a missing camera as an error
    opened, frame = cv2.VideoCapture(0).read()  # closed by the garbage collector
    if opened:
        yield "ok", "camera 0", f"{frame.shape[1]}×{frame.shape[0]}"
    else:
        yield "--", "camera 0", "cannot be opened; the page uses the browser's camera"


def _page() -> Iterator[Row]:
    if (Path(__file__).parent / "app" / "page" / "runtime" / "ort.js").is_file():
        yield "ok", "page", "its runtime is installed"
    else:
        yield "--", "page", "its runtime is missing: `make page` in a checkout (Node.js 18 with npm), and install again"


def _extras() -> Iterator[Row]:
    try:
        required = metadata.requires("emodet") or []
    except metadata.PackageNotFoundError:
        yield "--", "extras", "unknown: emodet is imported from a folder and not installed"
        return
    extras: dict[str, list[str]] = {}
    for requirement in required:
        name, extra = _NAME.match(requirement), re.search(r"extra == ['\"]([\w-]+)", requirement)
        if name and extra:
            extras.setdefault(extra[1], []).append(name[0])
    for each, packages in sorted(extras.items()):
        missing = [package for package in packages if version_of(package) is None]
        yield ("--", each, f"missing {', '.join(missing)}: {install(each)}") if missing else ("ok", each, "complete")


if __name__ == "__main__":
    exit_with(main)
