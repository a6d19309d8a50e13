"""The steps of experiments/gpu/run.sh, scheduled by the clock; one that fails does not end the others."""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from made_drawn import write_release

ROOT = Path(__file__).parents[2]
START = time.monotonic()
Options = argparse.Namespace


class Steps:
    """Runs steps and writes report.json after each."""

    def __init__(self, out: Path, budget: float) -> None:
        self.out, self.budget = out, budget
        card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        self.report: dict[str, Any] = {"card": card, "torch": torch.__version__, "cores": os.cpu_count()}
        self.report |= {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "steps": {}}

    def left(self) -> float:
        return self.budget - (time.monotonic() - START)

    def run(self, name: str, action: Callable[[], Any], seconds: float = 5) -> Any:
        """The result of `action`; None if it fails, or if fewer than `seconds` are left."""
        began, result, error = time.monotonic(), None, None
        if self.left() < seconds:
            error = "no time left"
        else:
            try:
                result = action()
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"[-1500:]
                traceback.print_exc()
        entry = {"ok": error is None, "seconds": round(time.monotonic() - began, 1)}
        self.report["steps"][name] = entry | ({"error": error} if error else {"result": result})
        (self.out / "report.json").write_text(json.dumps(self.report, indent=1, default=str))
        print(f"{name}: {'ok' if error is None else error.splitlines()[-1][:200]} ({entry['seconds']} s)", flush=True)
        return result

    def command(self, module: str, *arguments: str, most: float = 120, status: int = 0) -> str:
        """Run ``python -m MODULE``; an error, with the end of its messages, unless it exits with `status`."""
        seconds = max(1.0, min(most, self.left()))
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=seconds, cwd=ROOT
        )
        if done.returncode != status:
            raise RuntimeError(f"{module} exits with {done.returncode}: {(done.stdout + done.stderr)[-1200:]}")
        return done.stdout


def paths(steps: Steps, options: Options) -> None:
    """Every path of the product that differs on a GPU, on drawn faces."""
    work, tiny = options.work, options.rehearse
    count = {"train": 72, "val": 24, "test": 24} if tiny else {"train": 2000, "val": 200, "test": 200}
    release = write_release(work / "drawn", "yolo", count, size=48)
    sides = write_release(work / "drawn_va", "affectnet_csv", {"train": 120, "val": 24})
    small = ["net.channels=[4,4,8,8]", "net.features=8", "data.num_workers=0", "data.processes=1"] if tiny else []
    common = [*small, f"data.batch_size={8 if tiny else 128}", "preprocessing.size=48", "logger=csv"]
    common += [
        "trainer=default",
        "trainer.accelerator=auto",
        "trainer.max_epochs=2",
        "trainer.enable_progress_bar=false",
    ]
    drawn = ["experiment=affectnet_yolo", f"data.root={release}", *common]
    first = work / "first"

    def train(name: str, *arguments: str, base: list[str] = drawn) -> Callable[[], str]:
        return lambda: steps.command("emodet.train", *base, *arguments, f"hydra.run.dir={work / name}")[-300:]

    steps.run(
        "bf16, ema, mixup, cutmix",
        train(
            "first",
            "trainer.precision=bf16-mixed",
            "callbacks=[default,ema]",
            "training.mixup=0.2",
            "training.cutmix=1",
        ),
    )
    if not tiny:
        steps.run("compile", train("compiled", "training.compile=true", "trainer.precision=bf16-mixed"))
    steps.run("sam", train("sam", "training.sam_rho=0.05", "trainer.max_epochs=1"))
    steps.run("teacher", train("student", f"distillation.teachers=[{first}]", "trainer.max_epochs=1"))
    va = ["experiment=affectnet_va", f"data.root={sides}", *common, "trainer.max_epochs=1"]
    steps.run("valence/arousal", train("va", base=va))
    steps.run("ddp", train("ddp", "trainer=ddp", "trainer.devices=1", "trainer.max_epochs=1"))
    steps.run("resume in mid-epoch", lambda: resumed(steps, drawn, work))
    export = [f"checkpoint={first}", f"output={work / 'model'}", f"data.root={release}", "formats=[fp32]", "force=true"]
    steps.run("export", lambda: steps.command("emodet.export", *export)[-500:])
    steps.run("onnxruntime cuda", lambda: cuda_provider(next(iter((work / "model").glob("*.onnx")))))


def resumed(steps: Steps, drawn: list[str], work: Path) -> str:
    """Stop a run in its second epoch, resume it, and compare its weights with those of an uninterrupted run."""
    settings = [*drawn, "trainer.deterministic=true", "trainer.max_epochs=3", "callbacks=[default]"]
    steps.command("emodet.train", *settings, f"hydra.run.dir={work / 'whole'}")
    run = work / "stopped"
    process = subprocess.Popen([sys.executable, "-m", "emodet.train", *settings, f"hydra.run.dir={run}"], cwd=ROOT)
    while process.poll() is None and not (run / "checkpoints" / "last.ckpt").exists() and steps.left() > 0:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    stopped = process.wait(60)
    if stopped == 143:
        steps.command("emodet.train", f"resume={run}")
    one, other = (torch.load(work / name / "weights.pt", weights_only=True) for name in ("whole", "stopped"))
    worst = max(float((one[key].float() - other[key].float()).abs().max()) for key in one)
    if worst > 0:
        raise RuntimeError(f"weights differ by up to {worst}")
    return "stopped and resumed: equal" if stopped == 143 else f"not stopped in time (exit status {stopped}): equal"


def cuda_provider(model: Path) -> str:
    import numpy as np
    import onnxruntime

    from emodet.modelfile import read_model_file

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "not in this build of ONNX Runtime"
    crops = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 3), dtype=np.uint8)
    files = [read_model_file(model, providers=(name,)) for name in ("cpu", "cuda")]
    one, other = (file.probabilities(crops) for file in files)
    return f"largest difference to cpu {np.abs(one - other).max():.1e}"


def speed(steps: Steps, options: Options) -> None:
    """Faces per second of the training step: from the loader's workers, and on one batch that stays on the device."""
    cases = [(48, 8)] if options.rehearse else [(size, batch) for size in (48, 96) for batch in (128, 512, 2048)]
    for size, batch in cases:
        for source in ("device", "workers"):
            steps.run(
                f"speed {size} px, batch {batch}, {source}",
                lambda s=size, b=batch, o=source: step_speed(s, b, o, options),
            )
    steps.run("profile", lambda: step_speed(*cases[-1], "device", options, profile=steps.out / "profile.txt"))


def step_speed(size: int, batch: int, source: str, options: Options, profile: Path | None = None) -> dict[str, float]:
    from emodet.data.datamodule import EmotionDataModule
    from emodet.data.sources import Source
    from emodet.models.classifier import EmotionClassifier

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = EmotionDataModule(
        Source(options.work / "drawn", packs=options.work / "packs"),
        {"size": size},
        batch_size=min(batch, 64 if options.rehearse else batch),
        num_workers=0 if options.rehearse else os.cpu_count(),
    )
    data.prepare_data()
    data.setup()
    classifier = EmotionClassifier({"name": "residual_cnn"}, list(data.class_names), data.preprocessing.to_dict())
    net = classifier.to(device).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=device.type == "cuda")
    loader = data.train_dataloader()
    fixed = {key: value.to(device) for key, value in next(iter(loader)).items() if torch.is_tensor(value)}

    def step(found: dict[str, torch.Tensor]) -> int:
        with torch.autocast(device.type, torch.bfloat16):
            logits = net.net(net.normalise(found["image"]))
        targets = found["emotion"].to(logits.device)
        torch.nn.functional.cross_entropy(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return len(targets)

    def batches() -> Any:
        while True:
            yield from [fixed] if source == "device" else loader

    def timed(seconds: float) -> float:
        faces, began = 0, time.perf_counter()
        for number, found in enumerate(batches()):
            faces += step(
                {key: value.to(device, non_blocking=True) for key, value in found.items() if torch.is_tensor(value)}
            )
            if number % 10 == 0 and device.type == "cuda":
                torch.cuda.synchronize()
            if time.perf_counter() - began > seconds:
                break
        return faces / (time.perf_counter() - began)

    timed(0.5)
    if profile is not None:
        with torch.profiler.profile() as found:
            timed(0.5)
        key = "cuda_time_total" if device.type == "cuda" else "cpu_time_total"
        profile.write_text(found.key_averages().table(sort_by=key, row_limit=40))
    return {"faces_per_s": round(timed(0.5 if options.rehearse else 4))}


def accuracy(steps: Steps, options: Options) -> None:
    """Teacher, mixed corruptions, distillation on FER+: epochs as many as the measured speed allows."""
    root = os.environ.get("EMODET_FERPLUS", "")
    if options.rehearse:
        root = str(write_release(options.work / "ferplus", "ferplus", {"train": 120, "val": 24, "test": 24}, size=48))
    if not root:
        steps.run("accuracy", lambda: "left out: EMODET_FERPLUS does not name the FER+ files")
        return
    measured = [
        entry["result"]["faces_per_s"]
        for name, entry in steps.report["steps"].items()
        if "48 px" in name and "workers" in name and entry["ok"]
    ]
    rate, total = max(measured, default=5000), max(10.0, steps.left() - 40)
    common = ["--config-dir", "experiments/ferplus/conf", f"data.root={root}", "trainer=default", "logger=csv"]
    common += ["trainer.enable_progress_bar=false", f"data.batch_size={8 if options.rehearse else 512}"]
    if options.rehearse:
        common += ["data.num_workers=0", "data.processes=1", "trainer.limit_train_batches=1", "trainer.accelerator=cpu"]
    run = {name: options.work / name for name in ("teacher", "mixed", "distilled")}
    wide = [] if importlib.util.find_spec("face_recognition_models") and not options.rehearse else ["net=residual_cnn"]
    start = f"init_from={ROOT / 'emodet/weights/emodet.pt'}"
    stages = [
        (
            "teacher",
            "ferplus_teacher",
            0.25,
            0.25,
            [*wide, *(["net.channels=[64,128,256,512]"] if wide and not options.rehearse else [])],
        ),
        ("mixed", "ferplus_mixed", 0.3, 0.8, [start]),
        (
            "distilled",
            "ferplus_distill",
            0.45,
            0.4,
            [
                f"init_from={run['mixed'] / 'weights.pt'}",
                f"distillation.teachers=[{run['teacher'] / 'weights.pt'},{run['mixed'] / 'weights.pt'}]",
            ],
        ),
    ]
    for name, experiment, share, slower, more in stages:
        epochs = 1 if options.rehearse else max(1, min(60, int((share * total - 25) * rate * slower / 35_000)))
        arguments = [
            *common,
            f"experiment={experiment}",
            f"trainer.max_epochs={epochs}",
            f"hydra.run.dir={run[name]}",
            *more,
        ]
        steps.run(
            f"accuracy, {name}, {epochs} epochs",
            lambda a=arguments: steps.command("emodet.train", *a, most=600)[-1500:],
            20,
        )
    steps.run("weights", lambda: keep(run, steps.out))


def keep(run: dict[str, Path], out: Path) -> str:
    """The last stage that was finished, in half precision, with its card and figures."""
    name = next(name for name in ("distilled", "mixed") if (run[name] / "weights.pt").exists())
    weights = torch.load(run[name] / "weights.pt", weights_only=True)
    torch.save(
        {key: value.half() if value.is_floating_point() else value for key, value in weights.items()},
        out / "weights.pt",
    )
    for file in ("weights.json", "report.json"):
        found = next(iter(run[name].rglob(file)), None)
        if found is not None:
            shutil.copy(found, out / f"{name}_{file}")
    return name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for what is thrown away")
    parser.add_argument("--rehearse", action="store_true", help="tiny settings, on a CPU, to see that all steps run")
    parser.add_argument("--budget", type=float, default=520, help="seconds (default: %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("OUTPUTS", "PACKS", "SYNTHETIC"):
        os.environ[f"EMODET_{name}"] = str(options.work / name.lower())
    steps = Steps(options.out, 3600 if options.rehearse else options.budget)
    paths(steps, options)
    speed(steps, options)
    accuracy(steps, options)
    failed = [name for name, entry in steps.report["steps"].items() if not entry["ok"]]
    print(f"{len(failed)} of {len(steps.report['steps'])} steps failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
