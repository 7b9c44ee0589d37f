"""How long COCO, VOC and YOLO labels take to be converted, beside datumaro, and what each keeps.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install datumaro
    python benchmarks/converters.py --peer /tmp/peer/bin/python [--pictures 5000] [--rounds 3]

Datumaro lives in an environment of its own. Both get the same files, and each conversion is a process of its own on one core;
the seconds are those of reading and writing labels, without imports and without copying pictures. Of what came out
the boxes and crowd flags are counted, and how far a corner has moved at most (VOC: corners counted from 1).
"""

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from defusedxml.ElementTree import fromstring
from PIL import Image

from sightline import labels
from sightline.dataset.folder import place

BOXES_A_PICTURE, CLASSES, WIDTH, HEIGHT = 10, 20, 640, 480
ROUTES = (("coco", "voc"), ("coco", "yolo"), ("voc", "coco"), ("yolo", "coco"))

SIGHTLINE = """
import sys, time
from sightline import labels
labels.written()
start = time.process_time()
imported = labels.read(sys.argv[2], format=sys.argv[1])
lost = labels.write(imported.dataset, __import__("pathlib").Path(sys.argv[4]), format=sys.argv[3])
print(time.process_time() - start, "; ".join(lost), sep="|")
"""
DATUMARO = """
import sys, time
from datumaro import Dataset
start = time.process_time()
dataset = Dataset.import_from(sys.argv[2], sys.argv[1])
dataset.export(sys.argv[4], sys.argv[3], save_media=False)
print(time.process_time() - start, "", sep="|")
"""
THEIR_NAMES = {"coco": "coco_instances", "voc": "voc_detection", "yolo": "yolo"}


def make_coco(folder: Path, pictures: int, seed: int = 0) -> Path:
    """A set in COCO's layout: fractional boxes, every fiftieth a crowd; the pictures are links to one file."""
    chance = random.Random(seed)
    images, annotations = [], []
    one = folder / "one.jpg"
    folder.mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(one)
    for number in range(1, pictures + 1):
        images.append({"id": number, "file_name": f"{number:06d}.jpg", "width": WIDTH, "height": HEIGHT})
        place(one, folder / "images" / "train" / f"{number:06d}.jpg")
        for _ in range(BOXES_A_PICTURE):
            x, y, w, h = chance.uniform(0, 400), chance.uniform(0, 300), chance.uniform(5, 200), chance.uniform(5, 150)
            key, kind = len(annotations) + 1, chance.randint(1, CLASSES)
            crowd = int(key % 50 == 0)
            outline = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]} if crowd else []
            annotations.append(
                {"id": key, "image_id": number, "category_id": kind, "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd}
                | {"segmentation": outline}
            )
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    path = folder / "annotations" / "instances_train.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def convert(python: str, script: str, *arguments: str) -> tuple[float, str]:
    """(process seconds, what the converter says it lost, or why it failed)."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return float("nan"), "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
    seconds, _, said = done.stdout.strip().splitlines()[-1].partition("|")
    return float(seconds), said


Boxes = dict[str, list[tuple[float, ...]]]
"""{picture's name without its suffix: its boxes, x1 y1 x2 y2}."""


def kept(path: Path, format: str, truth: Boxes) -> str:
    """What a converted set still holds, read as plainly as can be, beside the COCO file that it came from."""
    found, crowds = READERS[format](path)
    boxes = sum(map(len, found.values()))
    pairs = [
        (a, b)
        for name, own in found.items()
        if len(own) == len(truth.get(name, ()))
        for one, other in zip(sorted(own), truth[name], strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    moved = f"moved {max(abs(a - b) for a, b in pairs):.2g} px" if pairs else "not compared"
    return f"{len(found):,} pictures, {boxes:,} boxes, {crowds:,} crowd, {moved}"


def in_coco(folder: Path) -> tuple[Boxes, int]:
    content = json.loads(next(folder.rglob("*.json")).read_bytes())
    names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    found: Boxes = {name: [] for name in names.values()}
    for one in content["annotations"]:
        x, y, w, h = one["bbox"]
        found[names[one["image_id"]]].append((x, y, x + w, y + h))
    ids = len({one["id"] for one in content["annotations"]})
    if ids < len(content["annotations"]):
        print(f"  {folder.name}: {len(content['annotations']) - ids:,} annotations have the id of another one")
    return found, sum(one.get("iscrowd", 0) for one in content["annotations"])


def in_voc(folder: Path) -> tuple[Boxes, int]:
    """Corners counted from 1, as in Pascal VOC itself."""
    found: Boxes = {}
    crowds = 0
    for path in folder.rglob("*.xml"):
        root = fromstring(path.read_bytes())
        corner = ("xmin", "ymin", "xmax", "ymax")
        found[path.stem] = [
            tuple(float(box.findtext(key) or "nan") - (key.endswith("min")) for key in corner) for box in root.iter("bndbox")
        ]
        crowds += sum(one.findtext("difficult") == "1" for one in root.iter("object"))
    return found, crowds


def in_yolo(folder: Path) -> tuple[Boxes, int]:
    found: Boxes = {}
    for path in folder.rglob("[0-9]*.txt"):
        rows = [list(map(float, line.split()[1:5])) for line in path.read_text().splitlines()]
        found[path.stem] = [
            ((x - w / 2) * WIDTH, (y - h / 2) * HEIGHT, (x + w / 2) * WIDTH, (y + h / 2) * HEIGHT) for x, y, w, h in rows
        ]
    return found, 0


READERS = {"coco": in_coco, "voc": in_voc, "yolo": in_yolo}


def sources(folder: Path, coco: Path) -> dict[str, Path]:
    """The same set in all three formats, with pictures: what both convert from."""
    dataset = labels.read(coco, format="coco").dataset
    made = {"coco": coco}
    for format in ("voc", "yolo"):
        made[format] = folder / format
        labels.write(dataset, made[format], format=format)
        below = labels.PICTURE_FOLDERS.get(format, "images")
        folders = sorted(path for path in (made[format] / "images").glob("*") if path.is_dir()) if format == "yolo" else []
        pictures = folders[0] if folders else made[format] / below
        for image in dataset.images:
            place(folder / "coco" / "one.jpg", pictures / image.file_name)
    listed = made["voc"] / "ImageSets" / "Main" / "train.txt"
    listed.parent.mkdir(parents=True, exist_ok=True)
    colours = "".join(f"{name}:{number},0,0::\n" for number, name in enumerate(dataset.class_names, 1))
    (made["voc"] / "labelmap.txt").write_text(colours)  # datumaro wants other classes than VOC's own twenty declared
    listed.write_text("".join(f"{Path(image.file_name).stem}\n" for image in dataset.images))
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", help="the Python of an environment with datumaro")
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    asked = [arguments.peer or sys.executable, "-c", "import importlib.metadata as m; print(m.version('datumaro'))"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    if told.returncode:
        sys.exit("skipped: datumaro is not installed. Install it in an environment of its own and name its Python with --peer.")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        coco = make_coco(folder / "coco", arguments.pictures)
        truth = {name: sorted(boxes) for name, boxes in in_coco(coco.parent)[0].items()}
        made = sources(folder, coco)
        print(f"sightline {version('sightline')}, datumaro {told.stdout.strip()}, {arguments.pictures:,} pictures")
        for source, target in ROUTES:
            compare(arguments.peer or sys.executable, made, source, target, folder, truth, arguments.rounds)


def compare(peer: str, made: dict[str, Path], source: str, target: str, folder: Path, truth: Boxes, rounds: int) -> None:
    times: dict[str, list[float]] = {"sightline": [], "datumaro": []}
    said, results = {}, {}
    theirs = made[source].parent.parent if source == "coco" else made[source]
    for _ in range(rounds):
        for name, seconds_of in times.items():
            out = folder / "out" / name
            shutil.rmtree(out, ignore_errors=True)
            out.parent.mkdir(exist_ok=True)
            if name == "sightline":
                to = out / "all.json" if target == "coco" else out
                seconds, said[name] = convert(sys.executable, SIGHTLINE, source, str(made[source]), target, str(to))
            else:
                called = THEIR_NAMES[source], str(theirs), THEIR_NAMES[target], str(out)
                seconds, said[name] = convert(peer, DATUMARO, *called)
            seconds_of.append(seconds)
            results[name] = out
    ours, other = (statistics.median(times[name]) for name in times)
    print(f"{source} -> {target}: {ours:.2f} s, {other:.2f} s, ratio {other / ours:.1f}")
    for name, out in results.items():
        holds = "nothing" if math.isnan(times[name][-1]) else kept(out, target, truth)
        print(f"  {name}: {holds}" + (f"; it says: {said[name]}" if said[name] else ""))


if __name__ == "__main__":
    main()
