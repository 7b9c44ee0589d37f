"""Small real things under the names that the pages use: what a reader has before the first command.

A thing is made when a command names it and nothing on the page has made it before.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from builders import a_config
from PIL import Image as Pillow

from sightline import labels
from sightline.coco import to_json
from sightline.dataset import drawn
from sightline.records import Category, Dataset

NAMES = ("bee", "wasp")
COUNT = 16
"""Pictures of every set."""

BUCKET = "bucket"


@dataclass
class Store:
    """What is made once and copied from then on. folder: where it is kept."""

    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        """The file or folder that `make` writes."""
        if name not in self.made:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)
            self.made[name] = path
        return self.made[name]

    @property
    def dataset(self) -> Dataset:
        """The labels of `pictures`: its file names are below that folder."""
        return labels.read([self.pictures / "labels.json"], format="coco").dataset

    @property
    def pictures(self) -> Path:
        """A folder of drawn photographs, with their labels beside them in COCO's form."""

        def make(path: Path) -> None:
            draw = path.with_name("drawn")
            dataset = drawn.write(draw, COUNT, 3)
            path.mkdir()
            for picture in sorted((draw / "images").iterdir()):
                with Pillow.open(picture) as opened:
                    opened.save(path / picture.name)
            named = Dataset(tuple(Category(n, name) for n, name in enumerate(NAMES, 1)), dataset.images)
            (path / "labels.json").write_text(json.dumps(to_json(named)), encoding="utf-8")

        return self.once("pictures", make)

    @property
    def run(self) -> Path:
        """A tiny detector, trained for some steps on these pictures."""

        def make(path: Path) -> None:
            from sightline.training.run import run_training

            config = a_config("SOLVER.MAX_ITER", "40", "SOLVER.CHECKPOINT_PERIOD", "40", "SOLVER.BASE_LR", "0.02")
            run_training(config, dataset=self.dataset, images=self.pictures, output=path, workers=0)

        return self.once("run", make)

    @property
    def bundle(self) -> Path:
        def make(path: Path) -> None:
            from sightline.bundle.pack import pack_run

            pack_run(self.run, path)

        return self.once("model.tar.gz", make)


def copied(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("labels.json"))
    else:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, to)


Make = Callable[[Store, Path], object]


def pictures(store: Store, to: Path) -> None:
    copied(store.pictures, to)


def new_pictures(store: Store, to: Path) -> None:
    """Other names than those of the labelled ones."""
    to.mkdir(parents=True)
    for picture in sorted(store.pictures.glob("*.jpg"))[:4]:
        shutil.copyfile(picture, to / f"new_{picture.name}")


def picture(store: Store, to: Path) -> None:
    copied(min(store.pictures.glob("*.jpg")), to)


def manifest(store: Store, to: Path) -> None:
    """What a Ground Truth job leaves about `pictures`."""
    to.parent.mkdir(parents=True, exist_ok=True)
    labels.write(store.dataset, to, format="ground-truth", prefix=f"s3://{BUCKET}/pictures")


def adjusted_manifest(store: Store, to: Path) -> None:
    """What an adjustment job leaves about `new-pictures`: the model's boxes and the corrected ones."""
    images = [replace(one, file_name=f"new_{one.file_name}") for one in store.dataset.images[:4]]
    dataset = replace(store.dataset, images=tuple(images))
    to.parent.mkdir(parents=True, exist_ok=True)
    labels.write(dataset, to, format="ground-truth", prefix=f"s3://{BUCKET}/new", attribute="adjusted")


def dataset(store: Store, to: Path) -> None:
    """A dataset folder, imported and split into train, val and test."""
    from sightline.dataset import folder
    from sightline.dataset.split import write_split

    def make(path: Path) -> None:
        where = {one.file_name: store.pictures / one.file_name for one in store.dataset.images}
        folder.create(store.dataset, path, pictures=where)
        write_split(path, {"train": 0.5, "val": 0.25, "test": 0.25})

    copied(store.once("dataset", make), to)


def dataset_of_folders(store: Store, to: Path) -> None:
    """The same pictures in four folders."""
    from sightline.dataset import folder

    images = [replace(one, file_name=f"shelf{n % 4}/{one.file_name}") for n, one in enumerate(store.dataset.images)]
    where = {one.file_name: store.pictures / Path(one.file_name).name for one in images}
    folder.create(replace(store.dataset, images=tuple(images)), to, pictures=where)


def run(store: Store, to: Path) -> None:
    copied(store.run, to)


def bundle(store: Store, to: Path) -> None:
    copied(store.bundle, to)


def detectron2_folder(store: Store, to: Path) -> None:
    """What Detectron2's trainer leaves: weights and configuration, and no class names."""
    for name in ("config.yaml", "model_final.pth"):
        copied(store.run / name, to / name)


def of_run(name: str) -> Make:
    """One file of a run."""
    return lambda store, to: copied(store.run / name, to)


def via(store: Store, to: Path) -> None:
    """`balloon/` as it is published: `train` and `val` with their pictures, polygons without a class."""
    images = store.dataset.images
    for part, records in (("train", images[::2]), ("val", images[1::2])):
        (to / part).mkdir(parents=True)
        regions: dict[str, Any] = {}
        for record in records:
            shutil.copyfile(store.pictures / record.file_name, to / part / record.file_name)
            outlines = []
            for x1, y1, x2, y2 in (instance.box for instance in record.instances):
                shape = {"name": "polygon", "all_points_x": [x1, x2, x2, x1], "all_points_y": [y1, y1, y2, y2]}
                outlines.append({"shape_attributes": shape, "region_attributes": {}})
            regions[record.file_name] = {"filename": record.file_name, "size": 1, "regions": outlines, "file_attributes": {}}
        (to / part / "via_region_data.json").write_text(json.dumps(regions), encoding="utf-8")


def via_part(store: Store, to: Path) -> None:
    via(store, to.parents[1])


def voc(store: Store, to: Path) -> None:
    labels.write(store.dataset, to, format="voc", pictures=store.pictures)
    copied(store.pictures, to / "JPEGImages")


def open_images(store: Store, to: Path) -> None:
    """Pictures of classes `Bee` and `Person`, as Open Images has them."""
    to.mkdir(parents=True)
    rows = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"]
    for number, file in enumerate(sorted(store.pictures.glob("*.jpg"))[:3]):
        shutil.copyfile(file, to / f"{number:016x}.jpg")
        rows += [f"{number:016x},xclick,{name},1,0.1,0.4,0.2,0.7,0,0,0,0,0" for name in ("/m/01h3n", "/m/01g317")]
    (to / "validation-annotations-bbox.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (to / "class-descriptions-boxable.csv").write_text("/m/01h3n,Bee\n/m/01g317,Person\n", encoding="utf-8")


def truth(store: Store, to: Path) -> None:
    to.write_text(json.dumps(to_json(store.dataset)), encoding="utf-8")


def results(store: Store, to: Path) -> None:
    """COCO results that find every other object of `truth.json`."""
    annotations: Any = to_json(store.dataset)["annotations"]
    found = [{key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for one in annotations[::2]]
    to.write_text(json.dumps(found), encoding="utf-8")


def space(store: Store, to: Path) -> None:
    """That of docs/tuning.md: a space that people have read there."""
    from docs.console import blocks

    (text,) = [block.text for block in blocks("docs/tuning.md") if block.language == "yaml"]
    to.write_text(text, encoding="utf-8")


def space_without_steps(store: Store, to: Path) -> None:
    """The same as SageMaker takes it."""
    space(store, to)
    to.write_text(re.sub(r", step: \d+", "", to.read_text(encoding="utf-8")), encoding="utf-8")


def names_of_a_test_set(store: Store, to: Path) -> None:
    """As docs/splits.md has them in folders."""
    names = [f"shelf{n % 4}/{one.file_name}\n" for n, one in enumerate(store.dataset.images[:4])]
    to.write_text("".join(names), encoding="utf-8")


def film(store: Store, to: Path) -> None:
    """Twelve frames of two pictures."""
    import av

    with av.open(str(to), "w") as opened:
        stream = opened.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        for number in range(12):
            pixels = np.full((128, 160, 3), 20 * number, np.uint8)
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        opened.mux(stream.encode())


def zoo_weights(address: str, cache: Path) -> None:
    """Weights of the zoo in the cache, as if they had been downloaded: of the zoo's own form, with this world's sizes."""
    import pickle

    import torch

    from sightline.config.sources import load
    from sightline.downloads import ZOO
    from sightline.model.build import build_detector

    path = cache / (ZOO.removeprefix("https://") + address.removeprefix("detectron2://"))
    if path.exists():
        return
    family, name = address.removeprefix("detectron2://").split("/")[:2]
    with torch.random.fork_rng(devices=[]):
        detector = build_detector(load(f"{family}/{name}"))
    tensors = {name: tensor.numpy() for name, tensor in detector.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"model": tensors, "__author__": "Detectron2 Model Zoo"}))


def models(store: Store, to: Path) -> None:
    copied(store.bundle, to / "bees" / "model.tar.gz")


THINGS: dict[str, Make] = {
    **dict.fromkeys(("pictures", "photos", "images", "aerial"), pictures),
    **dict.fromkeys(("new", "new-pictures"), new_pictures),
    **dict.fromkeys(("picture.jpg", "a.jpg"), picture),
    **dict.fromkeys(("output.manifest", "relabelled.manifest"), manifest),
    "adjusted/output.manifest": adjusted_manifest,
    **dict.fromkeys(("data", "parts", "new-data", "work/dataset"), dataset),
    **dict.fromkeys(("runs/first", "runs/bees", "run", "MODEL", "A", "B"), run),
    **dict.fromkeys(("model.tar.gz", "demo/model.tar.gz"), bundle),
    **dict.fromkeys(("OUTPUT_DIR", "model"), detectron2_folder),
    "config.yaml": of_run("config.yaml"),
    "model_final.pth": of_run("model_final.pth"),
    "balloon": via,
    **dict.fromkeys(("balloon/train/via_region_data.json", "balloon/val/via_region_data.json"), via_part),
    "openimages": open_images,
    "bccd": voc,
    "truth.json": truth,
    "results.json": results,
    "space.yaml": space,
    "test.txt": names_of_a_test_set,
    "film.mp4": film,
    "models": models,
}
"""What each name is that a page uses without having made it."""

OF_PAGES: dict[tuple[str, str], Make] = {
    ("docs/cloud.md", "space.yaml"): space_without_steps,
    ("docs/splits.md", "data"): dataset_of_folders,
}
"""What a name is on one page alone."""
