"""Speed of recognition on this machine: by stage, and end to end from a video file to labelled faces.

    python experiments/benchmarks/recognise.py [--threads 2] [--frames 300] [--fp32 FILE] [--int8 FILE] [--json FILE]

The faces are copies of the astronaut of scikit-image that move over a 640×480 frame. The timing alternates between the
two precisions, so that a change in the speed of the machine affects both. YuNet is measured if EMODET_YUNET names its
weights. Prints Markdown, with the load average before and after; run nothing else on the machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from skimage import data

from emodet.errors import EmodetError
from emodet.inference.capture import read_ahead
from emodet.inference.detectors import STREAM_SIDES, make_detector
from emodet.inference.overlay import annotate
from emodet.inference.pipeline import recognise_video
from emodet.inference.recognizer import Recognizer
from emodet.inference.tracking import DETECT_EVERY, Follower
from emodet.inference.video_reader import VideoReader
from emodet.inference.video_writer import VideoWriter
from emodet.modelfile import model_path, read_model_file

WIDTH, HEIGHT = 640, 480
TARGETS = {
    "int8 over fp32, batch 32": 2.5,
    "one face, int8, p50 ms": 1,
    "yunet, 1 face": 180,
    "yunet, 5 faces": 110,
    "centerface, 1 face": 150,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--fp32", default="fp32", help="a model file (default: the shipped one)")
    parser.add_argument("--int8", default="int8", help="a model file (default: the shipped one)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    files = {"fp32": arguments.fp32, "int8": arguments.int8}
    figures: dict[str, object] = {"machine": machine(arguments.threads), "load before": os.getloadavg()[0]}
    print("## Machine\n\n" + "\n".join(f"- {line}" for line in figures["machine"]))
    figures["import s"] = import_seconds()
    print(f"\nImporting `Recognizer` takes {figures['import s']:.2f} s, without the start of Python (median of 5).")
    figures["model"] = model_files(files, arguments.threads)
    figures["profile"] = profile(files["int8"])
    with tempfile.TemporaryDirectory() as folder:
        videos = {count: write_video(Path(folder) / f"{count}.mp4", count, arguments.frames) for count in (1, 5)}
        figures["stages"] = stages(files["int8"], videos, arguments.threads)
        figures["end to end"] = end_to_end(files, videos, arguments.threads)
    figures["load after"] = os.getloadavg()[0]
    print(f"\nLoad average: {figures['load before']:.1f} before, {figures['load after']:.1f} after.")
    print(compare_with_targets(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def machine(threads: int) -> list[str]:
    cpu = Path("/proc/cpuinfo")
    text = cpu.read_text() if cpu.exists() else ""
    name = next(
        (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), platform.machine()
    )
    vnni = " with VNNI" if "vnni" in text else ""
    return [
        f"{name}{vnni}, {os.cpu_count()} cores, {threads} threads",
        f"Python {platform.python_version()}, onnxruntime {onnxruntime.__version__}, OpenCV {cv2.__version__}",
    ]


def import_seconds() -> float:
    code = "import time; t = time.perf_counter(); from emodet import Recognizer; print(time.perf_counter() - t)"
    runs = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    return float(np.median(runs))


def model_files(files: dict[str, str], threads: int) -> dict[str, dict[str, float]]:
    """Milliseconds and faces per second of the model files, without detector and crops."""
    models = {name: read_model_file(model_path(file), threads=threads) for name, file in files.items()}
    size = models["int8"].info.preprocessing.size
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for batch, rounds in ((1, 200), (5, 60), (32, 20)):
        crops = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(rounds):
            for name, model in models.items():
                started = time.perf_counter()
                model.probabilities(crops)
                times[name].append((time.perf_counter() - started) * 1000)
        for name, measured in times.items():
            found[name] |= {
                f"p50 ms at {batch}": float(np.percentile(measured, 50)),
                f"p95 ms at {batch}": float(np.percentile(measured, 95)),
                f"faces/s at {batch}": batch * 1000 / float(np.percentile(measured, 50)),
            }
    print("\n## Model file\n\n| batch size | precision | p50, ms | p95, ms | faces/s | speed relative to fp32 |")
    print("|---:|---|---:|---:|---:|---:|")
    for batch in (1, 5, 32):
        for name, row in found.items():
            ratio = row[f"faces/s at {batch}"] / found["fp32"][f"faces/s at {batch}"]
            p50, p95, rate = (row[f"{figure} at {batch}"] for figure in ("p50 ms", "p95 ms", "faces/s"))
            print(f"| {batch} | {name} | {p50:.2f} | {p95:.2f} | {rate:.0f} | {ratio:.2f} |")
    return found


def profile(int8: str) -> dict[int, dict[str, float]]:
    """Share of each operator in the time of the int8 file, one thread; for each node its fastest run counts."""
    shares: dict[int, dict[str, float]] = {}
    for batch in (1, 32):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.enable_profiling = 1, True
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = onnxruntime.InferenceSession(model_path(int8), options, providers=["CPUExecutionProvider"])
            crops = np.random.default_rng(0).integers(0, 256, (batch, *session.get_inputs()[0].shape[1:]), np.uint8)
            for _ in range(640 // batch):
                session.run(None, {"crops": crops})
            events = json.loads(Path(session.end_profiling()).read_text())
        fastest: dict[tuple[str, str], float] = {}
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
                node = event["args"]["op_name"], event["name"]
                fastest[node] = min(event["dur"], fastest.get(node, event["dur"]))
        durations = Counter[str]()
        for (operator, _), duration in fastest.items():
            durations[operator] += duration
        shares[batch] = {name: duration / durations.total() for name, duration in durations.most_common()}
    print("\n## Profile of the int8 file\n\n| operator | batch 1 | batch 32 |\n|---|---:|---:|")
    for name in list(shares[32])[:6]:
        print(f"| {name} | {shares[1].get(name, 0):.1%} | {shares[32][name]:.1%} |")
    return shares


def stages(int8: str, videos: dict[int, Path], threads: int) -> dict[str, float]:
    """Milliseconds of each stage for one face."""
    recognizer = Recognizer(int8, detector="none", threads=threads)
    frames = [frame.image_rgb for frame in VideoReader(videos[1])][:60]
    found: dict[str, float] = {}

    def measure(name: str, action: Callable[[np.ndarray], object]) -> None:
        action(frames[0])
        times = []
        for frame in frames:
            started = time.perf_counter()
            action(frame)
            times.append((time.perf_counter() - started) * 1000)
        found[name] = float(np.median(times))

    started = time.perf_counter()
    count = sum(1 for _ in VideoReader(videos[1]))
    found["decode an H.264 frame to RGB"] = (time.perf_counter() - started) * 1000 / count
    for name in ("yunet", "centerface"):
        try:
            detector = make_detector(name, threads=threads) if name != "yunet" or "EMODET_YUNET" in os.environ else None
        except EmodetError as problem:
            print(f"\n{name} was not measured: {problem}")
            continue
        if detector is None:
            print("\nyunet was not measured: EMODET_YUNET is not set")
            continue
        for side in (320, STREAM_SIDES[0], 640):
            measure(f"{name} at {side} pixels", lambda frame, d=detector, s=side: d(frame, longest_side=s))
    faces = make_detector("centerface", threads=threads)(frames[0], longest_side=STREAM_SIDES[0])[:1]
    follower = Follower()

    def follow(frame: np.ndarray) -> None:
        follower.add_frame(frame)
        follower.follow(faces)

    measure("track one face", follow)
    measure("crop one face", lambda frame: recognizer.crop(frame, faces[0]))
    measure(
        "crop and recognise one face (int8)",
        lambda frame: recognizer.predictions([recognizer.crop(frame, face) for face in faces]),
    )
    labelled = recognizer.recognise(frames[0], faces)
    measure("draw the overlay of one face", lambda frame: annotate(frame, labelled))
    with tempfile.TemporaryDirectory() as folder:
        with VideoWriter(Path(folder) / "v.mp4", size=(WIDTH, HEIGHT), frame_rate=25) as writer:
            started = time.perf_counter()
            for index, frame in enumerate(frames):
                writer.write(frame, index / 25)
        found["encode a frame as H.264"] = (time.perf_counter() - started) * 1000 / len(frames)
    print(f"\n## Stages at {WIDTH}×{HEIGHT}\n\n| stage | p50, ms |\n|---|---:|")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} |")
    return found


def end_to_end(files: dict[str, str], videos: dict[int, Path], threads: int) -> dict[str, dict[str, float]]:
    """Frames per second from a video file to labelled faces."""
    found: dict[str, dict[str, float]] = {}
    detectors = ["centerface"] + (["yunet"] if "EMODET_YUNET" in os.environ else [])
    for name in reversed(detectors):
        for precision in ("int8", "fp32"):
            recognizer = Recognizer(files[precision], detector=name, threads=threads)
            for count, path in videos.items():
                for annotated in (False, True) if precision == "int8" else (False,):
                    key = f"{name}, {count} face{'s' * (count > 1)}, {precision}{', annotated video' * annotated}"
                    found[key] = run(recognizer, path, count, annotated)
    side = STREAM_SIDES[0]
    print(
        f"\n## End to end: from a {WIDTH}×{HEIGHT} video file to labelled faces\n\n"
        f"Faces are detected at {side} pixels in every {DETECT_EVERY}th frame and tracked in between.\n\n"
        "| detector, faces, precision | frames/s | time per frame, p50, ms | p95, ms | CPU time per frame, ms "
        "| faces found |\n"
        "|---|---:|---:|---:|---:|---:|"
    )
    for key, row in found.items():
        rest = " | ".join(f"{row[name]:.1f}" for name in ("frames/s", "p50 ms", "p95 ms", "CPU ms"))
        print(f"| {key} | {rest} | {row['found']:.1%} |")
    return found


def run(recognizer: Recognizer, path: Path, count: int, annotated: bool) -> dict[str, float]:
    steps, seen, cpu = [], 0, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        writer = VideoWriter(Path(folder) / "v.mp4", size=(WIDTH, HEIGHT), frame_rate=25) if annotated else None
        started = time.perf_counter()
        with closing(recognise_video(recognizer, VideoReader(path))) as results:
            for result in results:
                steps.append(result.latency_s * 1000)
                seen += len(result.faces)
                if writer is not None:
                    writer.write(annotate(result.frame.image_rgb, result.faces), result.frame.time_s)
        if writer is not None:
            writer.close()
        seconds = time.perf_counter() - started
    return {
        "frames/s": len(steps) / seconds,
        "CPU ms": (time.process_time() - cpu) * 1000 / len(steps),
        "p50 ms": float(np.percentile(steps, 50)),
        "p95 ms": float(np.percentile(steps, 95)),
        "found": seen / (count * len(steps)),
    }


def write_video(path: Path, count: int, frames: int) -> Path:
    with VideoWriter(path, size=(WIDTH, HEIGHT), frame_rate=25) as writer:
        for index, frame in enumerate(read_ahead(moving_faces(count, frames))):
            writer.write(frame, index / 25)
    return path


def moving_faces(count: int, frames: int) -> Iterator[np.ndarray]:
    """Yield frames with heads that move on circles over a blurred backbackground, each at its own speed."""
    rng = np.random.default_rng(0)
    background = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 8)
    side = 300 if count == 1 else 170
    head = cv2.resize(data.astronaut()[0:256, 96:352], (side, side), interpolation=cv2.INTER_AREA)
    places = [(170, 90)] if count == 1 else [(15, 15), (230, 20), (445, 15), (100, 270), (360, 280)]
    for index in range(frames):
        frame = background.copy()
        for number, (x, y) in enumerate(places):
            angle = index / (12 + 3 * number)
            left, top = x + round(18 * np.cos(angle)), y + round(12 * np.sin(angle))
            left, top = int(np.clip(left, 0, WIDTH - side)), int(np.clip(top, 0, HEIGHT - side))
            frame[top : top + side, left : left + side] = head
        yield frame


def compare_with_targets(figures: dict[str, object]) -> str:
    model, ends = figures["model"], figures["end to end"]
    measured = {
        "int8 over fp32, batch 32": model["int8"]["faces/s at 32"] / model["fp32"]["faces/s at 32"],
        "one face, int8, p50 ms": model["int8"]["p50 ms at 1"],
    }
    measured |= {name: ends[f"{name}, int8"]["frames/s"] for name in TARGETS if f"{name}, int8" in ends}
    lines = ["\n## Targets\n", "| | target | measured | met |", "|---|---:|---:|---|"]
    for name, target in TARGETS.items():
        if name in measured:
            met = measured[name] <= target if name.endswith("ms") else measured[name] >= target
            sign, unit = (
                ("≤" if name.endswith("ms") else "≥"),
                " frames/s" if "face" in name and "ms" not in name else "",
            )
            lines.append(f"| {name} | {sign} {target:g}{unit} | {measured[name]:.2f} | {'yes' if met else 'NO'} |")
        else:
            lines.append(f"| {name} | {target:g} | not measured | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
