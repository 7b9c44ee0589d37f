"""The COCO recipe, on 18 of COCO's own pictures."""

import json
import re

import pytest
from docs.console import Command
from recipes.kitchen import Kitchen, check, to_run

PAGE = "docs/recipes/coco.md"


@pytest.mark.parametrize("command", to_run(PAGE), ids=lambda one: one.place)
def test_it_does_what_the_recipe_says(kitchen: Kitchen, command: Command) -> None:
    check(kitchen, command)


def test_several_machines_are_asked_for_and_nothing_is_made_before(kitchen: Kitchen) -> None:
    """The dry run shows eight machines; jobs were started for the two commands without it."""
    dry = next(one for one in to_run(PAGE) if "--dry-run" in one.text and "--instance-count 8" in one.text)
    shown = json.loads(kitchen.outcome(dry).out)
    (call,) = shown["requests"]
    assert call["request"]["ResourceConfig"] | {"VolumeSizeInGB": 100} == call["request"]["ResourceConfig"]
    assert call["request"]["ResourceConfig"]["InstanceCount"] == 8
    assert call["request"]["HyperParameters"]["config"] == "COCO-Detection/faster_rcnn_R_50_FPN_1x"


def test_the_zoo_is_compared_with_what_was_trained(kitchen: Kitchen) -> None:
    compared = next(one for one in to_run(PAGE) if "compared/" in one.text)
    assert kitchen.outcome(compared).code == 0
    assert "person" in (kitchen.folder(PAGE) / "compared" / "index.html").read_text(encoding="utf-8")


def test_the_table_is_the_zoos_and_its_sums_are_right() -> None:
    """AP and seconds as the zoo publishes them, hours and dollars as the page says that they are computed."""
    from docs.console import ROOT

    from sightline.benchmarking.prices import load_regions
    from sightline.config.zoo_models import MODELS

    price = load_regions(None)["us-east-1"].instances["ml.p3.2xlarge"].usd_per_hour
    rows = re.findall(r"^\| `(COCO-[^`]+)` \|(.*)\|$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 5
    for name, rest in rows:
        box, mask, steps, seconds, hours, dollars = (cell.strip().replace(",", "") for cell in rest.split("|"))
        model = MODELS[f"{name}.yaml"]
        assert (float(box), float(mask) if mask else None, float(seconds)) == (
            model.box_ap,
            model.mask_ap,
            model.train_s_per_iter,
        )
        assert int(steps) == {"1x": 90_000, "3x": 270_000}[model.schedule]
        exact = int(steps) * float(seconds) / 3600
        assert float(hours) == pytest.approx(exact, rel=0.005)
        assert float(dollars) == pytest.approx(exact * 8 * price, abs=1)
