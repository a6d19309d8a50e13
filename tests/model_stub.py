"""Tiny model files made on the spot: a graph that looks at a crop's mean colour, and nothing else."""

import numpy as np
import onnx.parser
from onnx import numpy_helper

from emodet.emotions import EMOTIONS
from emodet.modelfile import ModelInfo, TrainingData, write_model_file
from emodet.preprocessing import Preprocessing

SIZE = 32


def info(**changes):
    values = {
        "class_names": EMOTIONS,
        "preprocessing": Preprocessing(size=SIZE, margin=0.1, alignment="eyes"),
        "temperature": 1.25,
        "training_data": (TrainingData("made pictures", "free"),),
        "metrics": {"test": {"accuracy": 0.5}},
        "commit": "0123abc",
        "fingerprint": "f" * 64,
        "precision": "fp32",
    }
    return ModelInfo(**(values | changes))


def graph(classes=8, *, size=SIZE, batch="N", valence_arousal=False, seed=0, sharpness=30.0):
    """crops → mean colour → dense → softmax; with the default seed different colours give different classes."""
    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=(3, classes)) * sharpness).astype(np.float32)
    weights -= weights.mean(axis=0)
    second, both = "", ""
    arrays = {"scale": np.float32(1 / 255), "axes": np.array([1, 2], dtype=np.int64), "weights": weights}
    if valence_arousal:
        second, both = f", float[{batch}, 2] valence_arousal", "raw = MatMul(colour, two) valence_arousal = Tanh(raw)"
        arrays["two"] = rng.normal(size=(3, 2)).astype(np.float32)
    model = onnx.parser.parse_model(f"""<ir_version: 10, opset_import: ["": 18]>
        stub (uint8[{batch}, {size}, {size}, 3] crops) => (float[{batch}, {classes}] probabilities{second}) {{
            pixels = Cast<to = 1>(crops)
            scaled = Mul(pixels, scale)
            colour = ReduceMean<keepdims = 0>(scaled, axes)
            logits = MatMul(colour, weights)
            probabilities = Softmax<axis = 1>(logits)
            {both}
        }}""")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items())
    return model


def write_stub(path, *, valence_arousal=False, sharpness=30.0, **changes):
    """Write the graph as a model file with as many classes as `class_names`; `changes` are those of `info`."""
    if valence_arousal:
        changes["outputs"] = ("probabilities", "valence_arousal")
    classes = len(changes.get("class_names", EMOTIONS))
    made = graph(classes, valence_arousal=valence_arousal, sharpness=sharpness)
    return write_model_file(made, info(**changes), path)
