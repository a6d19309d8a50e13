"""Steps of experiments/gpu/run.sh within a time budget; a failed step does not stop the others."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_releases import as_affectnet_csv, as_ferplus
from omegaconf import OmegaConf

from emodet.synthetic.releases import write_release

ROOT = Path(__file__).parents[2]
START = time.monotonic()
RESIDUAL = {"_target_": "emodet.models.residual_cnn.ResidualCNN"}
# Faces in an epoch of FER+; constant time of an epoch and of a training, in seconds.
EPOCH, EPOCH_S, START_S = 28_400, 0.4, 40
RATE = 8500  # faces/s of each of two concurrent trainings, assumed without a pilot; 10,250 were measured
# Stages of the recipe: maximum share of the remaining time, and concurrent trainings with their epochs.
STAGES: tuple[tuple[float, dict[str, int]], ...] = (
    (0.2, {"teacher": 32}),
    (0.3, {"again": 32, "again_dlib": 32}),
    (0.6, {"student_0": 96, "accurate_first": 32}),
    (1.0, {"student_1": 96, "accurate": 24}),
)
PLAIN = ["trainer=default", "logger=csv", "trainer.enable_progress_bar=false"]
Options = argparse.Namespace


class Steps:
    """Runs steps and writes report.json after each of them."""

    def __init__(self, out: Path, budget: float) -> None:
        self.out, self.budget, self.lock = out, budget, threading.Lock()
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        self.report: dict[str, Any] = {"gpu": gpu, "torch": torch.__version__, "cores": os.cpu_count()}
        self.report |= {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "steps": {}}

    def seconds_left(self) -> float:
        return self.budget - (time.monotonic() - START)

    def run(self, name: str, action: Callable[[], Any], seconds: float = 5) -> Any:
        """Run a step and return its result; None if it fails, or if fewer than `seconds` are left."""
        start, result, error = time.monotonic(), None, None
        if self.seconds_left() < seconds:
            error = "no time left"
        else:
            try:
                result = action()
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"[-1500:]
                traceback.print_exc()
        entry = {"ok": error is None, "seconds": round(time.monotonic() - start, 1)}
        with self.lock:
            self.report["steps"][name] = entry | ({"error": error} if error else {"result": result})
            (self.out / "report.json").write_text(json.dumps(self.report, indent=1, default=str))
        print(f"{name}: {'ok' if error is None else error.splitlines()[-1][:200]} ({entry['seconds']} s)", flush=True)
        return result

    def run_concurrently(self, actions: Mapping[str, Callable[[], Any]], seconds: float = 5, most: int = 4) -> None:
        """Run independent steps, up to `most` at once."""
        with ThreadPoolExecutor(most) as pool:
            for name, action in actions.items():
                pool.submit(self.run, name, action, seconds)

    def command(self, module: str, *arguments: str, most: float = 120, status: int = 0) -> str:
        """Run ``python -m MODULE``. An exit status other than `status` is an error with the end of its output."""
        seconds = max(1.0, min(most, self.seconds_left()))
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=seconds, cwd=ROOT
        )
        if done.returncode != status:
            raise RuntimeError(f"{module} exits with {done.returncode}: {(done.stdout + done.stderr)[-1200:]}")
        return done.stdout


def paths(steps: Steps, options: Options) -> None:
    """Run every code path that differs on a GPU, on drawn faces."""
    work, tiny = options.work, options.rehearse
    release = drawn_release(options)
    sides = as_affectnet_csv(write_release(work / "drawn_120", {"train": 120, "val": 24}, size=48), work / "drawn_va")
    small = ["net.channels=[4,4,8,8]", "net.features=8", "data.processes=1"] if tiny else []
    common = [*small, f"data.batch_size={8 if tiny else 128}", f"data.num_workers={0 if tiny else 3}", *PLAIN]
    common += ["preprocessing.size=48", "trainer.max_epochs=2", "training.export=false"]
    drawn = ["experiment=affectnet_yolo", f"data.root={release}", *common]

    def train(name: str, *arguments: str, base: list[str] = drawn) -> Callable[[], str]:
        return lambda: steps.command("emodet.train", *base, *arguments, f"hydra.run.dir={work / name}")[-300:]

    once = "trainer.max_epochs=1"
    va = ["experiment=affectnet_va", f"data.root={sides}", *common, once, f"data.batch_size={8 if tiny else 64}"]
    export = [f"checkpoint={work / 'first'}", f"output={work / 'model'}", f"data.root={release}", "formats=[fp32]"]
    first = ["trainer.precision=bf16-mixed", "callbacks=[default,ema]", "training.mixup=0.2", "training.cutmix=1"]
    steps.run("bf16, ema, mixup, cutmix", train("first", *first))
    steps.run_concurrently(
        {
            "resume in mid-epoch": lambda: resumed(steps, drawn, work),
            **({} if tiny else {"compile": train("compiled", "training.compile=true", "trainer.precision=bf16-mixed")}),
            "export": lambda: steps.command("emodet.export", *export, "force=true")[-500:],
            "sam": train("sam", "training.sam_rho=0.05", once),
            "distillation": train("student", f"distillation.teachers=[{work / 'first'}]", once),
            "valence/arousal": train("va", base=va),
            "ddp": train("ddp", "trainer=ddp", "trainer.devices=1", once),
        },
        most=1 if tiny else 4,
    )
    steps.run("onnxruntime cuda", lambda: cuda_provider(next(iter((work / "model").glob("*.onnx")))))


def drawn_release(options: Options) -> Path:
    count = {"train": 72, "val": 24, "test": 24} if options.rehearse else {"train": 2000, "val": 200, "test": 200}
    return write_release(options.work / "drawn", count, size=48)


def resumed(steps: Steps, drawn: list[str], work: Path) -> str:
    """Stop a run in its second epoch, resume it, and compare its weights with those of an uninterrupted run."""
    settings = [*drawn, "trainer.deterministic=true", "trainer.max_epochs=3", "callbacks=[default]"]
    steps.command("emodet.train", *settings, f"hydra.run.dir={work / 'whole'}")
    run = work / "stopped"
    process = subprocess.Popen([sys.executable, "-m", "emodet.train", *settings, f"hydra.run.dir={run}"], cwd=ROOT)
    while process.poll() is None and not (run / "checkpoints" / "last.ckpt").exists() and steps.seconds_left() > 0:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    stopped = process.wait(60)
    if stopped == 143:
        steps.command("emodet.train", f"resume={run}")
    one, other = (torch.load(work / name / "weights.pt", weights_only=True) for name in ("whole", "stopped"))
    worst = max(float((one[key].float() - other[key].float()).abs().max()) for key in one)
    if worst > 0:
        raise RuntimeError(f"weights differ by up to {worst}")
    return (
        "interrupted and resumed: equal"
        if stopped == 143
        else f"not interrupted in time (exit status {stopped}): equal"
    )


def cuda_provider(model: Path) -> str:
    import onnxruntime

    from emodet.modelfile import read_model_file

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "not in this build of ONNX Runtime"
    crops = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 3), dtype=np.uint8)
    files = [read_model_file(model, providers=(name,)) for name in ("cpu", "cuda")]
    one, other = (file.probabilities(crops) for file in files)
    return f"maximum difference to cpu {np.abs(one - other).max():.1e}"


def speed(steps: Steps, options: Options) -> None:
    """Measure the training step on one batch that stays on the device, and on batches from augmenting workers."""
    drawn_release(options)
    tiny = options.rehearse
    cases = [(size, batch, "device") for size in (48, 96) for batch in ([8] if tiny else [128, 512, 2048])]
    cases += [(48, 8, "workers")] if tiny else [(48, 512, "workers"), (48, 2048, "workers"), (96, 512, "workers")]
    cases += (
        []
        if tiny
        else [(48, 2048, "workers, light"), (48, 512, "compiled"), (96, 512, "compiled"), (96, 2048, "compiled")]
    )
    for case in cases:
        name = "speed {} px, batch {}, {}".format(*case)
        steps.run(name, lambda c=case: step_speed(c, options), 15)  # type: ignore[misc]
    steps.run("profile", lambda: step_speed(cases[0 if tiny else 1], options, steps.out / "profile.txt"))


def step_speed(case: tuple[int, int, str], options: Options, profile: Path | None = None) -> dict[str, float]:
    from emodet.data.augmentation import Augmentation
    from emodet.data.datamodule import EmotionDataModule
    from emodet.data.faces import BatchIndices, LazyDataLoader
    from emodet.data.sources import Source
    from emodet.models.classifier import EmotionClassifier

    size, batch, source = case
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    augmentation_file = "light" if source.endswith("light") else "camera"
    augmentation: Any = OmegaConf.to_container(OmegaConf.load(ROOT / f"conf/augmentation/{augmentation_file}.yaml"))
    data = EmotionDataModule(
        Source(options.work / "drawn", packs=options.work / "packs"),
        {"size": size},
        batch_size=8,
        augmentation=Augmentation(**augmentation),
    )
    data.prepare_data()
    data.setup()
    classifier = EmotionClassifier(RESIDUAL, list(data.class_names), data.preprocessing.to_dict())
    net = classifier.to(device).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=device.type == "cuda")
    torch.backends.cudnn.benchmark = source == "compiled"
    if source == "compiled":
        net.net.compile()
    # One long epoch, because there are few drawn faces.
    drawn = np.random.default_rng(0).choice(data.splits.train, (10 if options.rehearse else 2000, batch))
    order = [BatchIndices(rows, seed) for seed, rows in enumerate(drawn)]
    workers = 0 if options.rehearse or not source.startswith("workers") else os.cpu_count() or 1
    faces: Any = data.train_dataloader().dataset
    loader = LazyDataLoader(faces, order, workers)
    fixed = {key: value.to(device) for key, value in next(iter(loader)).items() if torch.is_tensor(value)}

    def step(found: dict[str, torch.Tensor]) -> int:
        with torch.autocast(device.type, torch.bfloat16):
            logits = net.net(net.normalise(found["image"]))
        targets = found["emotion"].to(logits.device)
        torch.nn.functional.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return len(targets)

    def batches() -> Any:
        while True:
            yield from loader if source.startswith("workers") else [fixed]

    stream = batches()

    def timed(seconds: float) -> float:
        count, start = 0, time.perf_counter()
        for number, found in enumerate(stream):
            count += step(
                {key: value.to(device, non_blocking=True) for key, value in found.items() if torch.is_tensor(value)}
            )
            if number % 10 == 0 and device.type == "cuda":
                torch.cuda.synchronize()
            if time.perf_counter() - start > seconds:
                break
        if device.type == "cuda":
            torch.cuda.synchronize()
        return count / (time.perf_counter() - start)

    timed(0.5 if options.rehearse else 1)
    if profile is not None:
        with torch.profiler.profile() as found:
            timed(0.5)
        key = "cuda_time_total" if device.type == "cuda" else "cpu_time_total"
        profile.write_text(found.key_averages().table(sort_by=key, row_limit=40))
    return {"faces_per_s": round(timed(0.5 if options.rehearse else 1.5))}


def ferplus_run(steps: Steps, options: Options, run: Path, epochs: int) -> float:
    """Train one net of the recipe and return its faces/s; 0 if it is already trained."""
    if (run / "weights.pt").exists():
        return 0.0
    folder, name = run.parent, run.name
    teacher, again = options.teacher or folder / "teacher", folder / "again"
    dlib = ["net.pretrained=false", f"init_from={options.dlib}"] if options.dlib else []
    teachers, own = {
        "teacher": ([], dlib),
        "again": ([teacher], ["net.pretrained=false", f"init_from={teacher}"]),
        "again_dlib": ([teacher], [*dlib, "seed=1"]),
        "student_0": ([again, folder / "again_dlib"], ["seed=0"]),
        "student_1": ([again, folder / "again_dlib"], ["seed=1"]),
        "accurate_first": ([again], [f"net.pretrained={options.faceres}"]),
        "accurate": ([folder / "accurate_first", again], [f"init_from={folder / 'accurate_first'}"]),
    }[name]
    experiment = f"experiment=ferplus_{name.partition('_')[0]}"
    arguments = ["--config-dir", "experiments/ferplus/conf", experiment, f"data.root={options.ferplus}", *PLAIN]
    arguments += ["training.export=false", f"hydra.run.dir={run}", f"trainer.max_epochs={epochs}"]
    arguments += [f"trainer.check_val_every_n_epoch={epochs // 4 if epochs % 4 == 0 else 1}"]
    if teachers:
        arguments.append(f"distillation.teachers=[{','.join(map(str, teachers))}]")
    if options.rehearse:
        own = ["net=residual_cnn", "net.channels=[4,4,8,8]", "net.features=8"]
        arguments += ["trainer.limit_train_batches=1", "data.batch_size=8", "data.num_workers=0", "data.processes=1"]
    else:
        arguments.append(f"data.num_workers={max(1, (os.cpu_count() or 1) // 2 - 1)}")
    steps.command("emodet.train", *arguments, *own, most=steps.seconds_left() - 15)
    return float(json.loads((run / "run.json").read_text())["faces_per_second"])


def pilot(steps: Steps, options: Options) -> None:
    """Measure the rate of each training over three epochs, two trainings at a time."""
    few = 1 if options.rehearse else 3
    for _, stage in STAGES:
        runs = {name: options.work / "pilot" / name for name in stage if name != "teacher" or not options.teacher}
        actions = {f"pilot, {name}": partial(ferplus_run, steps, options, run, few) for name, run in runs.items()}
        steps.run_concurrently(actions, 20, most=2)


def accuracy(steps: Steps, options: Options) -> None:
    """Run the recipe of the shipped models on FER+, with as many epochs as the pilot's rates allow."""
    entries = json.loads(options.rates.read_text())["steps"] if options.rates else steps.report["steps"]
    work = options.work / "accuracy"
    for share, stage in STAGES:
        actions = {}
        for name, most in stage.items():
            rate = entries.get(f"pilot, {name}", {}).get("result") or RATE
            seconds = share * (steps.seconds_left() - 15) - START_S
            epochs = int(seconds / (EPOCH / rate + EPOCH_S)) // 4 * 4  # a multiple of 4
            epochs = 1 if options.rehearse else min(max(4, epochs), most)
            if name != "teacher" or not options.teacher:
                actions[f"{name}, {epochs} epochs"] = partial(ferplus_run, steps, options, work / name, epochs)
        steps.run_concurrently(actions, 20, most=2)
        for name in stage.keys() & {"again", "student_0", "student_1", "accurate"}:
            steps.run(f"weights of {name}", partial(copy_weights, work / name, steps.out / f"{name}.pt"))
    patterns = ("run.json", "config.yaml", "train.log", "metrics.csv", "weights.json", "evaluation-test/report.json")
    with tarfile.open(steps.out / "runs.tar.gz", "w:gz") as archive:
        for file in sorted(f for pattern in patterns for f in work.glob(f"*/{pattern}")):
            archive.add(file, file.relative_to(options.work))


def copy_weights(run: Path, out: Path) -> str:
    """Copy the weights of a run, or of its last checkpoint if it is unfinished; large nets in half precision."""
    plain = run / "weights.pt"
    if plain.is_file():
        state = torch.load(plain, weights_only=True)
    else:
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    if sum(value.numel() for value in state.values()) > 3e6:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    torch.save(state, out)
    return "weights" if plain.is_file() else "last.ckpt"


STEPS: dict[str, Callable[[Steps, Options], None]] = {
    "paths": paths,
    "speed": speed,
    "pilot": pilot,
    "accuracy": accuracy,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for temporary files")
    parser.add_argument("--rehearse", action="store_true", help="tiny settings on a CPU, to test that all steps run")
    parser.add_argument("--ferplus", help="folder of the FER+ files (default: $EMODET_FERPLUS)")
    parser.add_argument("--dlib", type=Path, help="initial weights of the face net (default: those of its package)")
    parser.add_argument("--faceres", type=Path, help="faceres.bin of the npm package @vladmandic/human")
    parser.add_argument("--teacher", type=Path, help="weights of the first stage, which is then skipped")
    parser.add_argument("--steps", default=",".join(STEPS), help="comma-separated, of %(default)s")
    parser.add_argument("--rates", type=Path, help="report.json of an earlier pilot on the same type of machine")
    parser.add_argument("--budget", type=float, default=520, help="time budget in seconds (default: %(default)s)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.ferplus = options.ferplus or os.environ.get("EMODET_FERPLUS")
    if options.rehearse:
        faces = {"train": 120, "val": 24, "test": 24}
        drawn = write_release(options.work / "drawn_168", faces, size=48)
        options.ferplus = str(as_ferplus(drawn, options.work / "ferplus"))
    for name in ("OUTPUTS", "PACKS", "SYNTHETIC"):
        os.environ[f"EMODET_{name}"] = str(options.work / name.lower())
    steps = Steps(options.out, 3600 if options.rehearse else options.budget)
    for name in options.steps.split(","):
        if name in ("pilot", "accuracy") and not options.ferplus:
            steps.run(name, lambda: "skipped: neither --ferplus nor EMODET_FERPLUS is set")
        else:
            STEPS[name](steps, options)
    failed = [name for name, entry in steps.report["steps"].items() if not entry["ok"]]
    print(f"{len(failed)} of {len(steps.report['steps'])} steps failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
