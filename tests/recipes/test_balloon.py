"""The balloon recipe, on 8 and 3 of its own photographs."""

import json

import pytest
from docs.console import Command
from recipes.kitchen import Kitchen, check, to_run

PAGE = "docs/recipes/balloon.md"


@pytest.mark.parametrize("command", to_run(PAGE), ids=lambda one: one.place)
def test_it_does_what_the_recipe_says(kitchen: Kitchen, command: Command) -> None:
    check(kitchen, command)


def test_what_it_leaves(kitchen: Kitchen) -> None:
    """Masks were learned on all pictures but those that are measured on, and the server answered with them."""
    last = to_run(PAGE)[-1]
    kitchen.outcome(last)
    here = kitchen.folder(PAGE)
    parts = {
        name: len(json.loads((here / "data" / "annotations" / f"{name}.json").read_text())["images"])
        for name in ("train", "test")
    }
    assert parts == {"train": 8, "test": 3}
    scores = json.loads((here / "run" / "inference" / "scores.json").read_text())
    assert scores.keys() >= {"bbox", "segm"}
    assert (here / "run" / "report" / "index.html").is_file()
    assert len((here / "found.jsonl").read_text().splitlines()) == 3
    assert not (here / "more").exists()
    asked = next(one for one in to_run(PAGE) if one.text.startswith("curl -X POST"))
    assert "pred_masks_rle" in json.loads(kitchen.outcome(asked).out)
