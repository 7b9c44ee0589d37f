"""How long a fresh process takes until it has answered its first picture: what a cold start costs."""

import json
import subprocess
import sys
import time
from pathlib import Path

from sightline.benchmarking.results import Start
from sightline.benchmarking.spread import spread
from sightline.errors import RunError
from sightline.runtimes.asked import Execution

LIMIT_S = 600.0
CHILD = """
import json, sys, time
began = time.perf_counter()
from sightline.bundle.load import load_model
model = load_model(sys.argv[1], device=sys.argv[3], **json.loads(sys.argv[4]))
loaded = time.perf_counter()
from pathlib import Path
from sightline import wire
from sightline.benchmarking import machine
from sightline.images import read_image
(found,) = model.predict([read_image(Path(sys.argv[2]))])
json.dumps(wire.to_json(found, model.class_names))
machine.synchronise()
print(json.dumps({"load_s": loaded - began}), flush=True)
"""


def measure(reference: str, picture: Path, device: str, execution: Execution, runs: int) -> Start:
    """Fresh processes of this Python, one after the other, from their start to their first answer on stdout.

    The model's file and the libraries are in the system's cache of files by then; on a machine just switched on they are not.

    Raises:
        RunError: one ended without an answer; with what it wrote.
    """
    answered, loaded = [], []
    for _ in range(runs):
        began = time.perf_counter()
        command = [sys.executable, "-c", CHILD, reference, str(picture), device, json.dumps(execution.options())]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            answered.append(time.perf_counter() - began)
            try:
                _, errors = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise RunError(
                    reference, f"did not end within {LIMIT_S:g} s in a fresh process", "Leave it out: --no-start."
                ) from error
        try:
            loaded.append(float(json.loads(line)["load_s"]))
        except (ValueError, KeyError, TypeError) as error:
            last = errors.strip().splitlines()[-1] if errors.strip() else f"exit code {process.returncode}"
            raise RunError(reference, f"gave no answer in a fresh process ({last})", "Leave it out: --no-start.") from error
    return Start(spread(answered), spread(loaded))
