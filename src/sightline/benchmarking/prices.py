"""What SageMaker charges: the prices that came along, with their sources and dates, and AWS's own where they were fetched.

A region that was fetched (`price_list.refresh`) takes the place of the one that came along, whole.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sightline.benchmarking.results import Price
from sightline.errors import ConfigError
from sightline.storage import write_json

SHIPPED = Path(__file__).with_name("prices.json")
FOLDER = "prices"
FORMAT = 1
REFRESH = "sightline benchmark prices refresh --region"
DEFAULT_REGION = "us-east-1"
SERVERLESS_MB = (1024, 2048, 3072, 4096, 5120, 6144)
"""Memory sizes that SageMaker offers for serverless endpoints."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance type for real-time endpoints. as_of: the day, or only the year, that the price is of."""

    usd_per_hour: float
    vcpu: int | None
    memory_gib: float | None
    gpu: str | None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Serverless:
    """usd_per_gb_second: of the endpoint's memory; usd_per_gb_processed: in and out; None: not known."""

    usd_per_gb_second: float
    usd_per_gb_processed: float | None
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Region:
    """The prices of one region, by instance type."""

    name: str
    instances: Mapping[str, Instance]
    serverless: Serverless | None


def load_regions(cache: Path | None) -> dict[str, Region]:
    """All that is known, by the region's name; cache: the user's folder, None: what came along alone.

    Raises:
        ConfigError: a file of prices is damaged.
    """
    regions = read_file(SHIPPED)
    if cache is not None and (cache / FOLDER).is_dir():
        for path in sorted((cache / FOLDER).glob("*.json")):
            regions |= read_file(path)
    return regions


def read_file(path: Path) -> dict[str, Region]:
    """The regions of one file.

    Raises:
        ConfigError: it is no such file.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']!r}")
        sources = told["sources"]
        return {name: region_of(name, one, sources) for name, one in told["regions"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(path, f"is no file of prices ({error!r})", f"Remove it, or run: {REFRESH} REGION") from error


def region_of(name: str, told: Mapping[str, Any], sources: Mapping[str, str]) -> Region:
    """Prices must be positive numbers; anything else raises."""
    instances = {kind: Instance(**(one | {"source": sources[one["source"]]})) for kind, one in told["instances"].items()}
    serverless = told["serverless"]
    if serverless is not None:
        serverless = Serverless(**(serverless | {"source": sources[serverless["source"]]}))
    for one in (
        *(instance.usd_per_hour for instance in instances.values()),
        *([serverless.usd_per_gb_second] if serverless else []),
    ):
        if not isinstance(one, int | float) or not 0 < one < float("inf"):
            raise ValueError(f"a price of {one!r} in {name}")
    return Region(name, instances, serverless)


def write_region(region: Region, cache: Path) -> Path:
    """The region in the user's folder, whole or not at all."""
    priced: list[Instance | Serverless] = [*region.instances.values(), *([region.serverless] if region.serverless else [])]
    sources = sorted({one.source for one in priced})
    keys = {source: f"source-{number}" for number, source in enumerate(sources, 1)}

    def plain(one: Instance | Serverless) -> dict[str, Any]:
        return asdict(one) | {"source": keys[one.source]}

    told = {
        "instances": {kind: plain(one) for kind, one in sorted(region.instances.items())},
        "serverless": None if region.serverless is None else plain(region.serverless),
    }
    path = cache / FOLDER / f"{region.name}.json"
    write_json(
        path, {"format": FORMAT, "regions": {region.name: told}, "sources": {keys[one]: one for one in sources}}, indent=1
    )
    return path


def region_named(name: str, regions: Mapping[str, Region]) -> Region:
    """One region.

    Raises:
        ConfigError: nothing is known of it; with how to fetch its prices.
    """
    if name not in regions:
        what = f"has no prices for {name!r}, only for {', '.join(sorted(regions))}"
        raise ConfigError("--region", what, f"Fetch them from AWS: {REFRESH} {name}")
    return regions[name]


def instance_price(kind: str, region: Region) -> Price:
    """What an hour of one instance costs.

    Raises:
        ConfigError: there is no price; with names like it, and how to fetch more.
    """
    name = kind if kind.startswith("ml.") else f"ml.{kind}"
    if name not in region.instances:
        near = get_close_matches(name, region.instances, n=3, cutoff=0.6)
        known = f"Near it: {', '.join(near)}." if near else f"Known: {', '.join(sorted(region.instances))}."
        what = f"{kind!r} has no price in {region.name}"
        raise ConfigError("--instance-type", what, f"{known} AWS's whole list: {REFRESH} {region.name}")
    one = region.instances[name]
    return Price(region.name, one.source, one.as_of, instance_type=name, usd_per_hour=one.usd_per_hour)


def serverless_price(memory_mb: int, region: Region) -> Price:
    """What a second of a serverless endpoint costs.

    Raises:
        ConfigError: SageMaker has no such size, or the region no price.
    """
    if memory_mb not in SERVERLESS_MB:
        sizes = ", ".join(map(str, SERVERLESS_MB))
        raise ConfigError("--serverless-memory-mb", f"is {memory_mb}", f"SageMaker offers {sizes}.")
    one = region.serverless
    if one is None:
        what = f"has no price in {region.name}"
        raise ConfigError("--serverless-memory-mb", what, f"Fetch it from AWS: {REFRESH} {region.name}")
    return Price(
        region.name, one.source, one.as_of,
        memory_mb=memory_mb,
        usd_per_second=one.usd_per_gb_second * memory_mb / 1024,
        usd_per_gb_processed=one.usd_per_gb_processed,
    )  # fmt: skip
