"""The recipe for a set of one's own, on 20 photographs of a real labelling job."""

import json

import pytest
from docs.console import Command
from recipes.kitchen import Kitchen, check, to_run

PAGE = "docs/recipes/custom.md"


@pytest.mark.parametrize("command", to_run(PAGE), ids=lambda one: one.place)
def test_it_does_what_the_recipe_says(kitchen: Kitchen, command: Command) -> None:
    check(kitchen, command)


def test_nothing_costs_anything_in_the_end(kitchen: Kitchen) -> None:
    """Deployed, asked, and away: no endpoint and no model stays."""
    kitchen.outcome(to_run(PAGE)[-1])
    client = kitchen.world.account.client("sagemaker")
    assert client.list_endpoints()["Endpoints"] == []
    assert client.list_models()["Models"] == []


def test_the_endpoint_answered_for_every_picture(kitchen: Kitchen) -> None:
    kitchen.outcome(to_run(PAGE)[-1])
    lines = [json.loads(line) for line in (kitchen.folder(PAGE) / "found.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert all("pred_boxes" in line and line["class_names"] is not None for line in lines)
