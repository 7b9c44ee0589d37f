"""The recipe for aerial pictures, on sheets of real photographs (bees): large for the detector that learns from them here."""

import json
from pathlib import Path

import pytest
from docs.console import Command
from PIL import Image as Pillow
from recipes.kitchen import Kitchen, check, to_run

PAGE = "docs/recipes/aerial.md"
SHEETS, NEW, SIDE = 6, 1, 2
TILE = (500, 375)
"""Pixels of each photograph on a sheet of SIDE x SIDE, width x height."""


@pytest.fixture
def site(kitchen: Kitchen) -> Kitchen:
    """What the reader has before the first command: labels.json, pictures/, new/."""
    here = kitchen.world.folder / PAGE.replace("/", "_") / "here"
    if not (here / "labels.json").exists():
        (here / "pictures").mkdir(parents=True)
        (here / "new").mkdir()
        lay_out(kitchen.shared / "data" / "bees", here)
    return kitchen


def lay_out(bees: Path, here: Path) -> None:
    """Sheets of photographs of one size, and their boxes as COCO has them; the last ones without labels, in new/."""
    lines = [json.loads(line) for line in (bees / "output.manifest").read_text(encoding="utf-8").splitlines()]
    files = {path.name: path for path in bees.rglob("*.jpg")}
    fitting = []
    for line in lines:
        (label,) = (value for value in line.values() if isinstance(value, dict) and "annotations" in value)
        size, name = label["image_size"][0], line["source-ref"].rpartition("/")[2]
        if (size["width"], size["height"]) == TILE and name in files and label["annotations"]:
            fitting.append((files[name], label["annotations"]))
    images, annotations = [], []
    for sheet in range(SHEETS + NEW):
        picture = Pillow.new("RGB", (SIDE * TILE[0], SIDE * TILE[1]))
        for place in range(SIDE**2):
            path, boxes = fitting[sheet * SIDE**2 + place]
            left, top = TILE[0] * (place % SIDE), TILE[1] * (place // SIDE)
            with Pillow.open(path) as photograph:
                picture.paste(photograph.convert("RGB"), (left, top))
            if sheet < SHEETS:
                annotations += [
                    {
                        "id": len(annotations) + number,
                        "image_id": sheet + 1,
                        "category_id": 1,
                        "bbox": [left + box["left"], top + box["top"], box["width"], box["height"]],
                        "area": box["width"] * box["height"],
                        "iscrowd": 0,
                    }
                    for number, box in enumerate(boxes, 1)
                ]
        name = f"sheet_{sheet}.jpg" if sheet < SHEETS else "field.jpg"
        picture.save(here / ("pictures" if sheet < SHEETS else "new") / name, quality=90)
        if sheet < SHEETS:
            images.append({"id": sheet + 1, "file_name": name, "width": picture.width, "height": picture.height})
    labels = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "bee"}]}
    (here / "labels.json").write_text(json.dumps(labels), encoding="utf-8")


def outcome(site: Kitchen, command: Command) -> None:
    if command.language == "python":
        site.outcome([one for one in to_run(PAGE) if one.language != "python" and one.line < command.line][-1])
        page = site.recipes[PAGE]
        page.outcomes.setdefault(command.line, page.run_python(command))
        return
    check(site, command)


@pytest.mark.parametrize("command", to_run(PAGE), ids=lambda one: one.place)
def test_it_does_what_the_recipe_says(site: Kitchen, command: Command) -> None:
    outcome(site, command)


def test_what_it_leaves(site: Kitchen) -> None:
    """Tiles of 640 px to learn from, numbers that tell of slices, and the same answers from the bundle and the server."""
    for command in to_run(PAGE):
        outcome(site, command)
    here = site.folder(PAGE)
    tiles = json.loads((here / "tiles/annotations/all.json").read_text())["images"]
    assert {(tile["width"], tile["height"]) for tile in tiles} == {(640, 640)}
    analysis = json.loads((here / "sliced/analysis.json").read_text())["bbox"]["analysis"]
    assert any("predicted in slices of 640 x 640 px" in note for note in analysis["notes"])
    assert not any(
        "slices" in note for note in json.loads((here / "plain/analysis.json").read_text())["bbox"]["analysis"]["notes"]
    )
    (line,) = (here / "found.jsonl").read_text().splitlines()
    assert json.loads(line)["image_size"] == [750, 1000]
    assert not (here / "more").exists()
