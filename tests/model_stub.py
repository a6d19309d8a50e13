"""Tiny model files made on the spot: a graph that looks at a crop's mean colour, and nothing else."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

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
    nodes = [
        helper.make_node("Cast", ["crops"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    initial = [
        numpy_helper.from_array(np.float32(1 / 255), "scale"),
        numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes"),
        numpy_helper.from_array(weights, "weights"),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, classes])]
    if valence_arousal:
        nodes += [
            helper.make_node("MatMul", ["colour", "two"], ["raw"]),
            helper.make_node("Tanh", ["raw"], ["valence_arousal"]),
        ]
        initial.append(numpy_helper.from_array(rng.normal(size=(3, 2)).astype(np.float32), "two"))
        outputs.append(helper.make_tensor_value_info("valence_arousal", TensorProto.FLOAT, [batch, 2]))
    inputs = [helper.make_tensor_value_info("crops", TensorProto.UINT8, [batch, size, size, 3])]
    made = helper.make_graph(nodes, "stub", inputs, outputs, initial)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_stub(path, *, valence_arousal=False, sharpness=30.0, **changes):
    """Write the graph as a model file with as many classes as `class_names`; `changes` are those of `info`."""
    if valence_arousal:
        changes["outputs"] = ("probabilities", "valence_arousal")
    classes = len(changes.get("class_names", EMOTIONS))
    made = graph(classes, valence_arousal=valence_arousal, sharpness=sharpness)
    return write_model_file(made, info(**changes), path)
