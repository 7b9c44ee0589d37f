"""Prices that came along or were fetched: where from, which counts, and what is said where there is none."""

import json
from pathlib import Path

import pytest

from sightline.benchmarking.prices import (
    FOLDER,
    SHIPPED,
    Instance,
    Region,
    Serverless,
    instance_price,
    load_regions,
    read_file,
    region_named,
    serverless_price,
    write_region,
)
from sightline.errors import ConfigError

FETCHED = Region(
    "us-east-1",
    {"ml.g5.xlarge": Instance(1.5, 4, 16, "1 x A10G", "AWS", "2026-11-01")},
    Serverless(0.00003, None, "AWS", "2026-11-01"),
)


def test_every_shipped_price_has_a_source_and_a_date() -> None:
    for region in read_file(SHIPPED).values():
        for name, one in region.instances.items():
            assert name.startswith("ml.")
            assert one.source.startswith("AWS")
            assert one.as_of[:2] == "20"


def test_an_instance() -> None:
    price = instance_price("ml.g4dn.xlarge", load_regions(None)["us-east-1"])
    assert (price.instance_type, price.usd_per_hour, price.region) == ("ml.g4dn.xlarge", 0.7364, "us-east-1")
    assert instance_price("g4dn.xlarge", load_regions(None)["us-east-1"]) == price


def test_serverless_by_its_memory() -> None:
    price = serverless_price(3072, load_regions(None)["us-east-1"])
    assert price.usd_per_second == pytest.approx(0.00006)
    assert price.memory_mb == 3072


def test_what_was_fetched_takes_the_place_of_what_came_along(tmp_path: Path) -> None:
    path = write_region(FETCHED, tmp_path)
    assert path == tmp_path / FOLDER / "us-east-1.json"
    regions = load_regions(tmp_path)
    assert regions["us-east-1"] == FETCHED
    assert "us-east-2" in regions


def test_an_instance_without_a_price(tmp_path: Path) -> None:
    region = load_regions(None)["us-east-1"]
    expected = r"'ml\.g5\.4xlarge' has no price in us-east-1\. Near it: ml\.g5\.xlarge, .*prices refresh --region us-east-1"
    with pytest.raises(ConfigError, match=expected):
        instance_price("ml.g5.4xlarge", region)
    with pytest.raises(ConfigError, match=r"'quantum' has no price .* Known: ml\.c5\.large, "):
        instance_price("quantum", region)


def test_a_region_without_prices() -> None:
    with pytest.raises(ConfigError, match=r"no prices for 'eu-west-1', only for us-east-1.*refresh --region eu-west-1"):
        region_named("eu-west-1", load_regions(None))


def test_serverless_that_sagemaker_does_not_offer_or_without_a_price() -> None:
    regions = load_regions(None)
    with pytest.raises(ConfigError, match=r"is 2000\. SageMaker offers 1024, 2048"):
        serverless_price(2000, regions["us-east-1"])
    with pytest.raises(ConfigError, match=r"has no price in us-east-2.*refresh --region us-east-2"):
        serverless_price(2048, regions["us-east-2"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="cut off"),
        pytest.param("[]", id="a list"),
        pytest.param('{"format": 2, "regions": {}, "sources": {}}', id="another version"),
        pytest.param('{"format": 1, "regions": {"us-east-1": {}}, "sources": {}}', id="an empty region"),
    ],
)
def test_a_damaged_file_is_told_with_the_way_out(text: str, tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "us-east-1.json").write_text(text)
    with pytest.raises(ConfigError, match=r"us-east-1\.json: is no file of prices .*Remove it, or run: sightline benchmark"):
        load_regions(tmp_path)


@pytest.mark.parametrize("price", [0, -1, "cheap", None])
def test_a_price_is_a_positive_number(price: object, tmp_path: Path) -> None:
    path = write_region(FETCHED, tmp_path)
    told = json.loads(path.read_text())
    told["regions"]["us-east-1"]["instances"]["ml.g5.xlarge"]["usd_per_hour"] = price
    path.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="is no file of prices"):
        load_regions(tmp_path)
