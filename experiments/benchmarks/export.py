"""What the choices of int8 cost: bits of the weights and number of calibration faces, in accuracy and in time.

    python experiments/benchmarks/export.py RUN_FOLDER [--threads 1] [--output FILE.json]

Every variant is made from the same checkpoint, answers on all val faces of the run's own data, and is timed in
turns with the others, so that a machine that slows down slows all of them.
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
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    trained = load_trained(arguments.run)
    if trained.data is None:
        parser.error(f"{arguments.run} is no run's folder, so its data is not known")
    data = build_data({"data": trained.data, "preprocessing": trained.classifier.preprocessing.to_dict()})
    data.prepare_data()
    data.setup()
    info = replace(trained.card, metrics={})
    exported = to_onnx(trained.classifier)
    with tempfile.TemporaryDirectory() as folder:
        models, sizes = {}, {}
        for name, graph in variants(exported, data):
            kind = replace(info, precision="fp32" if name == "fp32" else "int8")
            file = write_model_file(graph, kind, Path(folder) / "variant.onnx")
            sizes[name] = file.stat().st_size
            models[name] = read_model_file(file, threads=arguments.threads)
    answers = {name: predict_split(model, data, "val") for name, model in models.items()}
    speeds = measure_speed(models, data.pack.images(data.splits.val[:32]))
    rows = []
    for name, each in answers.items():
        probabilities, reference = softmax(each.logits), softmax(answers["fp32"].logits)
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
    yield "fp32", exported
    for faces, reduced in VARIANTS:
        crops = data.pack.images(calibration_rows(data.splits.train, faces))
        yield f"int8, {7 if reduced else 8} bits, {faces} faces", quantise(exported, crops, reduce_range=reduced)


def markdown(rows) -> str:
    reference = rows[0]
    lines = [
        "| variant | MB | accuracy | as fp32 | largest difference | mean | batch 1 | batch 32 | times fp32, batch 32 |",
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
