"""Accuracy and speed of int8 variants: bits of the weights and number of calibration faces.

    python experiments/benchmarks/export.py RUN_FOLDER [--threads 1] [--output FILE.json]

All variants are exported from the same checkpoint and evaluated on all val faces of the run's data. Their timing
alternates, so that a change in the speed of the machine affects all of them.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from emodet.evaluation.calibration import softmax
from emodet.evaluation.outputs import predict_split
from emodet.export.graph import calibration_rows, quantise, to_onnx
from emodet.export.parity import machine, measure_speed
from emodet.modelfile import read_model_file, write_model_file
from emodet.training.assembly import build_data
from emodet.training.trained import load_trained

VARIANTS = [(faces, reduced) for faces in (64, 512, 2048) for reduced in (True, False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    trained = load_trained(arguments.run)
    if trained.data is None:
        parser.error(f"{arguments.run} is not a run folder, so its data is unknown")
    data = build_data({"data": trained.data, "preprocessing": trained.classifier.preprocessing.to_dict()})
    data.prepare_data()
    data.setup()
    card = replace(trained.card, metrics={})
    exported = to_onnx(trained.classifier)
    with tempfile.TemporaryDirectory() as folder:
        models, sizes = {}, {}
        for name, graph in variants(exported, data):
            info = replace(card, precision="fp32" if name == "fp32" else "int8")
            file = write_model_file(graph, info, Path(folder) / "variant.onnx")
            sizes[name] = file.stat().st_size
            models[name] = read_model_file(file, threads=arguments.threads)
    outputs = {name: predict_split(model, data, "val") for name, model in models.items()}
    speeds = measure_speed(models, data.pack.images(data.splits.val[:32]))
    rows = []
    for name, each in outputs.items():
        probabilities, reference = softmax(each.logits), softmax(outputs["fp32"].logits)
        rows.append(
            {
                "variant": name,
                "megabytes": sizes[name] / 1e6,
                "accuracy": float((probabilities.argmax(axis=1) == each.emotion).mean()),
                "agrees_with_fp32": float((probabilities.argmax(axis=1) == reference.argmax(axis=1)).mean()),
                "largest_difference": float(np.abs(probabilities - reference).max()),
                "mean_difference": float(np.abs(probabilities - reference).mean()),
                **{f"batch_{batch}_ms": median for (file, batch), median in speeds.items() if file == name},
            }
        )
    print(markdown(rows))
    print(f"\n{len(each.emotion):,} faces; {arguments.threads} thread(s), {machine()}")
    if arguments.output:
        content = {"rows": rows, "machine": machine(), "threads": arguments.threads}
        arguments.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def variants(exported, data):
    """Yield name and graph of each variant."""
    yield "fp32", exported
    for faces, reduced in VARIANTS:
        crops = data.pack.images(calibration_rows(data.splits.train, faces))
        yield f"int8, {7 if reduced else 8} bits, {faces} faces", quantise(exported, crops, reduce_range=reduced)


def markdown(rows) -> str:
    reference = rows[0]
    lines = [
        "| variant | MB | accuracy | same class as fp32 | maximum difference | mean | batch 1 | batch 32 "
        "| speed relative to fp32, batch 32 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['variant']} | {row['megabytes']:.2f} | {100 * row['accuracy']:.2f} % | "
        f"{100 * row['agrees_with_fp32']:.2f} % | {row['largest_difference']:.4f} | {row['mean_difference']:.5f} | "
        f"{row['batch_1_ms']:.2f} ms | {row['batch_32_ms']:.1f} ms | "
        f"{reference['batch_32_ms'] / row['batch_32_ms']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
