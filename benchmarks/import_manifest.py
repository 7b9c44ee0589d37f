"""How long `sightline dataset import --labels-only` takes for a manifest of a million lines, and how much memory.

    python benchmarks/import_manifest.py [--lines 1000000] [--classes 20]

Writes the manifest into a temporary folder, runs the command in a process of its own, and prints one JSON object. Its
`json_seconds` is what parsing the lines alone takes: on a busy machine compare the ratio.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path


def write_manifest(path: Path, lines: int, classes: int, seed: int = 0) -> int:
    """A manifest as several workers' jobs leave them: fractional boxes, none to six a picture. Returns its boxes."""
    chance = random.Random(seed)
    boxes = 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            annotations = [box(chance, classes) for _ in range(chance.randint(0, 6))]
            boxes += len(annotations)
            used = sorted({annotation["class_id"] for annotation in annotations})
            line = {
                "source-ref": f"s3://bucket/frames/camera-{number % 50}/{number:08d}.jpg",
                "parts": {"image_size": [{"width": 1920, "height": 1080, "depth": 3}], "annotations": annotations},
                "parts-metadata": {
                    "objects": [{"confidence": 0.8} for _ in annotations],
                    "class-map": {str(label): f"class {label}" for label in used},
                    "type": "groundtruth/object-detection",
                    "human-annotated": "yes",
                    "creation-date": "2024-05-16T00:15:58.914553",
                    "job-name": "labeling-job/parts",
                },
            }
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
    return boxes


def box(chance: random.Random, classes: int) -> dict[str, float]:
    left, top = chance.uniform(0, 1700), chance.uniform(0, 900)
    width, height = chance.uniform(5, 200), chance.uniform(5, 170)
    return {"class_id": chance.randrange(classes), "top": top, "left": left, "height": height, "width": width}


def parse_alone(path: Path) -> float:
    """User seconds that the standard library needs for the JSON of all lines."""
    start = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    with path.open("rb") as file:
        for line in file:
            json.loads(line)
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder, "output.manifest")
        boxes = write_manifest(manifest, arguments.lines, arguments.classes)
        command = [sys.executable, "-c", "from sightline.cli.main import main; main()", "dataset", "import", str(manifest)]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--labels-only", "--json", "-o", str(Path(folder, "dataset"))], check=True, stdout=subprocess.PIPE
        )
        seconds = time.perf_counter() - start
        report = json.loads(done.stdout)["dataset"]
        if (report["images"], report["boxes"]) != (arguments.lines, boxes):
            sys.exit(f"the import lost something: {report}")
        mib = manifest.stat().st_size / 2**20
        json_seconds = parse_alone(manifest)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "lines": arguments.lines,
                "boxes": boxes,
                "manifest_mib": round(mib, 1),
                "seconds": round(seconds, 2),
                "user_seconds": round(used.ru_utime, 2),
                "system_seconds": round(used.ru_stime, 2),
                "json_seconds": round(json_seconds, 2),
                "peak_rss_mib": round(used.ru_maxrss / 1024),
                "bytes_a_line": round(used.ru_maxrss * 1024 / arguments.lines),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "date": time.strftime("%Y-%m-%d"),
                "python": platform.python_version(),
                "numpy": version("numpy"),
                "msgspec": version("msgspec"),
                "sightline": version("sightline"),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
