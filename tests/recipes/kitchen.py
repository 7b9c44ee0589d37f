"""The world of a recipe: its own folder, real data to download (a part of them), the zoo's weights, and AWS on loopback.

Commands are copied word for word into a shell, as in tests/docs, whose tables (`shortened`, `world`) say what is different:
networks, pictures and schedules are small behind the options. What is downloaded comes from `shared` instead of its address.
"""

import hashlib
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docs.console import Command, commands
from docs.world import FINE, SHIM, Outcome, Page, World, wrong

NOT_RUN = {r"^torchrun ": "tests/training/test_processes.py starts several processes"}

CURL = shutil.which("curl") or "curl"

COCO_PICTURES, BEES, NEW, BALLOONS = 12, 20, 3, {"train": 8, "val": 3}
"""How many of the real ones."""

NAMED = "24631331976_defa3bb61f_k.jpg"
"""A photograph that the page of the balloons asks the server about."""


class Recipe(Page):
    """A page whose data are real: nothing is made up for its commands."""

    def equip(self, command: Command) -> None:
        pass


@dataclass
class Kitchen:
    """What the recipes' tests share. shared: folder of real data; larder: what was packed from it, once."""

    world: World
    shared: Path
    larder: Path
    recipes: dict[str, Recipe] = field(default_factory=dict)

    def outcome(self, command: Command) -> Outcome:
        """What `command` does after all that stand before it on its page."""
        if command.page not in self.recipes:
            folder = self.world.folder / command.page.replace("/", "_") / "here"
            folder.mkdir(parents=True, exist_ok=True)
            self.world.stop_serving()
            self.recipes[command.page] = Recipe(command.page, folder, self.world)
        page = self.recipes[command.page]
        for each in to_run(command.page):
            if each.line <= command.line and each.line not in page.outcomes:
                page.outcomes[each.line] = page.run(each)
        return page.outcomes[command.line]

    def folder(self, page: str) -> Path:
        return self.recipes[page].folder

    def curl(self, words: list[str], folder: Path) -> Outcome:
        """Downloads come from the larder; what goes to the server here goes to it."""
        address = words[-1]
        name = address.rpartition("/")[2]
        if name in PACKED:
            if not (self.larder / name).exists():
                PACKED[name](self.shared, self.larder / name)
            shutil.copyfile(self.larder / name, folder / name)
            return FINE
        if not re.match(r"http://127\.0\.0\.1:\d+/", address):
            return wrong(f"curl: no test knows what {address} holds")
        done = subprocess.run([CURL, "-sS", *words], cwd=folder, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)


def to_run(page: str) -> list[Command]:
    return [one for one in commands(page) if not any(re.search(pattern, one.text) for pattern in NOT_RUN)]


def balloon(shared: Path, to: Path) -> None:
    """Some of the photographs, with their entries of the label files."""
    with zipfile.ZipFile(to, "w") as archive:
        for part, count in BALLOONS.items():
            source = shared / "data" / "balloon" / part
            entries = json.loads((source / "via_region_data.json").read_text(encoding="utf-8"))
            kept = dict(sorted(entries.items(), key=lambda item: (item[1]["filename"] != NAMED, item[0]))[:count])
            archive.writestr(f"balloon/{part}/via_region_data.json", json.dumps(kept))
            for entry in kept.values():
                archive.write(source / entry["filename"], f"balloon/{part}/{entry['filename']}")


def coco_labels(shared: Path, part: str) -> dict[str, Any]:
    """Instances of the first pictures for `train`, of the following for `val`."""
    path = shared / "data" / "coco_tiny" / "annotations" / "instances_train2017.json"
    whole: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    images = sorted(whole["images"], key=lambda image: image["id"])
    kept = images[:COCO_PICTURES] if part == "train" else images[COCO_PICTURES : COCO_PICTURES + 6]
    ids = {image["id"] for image in kept}
    return whole | {"images": kept, "annotations": [one for one in whole["annotations"] if one["image_id"] in ids]}


def coco_pictures(part: str) -> Callable[[Path, Path], None]:
    def pack(shared: Path, to: Path) -> None:
        with zipfile.ZipFile(to, "w") as archive:
            for image in coco_labels(shared, part)["images"]:
                name = image["file_name"]
                archive.write(shared / "data" / "coco_tiny" / "train2017" / name, f"{part}2017/{name}")

    return pack


def coco_annotations(shared: Path, to: Path) -> None:
    with zipfile.ZipFile(to, "w") as archive:
        for part in ("train", "val"):
            archive.writestr(f"annotations/instances_{part}2017.json", json.dumps(coco_labels(shared, part)))


PACKED: dict[str, Callable[[Path, Path], None]] = {
    "balloon_dataset.zip": balloon,
    "train2017.zip": coco_pictures("train"),
    "val2017.zip": coco_pictures("val"),
    "annotations_trainval2017.zip": coco_annotations,
}
"""What the recipes download, and how it is made of the real data here."""


def bees(shared: Path, folder: Path) -> None:
    """A reader's own labelling job: `output.manifest`, `pictures/`, and some that nobody has labelled in `new/`."""
    lines = (shared / "data" / "bees" / "output.manifest").read_text(encoding="utf-8").splitlines()
    pictures = {path.name: path for path in (shared / "data" / "bees").rglob("*.jpg")}
    known = [line for line in lines if json.loads(line)["source-ref"].rpartition("/")[2] in pictures]
    for name, part in (("pictures", known[:BEES]), ("new", known[BEES : BEES + NEW])):
        (folder / name).mkdir(parents=True)
        for line in part:
            file = json.loads(line)["source-ref"].rpartition("/")[2]
            shutil.copyfile(pictures[file], folder / name / file)
    (folder / "output.manifest").write_text("".join(f"{line}\n" for line in known[:BEES]), encoding="utf-8")


def zoo_weights(name: str, address: str, cache: Path) -> None:
    """In the cache, as if they had been downloaded: random ones of the network that `name` becomes here."""
    import torch
    from docs.shortened import DOWNLOADED, SMALLER

    from sightline.config.sources import load
    from sightline.model.build import build_detector

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        detector = build_detector(load(name, [*SMALLER, *DOWNLOADED]))
    arrays = {}
    for key, tensor in detector.state_dict().items():  # constant norms neither scale pixels nor hold random blocks in bounds
        factor = 0.02 if key.endswith("stem.conv1.norm.weight") else 0.1 if key.endswith("conv3.norm.weight") else 1
        arrays[key] = tensor.numpy() * factor
    path = cache / "dl.fbaipublicfiles.com" / "detectron2" / address.removeprefix("detectron2://")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test"}))


def add(world: World, name: str) -> None:
    """`name` in place of the machine's own program; the desk answers it."""
    path = world.folder / "bin" / name
    path.unlink(missing_ok=True)
    path.write_text(SHIM.format(python=sys.executable, address=str(world.desk.address), name=name), encoding="utf-8")
    path.chmod(0o755)


def train_there(account: Any, folder: Path) -> None:
    """Let a training job of moto's leave what ours leaves: one step on the data that it was given."""
    client, s3 = account.client("sagemaker"), account.client("s3")

    def trained(parsed: dict[str, Any], **_: object) -> None:
        job = client.describe_training_job(TrainingJobName=parsed["TrainingJobArn"].rpartition("/")[2])
        (channel,) = [c for c in job["InputDataConfig"] if c["ChannelName"] in ("training", "train", "data")]
        bucket, _, prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].removeprefix("s3://").partition("/")
        place = folder / hashlib.sha256(json.dumps(job["TrainingJobName"]).encode()).hexdigest()[:12]
        for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            path = place / "data" / entry["Key"].removeprefix(prefix).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
        run = one_step(place / "data", place / "run", masks="mask" in job["HyperParameters"].get("config", ""))
        to, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
        s3.put_object(Bucket=to, Key=key, Body=bundle_of(run, place / "model.tar.gz").read_bytes())
        s3.put_object(Bucket=to, Key=key.replace("model.tar", "output.tar"), Body=without_weights(run))

    client.meta.events.register("after-call.sagemaker.CreateTrainingJob", trained)


def one_step(data: Path, run: Path, *, part: str = "train", masks: bool = False) -> Path:
    """A run of a tiny detector on `part`."""
    from builders import MASKS, a_config

    from sightline.dataset.folder import open_part
    from sightline.training.run import run_training

    opened = open_part(data, part)
    classes = ("MODEL.ROI_HEADS.NUM_CLASSES", str(len(opened.dataset.categories)))
    config = a_config("SOLVER.MAX_ITER", "1", *classes, *(MASKS if masks else ()))
    run_training(config, dataset=opened.dataset, images=opened.images_dir, output=run, workers=0)
    return run


def bundle_of(run: Path, to: Path) -> Path:
    from sightline.bundle.pack import pack_run

    pack_run(run, to)
    return to


def without_weights(run: Path) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for path in sorted(run.rglob("*")):
            if path.is_file() and path.suffix != ".pth":
                archive.add(path, path.relative_to(run).as_posix())
    return written.getvalue()


def bee_model(folder: Path) -> Path:
    """What the endpoint's container runs: a bundle for bees."""
    from sightline import labels
    from sightline.dataset.folder import create

    home = folder / "docs_recipes_custom.md" / "here"
    read = labels.read([home / "output.manifest"], format="ground-truth").dataset
    where = {image.file_name: home / "pictures" / Path(image.file_name).name for image in read.images}
    create(read, folder / "bees", pictures=where)
    return bundle_of(one_step(folder / "bees", folder / "bees-run", part="all"), folder / "bees.tar.gz")


def check(kitchen: Kitchen, command: Command) -> None:
    """It ends as the page says; where the page shows an error, with that text."""
    done = kitchen.outcome(command)
    errors = [line for line in command.shown if line.startswith("error:")]
    assert bool(done.code) == bool(errors), f"{command}\nexit code {done.code}\n{done.written[-4000:]}"
    for line in errors:
        assert line.split("...")[0].strip() in done.written, f"{command} does not say\n{line}\nbut\n{done.written[-4000:]}"
    assert "Traceback" not in done.written
