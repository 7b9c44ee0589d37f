"""From the start of a server process to its first answers: python benchmarks/first_answer.py BUNDLE PICTURE [--runtime R]

Run it with the Python of the installation that is measured, such as one without torch. Prints, for each of several starts, the
seconds and the processor seconds of the server until it is ready and until the first picture is answered.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SERVE = "import sys; from sightline.cli.main import main; sys.exit(main())"


def processor_s(pid: int) -> float:
    """Of a process, by its own clock in /proc (Linux)."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / 100


def start(bundle: str, picture: bytes, runtime: str) -> dict[str, float]:
    began = time.perf_counter()
    command = [sys.executable, "-c", SERVE, "serve", bundle, "--port", "0", "--runtime", runtime]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    ready = next(found for line in server.stderr if (found := re.search(r"Ready\. .* (http://\S+)$", line)))
    measured = {"ready_s": time.perf_counter() - began, "ready_processor_s": processor_s(server.pid)}
    asked = urllib.request.Request(f"{ready[1]}/invocations", picture, {"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(asked) as response:
        json.load(response)
    measured |= {"answered_s": time.perf_counter() - began, "answered_processor_s": processor_s(server.pid)}
    server.send_signal(signal.SIGTERM)
    server.wait()
    return {name: round(value, 2) for name, value in measured.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    for _ in range(asked.times):
        print(json.dumps(start(asked.bundle, asked.picture.read_bytes(), asked.runtime)))


if __name__ == "__main__":
    main()
