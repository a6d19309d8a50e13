"""Speed and memory of the REST server: images per second compared with direct calls, memory over many requests.

    python experiments/benchmarks/serve.py [--rounds 20] [--requests 2000] [--threads N] [--json FILE]

The server is a separate process on this machine, started by the command that users type. The image is the astronaut of
scikit-image as JPEG, 512×512 and 640×480. A direct call decodes and recognises the same bytes in one process, without a
server. The timing alternates between the cases after a few images, so that a change in the speed of the machine affects
all of them. The figures of REST include the CPU time of the clients on the same cores. Prints Markdown.
"""

import argparse
import http.client
import json
import os
import platform
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from emodet.images import decode_rgb
from emodet.inference.recognizer import Recognizer

TARGET = 0.8
PICTURES = 12  # per case and round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"load before": os.getloadavg()[0]}
    print("## Machine\n\n" + "\n".join(f"- {line}" for line in machine(arguments.threads)))
    with Server(arguments.threads) as server:
        figures["rates"] = rates(server, arguments.rounds, arguments.threads)
        figures["memory"] = memory(server, arguments.requests)
    figures["load after"] = os.getloadavg()[0]
    print(f"\nLoad average: {figures['load before']:.1f} before, {figures['load after']:.1f} after.")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


class Server:
    """`python -m emodet.app` on a free port."""

    def __init__(self, threads: int) -> None:
        command = [sys.executable, "-m", "emodet.app", "--port", "0", "--threads", str(threads)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.port = int(re.search(r":(\d+)/", line).group(1))

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def cpu_s(self) -> float:
        """CPU time of all its threads since its start."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024


class Client:
    """A client with one persistent connection."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port)

    def recognise(self, picture: bytes, options: str = "") -> dict:
        try:
            response = self._post(picture, options)
        except (http.client.RemoteDisconnected, ConnectionError):
            # The server closes idle connections.
            self._connection.close()
            response = self._post(picture, options)
        text = response.read()
        assert response.status == 200, text
        return json.loads(text)

    def _post(self, picture: bytes, options: str) -> http.client.HTTPResponse:
        self._connection.request("POST", f"/v1/recognize{options}", picture)
        return self._connection.getresponse()


def rates(server: Server, rounds: int, threads: int) -> dict[str, dict[str, float]]:
    portrait = data.astronaut()
    pictures = {
        "512×512": jpeg(portrait),
        "640×480": jpeg(cv2.copyMakeBorder(cv2.resize(portrait, (480, 480)), 0, 0, 80, 80, cv2.BORDER_REPLICATE)),
    }
    recognizer = Recognizer(threads=threads)
    clients = [Client(server) for _ in range(4)]
    cases: dict[str, Callable[[bytes], None]] = {
        "direct calls": lambda picture: [recognizer(decode_rgb(picture)) for _ in range(PICTURES)],
        "REST, one client": lambda picture: [clients[0].recognise(picture) for _ in range(PICTURES)],
        "REST, two clients": lambda picture: send_from_all(clients[:2], picture),
        "REST, four clients": lambda picture: send_from_all(clients, picture),
    }
    found: dict[str, dict[str, float]] = {}
    for size, picture in pictures.items():
        check_equal(recognizer, clients[0], picture)
        times: dict[str, list[float]] = {name: [] for name in cases}
        cpu = dict.fromkeys(cases, 0.0)
        for number in range(rounds + 1):
            for name, case in cases.items():
                started, used = time.perf_counter(), time.process_time() + server.cpu_s()
                case(picture)
                if number:  # the first round warms up
                    times[name].append(time.perf_counter() - started)
                    cpu[name] += time.process_time() + server.cpu_s() - used
        direct = sum(times["direct calls"])
        for name, each in times.items():
            paired = np.array(times["direct calls"]) / np.array(each)
            low, high = np.percentile(paired, [10, 90])
            found[f"{size}, {name}"] = {
                "pictures/s": PICTURES * rounds / sum(each),
                "relative": direct / sum(each),
                "CPU ms": 1000 * cpu[name] / (PICTURES * rounds),
                "p10": float(low),
                "p90": float(high),
            }
    print(
        f"\n## Images per second, one face, detector {recognizer.detector.name}\n\n"
        f"{rounds} rounds; in each, {PICTURES} images per case, in alternation.\n\n"
        "| image size, case | images/s | relative to direct calls | over the rounds, p10 to p90 "
        "| CPU time per image (server and client), ms |\n"
        "|---|---:|---:|---|---:|"
    )
    for name, row in found.items():
        spread = f"{row['p10']:.2f} to {row['p90']:.2f}"
        print(f"| {name} | {row['pictures/s']:.1f} | {row['relative']:.2f} | {spread} | {row['CPU ms']:.1f} |")
    print()
    for size in pictures:
        ratio = found[f"{size}, REST, one client"]["relative"]
        verdict = "met" if ratio >= TARGET else "MISSED"
        print(f"- {size}: target with one client ≥ {TARGET:g}, measured {ratio:.2f}: {verdict}")
    return found


def memory(server: Server, requests: int) -> list[tuple[int, float]]:
    """Resident memory of the server over image requests: plain, with heat maps, and with damaged images."""
    picture = jpeg(data.astronaut())
    client = Client(server)
    seen = [(0, server.resident_mb())]
    for number in range(1, requests + 1):
        client.recognise(picture, "?heat_maps=1" if number % 50 == 0 else "")
        if number % 10 == 0:
            send_damaged(server, picture[: number % 7000])
        if number % max(1, requests // 10) == 0:
            seen.append((number, server.resident_mb()))
    print("\n## Memory of the server\n\n| requests | resident memory, MB |\n|---:|---:|")
    for number, resident in seen:
        print(f"| {number} | {resident:.1f} |")
    half = seen[len(seen) // 2][1]
    print(f"\nSecond half of the requests: {seen[-1][1] - half:+.1f} MB.")
    return seen


def send_damaged(server: Server, data: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/v1/recognize", data)
    assert connection.getresponse().status in (400, 422)
    connection.close()


def send_from_all(clients: list[Client], picture: bytes) -> None:
    """Send `PICTURES` requests from several clients at once."""
    waiting: queue.SimpleQueue[None] = queue.SimpleQueue()
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(PICTURES):
        waiting.put(None)

    def work(client: Client) -> None:
        while True:
            try:
                waiting.get_nowait()
            except queue.Empty:
                return
            client.recognise(picture)
            done.put(None)

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done.qsize() == PICTURES


def check_equal(recognizer: Recognizer, client: Client, picture: bytes) -> None:
    """Check that the server and a direct call return the same result."""
    faces = client.recognise(picture)["faces"]
    direct = recognizer(decode_rgb(picture))
    assert len(faces) == len(direct) == 1
    for name, value in direct[0].probabilities.items():
        assert abs(faces[0]["probabilities"][name] - value) < 1e-5


def jpeg(image_rgb: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def machine(threads: int) -> list[str]:
    cpu = Path("/proc/cpuinfo")
    text = cpu.read_text() if cpu.exists() else ""
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return [
        f"{next(names, platform.machine())}, {os.cpu_count()} cores, {threads} threads",
        f"Python {platform.python_version()}, onnxruntime {metadata.version('onnxruntime')}, OpenCV {cv2.__version__}",
    ]


if __name__ == "__main__":
    main()
