"""ONNX Runtime sessions: execution providers and options."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emodet.errors import EmodetError, require

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Execution providers and their names in ONNX Runtime. Only ``cpu`` is in every build."""


def open_session(
    data: bytes, name: str, providers: Sequence[str], threads: int | None
) -> "onnxruntime.InferenceSession":
    """Open a self-contained model in memory; `name` is used in messages.

    `providers` are keys of `PROVIDERS`, preferred first; `threads` is their number per call, None for one per core.

    Raises:
        EmodetError: The model cannot be loaded or stores weights in other files, or a provider is not available.
    """
    import onnxruntime

    installed = set(onnxruntime.get_available_providers())
    available = ", ".join(short for short, long in PROVIDERS.items() if long in installed)
    fits = bool(providers) and not isinstance(providers, str)
    require(fits, "providers", providers, f"a list of names; available are {available}")
    for short in providers:
        if PROVIDERS.get(short) not in installed:
            raise EmodetError(
                f"providers={list(providers)}: {short!r} ({PROVIDERS.get(short, 'unknown')}) is not in the installed "
                f"ONNX Runtime; available are {available}. Other builds (onnxruntime-gpu, -directml) have more"
            )
    require(threads is None or threads >= 1, "threads", threads, "1 or more")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as exceptions anyway
    options.intra_op_num_threads = threads or 0
    # Spinning threads take cores from decoding, drawing and the other session: on two cores a video with one face ran
    # at 26 to 56 frames/s with spinning and at 64 to 84 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A model is one file: point the folder of external tensors to one that cannot exist, so that none is ever read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    nowhere = str(Path(os.devnull, "none"))
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", nowhere)
    wanted = [PROVIDERS[short] for short in providers]
    try:
        session = onnxruntime.InferenceSession(data, options, providers=wanted)
    except Exception as problem:  # onnxruntime's exceptions have no common base
        reason = "not an ONNX model, truncated or damaged, or its weights are in other files; a model file is one file"
        raise EmodetError(f"{name}: {reason} ({problem})") from None
    if missing := [provider for provider in wanted if provider not in session.get_providers()]:
        raise EmodetError(
            f"providers={list(providers)}: ONNX Runtime could not start {', '.join(missing)} here; "
            "see its messages above, or use cpu"
        )
    return session
