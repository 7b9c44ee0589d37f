"""The recipe for packed shelves, on pictures of many objects (blood cells) under SKU-110K's names and with its faults."""

import io
import json
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from docs.console import Command
from recipes.kitchen import PACKED, Kitchen, check, to_run

PAGE = "docs/recipes/shelves.md"
PICTURES = {"train": 8, "val": 2, "test": 3}


def shelves(shared: Path, to: Path) -> None:
    """The archive as it is published, of a part of the blood cells: a row a box, one picture cut off, one box without size."""
    bccd = shared / "data" / "bccd"
    stems = iter(sorted(path.stem for path in (bccd / "Annotations").glob("*.xml")))
    with tarfile.open(to, "w:gz") as archive:
        for part, count in PICTURES.items():
            rows = []
            for number, stem in zip(range(count), stems, strict=False):
                name = f"{part}_{number}.jpg"
                content = (bccd / "JPEGImages" / f"{stem}.jpg").read_bytes()
                add(archive, f"images/{name}", content[: len(content) // 2] if name == "test_2.jpg" else content)
                rows += [f"{name},{','.join(corners)},object,{','.join(size)}" for corners, size in boxes(bccd, stem)]
            if part == "train":
                rows.append("train_0.jpg,5,5,5,9,object,640,480")
            add(archive, f"annotations/annotations_{part}.csv", "".join(f"{row}\n" for row in rows).encode())


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"SKU110K_fixed/{name}")
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def boxes(bccd: Path, stem: str) -> list[tuple[list[str], list[str]]]:
    root = ElementTree.parse(bccd / "Annotations" / f"{stem}.xml").getroot()
    size = [root.findtext(f"size/{key}", "") for key in ("width", "height")]
    found = ([one.findtext(key, "") for key in ("xmin", "ymin", "xmax", "ymax")] for one in root.iter("bndbox"))
    return [(corners, size) for corners in found if corners[0] != corners[2] and corners[1] != corners[3]]


PACKED["SKU110K_fixed.tar.gz"] = shelves


@pytest.mark.parametrize("command", to_run(PAGE), ids=lambda one: one.place)
def test_it_does_what_the_recipe_says(kitchen: Kitchen, command: Command) -> None:
    check(kitchen, command)


def test_what_it_leaves(kitchen: Kitchen) -> None:
    """The broken picture is out, the test part is SKU-110K's own, and more than 100 detections count."""
    kitchen.outcome(to_run(PAGE)[-1])
    here = kitchen.folder(PAGE)
    names = {
        part: {image["file_name"] for image in json.loads((here / "data/annotations" / f"{part}.json").read_text())["images"]}
        for part in ("train", "val", "test")
    }
    assert names["test"] == {"test_0.jpg", "test_1.jpg"}
    assert len(names["train"] | names["val"]) == 10
    assert "AR300" in json.loads((here / "run/inference/scores.json").read_text())["bbox"]
    config = (here / "run/config.yaml").read_text()
    assert "DETECTIONS_PER_IMAGE: 400" in config
    assert len((here / "found.jsonl").read_text().splitlines()) == 12
