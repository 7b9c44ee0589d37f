"""AWS's own price list of SageMaker, fetched and reduced to what endpoints cost.

The list is public: one CSV file a region, `.../offers/v1.0/aws/AmazonSageMaker/current/REGION/index.csv`. Five lines tell of
the file, the sixth has the columns, each further one is one price. It is read line by line; only endpoints' prices are kept.
"""

import csv
import http.client
import re
import tempfile
import urllib.error
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from sightline.benchmarking.prices import Instance, Region, Serverless, write_region
from sightline.downloads import download
from sightline.errors import ConfigError, RunError

AWS = "https://pricing.us-east-1.amazonaws.com"
PATH = "/offers/v1.0/aws/AmazonSageMaker/current/{region}/index.csv"
METADATA_LINES = 5
REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
HOST = re.compile(r"(?:^|-)Host:(ml\.[a-z0-9-]+\.[a-z0-9-]+)$")
"""Usage type of a real-time endpoint: USE1-Host:ml.g5.xlarge; in some regions without what is before the dash."""

SERVERLESS = re.compile(r"(?:^|-)ServerlessInf:Mem-(\d+)GB$")
"""Usage type of one second of a serverless endpoint of so much memory."""

NEEDED = ("usagetype", "termtype", "unit", "priceperunit", "currency")


def refresh(region: str, cache: Path, address: str = AWS) -> tuple[Region, Path]:
    """Fetch a region's list into `cache`, where `load_regions` prefers it. (the prices, the file).

    Raises:
        ConfigError: there is no such region.
        RunError: the list cannot be fetched, or is none; what was there before stays.
    """
    if not REGION.fullmatch(region):
        raise ConfigError("--region", f"is {region!r}", "Give a region's code, such as us-east-1.")
    url = address + PATH.format(region=region)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        file = Path(folder) / "index.csv"
        try:
            download(url, file)
        except urllib.error.HTTPError as error:
            if error.code in (403, 404):
                raise ConfigError(
                    "--region", f"AWS has no list for {region!r} ({error.code})", "Correct the region."
                ) from error
            raise RunError(url, f"answers {error.code} {error.reason}", "Try again later.") from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or repr(error)
            raise RunError(url, f"cannot be fetched ({why})", "Check the network and try again.") from error
        found = reduce_list(file, region, url)
    return found, write_region(found, cache)


def reduce_list(file: Path, region: str, url: str) -> Region:
    """The endpoints' prices in a list.

    Raises:
        RunError: it is no such list, or has none of them.
    """
    wrong = "Try again; if it stays so, AWS has changed the file's form."
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            lines = csv.reader(text)
            metadata = dict(line[:2] for line in islice(lines, METADATA_LINES) if len(line) > 1)
            published = metadata["Publication Date"][:10]
            source = f"AWS Price List of AmazonSageMaker ({url}), published {published}"
            found = prices_of(rows(lines), region, source, published)
    except (StopIteration, KeyError, ValueError, UnicodeDecodeError, csv.Error) as error:
        raise RunError(url, f"is no price list ({error!r})", wrong) from error
    if not found.instances:
        raise RunError(url, "has no prices of endpoints", wrong)
    return found


def rows(lines: Iterator[list[str]]) -> Iterator[dict[str, str]]:
    """{column: value} of each line. Columns in small letters without blanks: "Usage Type" and "usageType" mean the same.

    Raises:
        KeyError: a column is missing.
    """
    columns = [name.replace(" ", "").lower() for name in next(lines)]
    for name in NEEDED:
        if name not in columns:
            raise KeyError(f"no column {name}")
    for line in lines:
        if len(line) == len(columns):
            yield dict(zip(columns, line, strict=True))


def prices_of(table: Iterable[Mapping[str, str]], region: str, source: str, published: str) -> Region:
    """What on-demand endpoints cost; free tiers and reservations are none of it."""
    instances: dict[str, Instance] = {}
    per_gb: dict[int, float] = {}
    for row in table:
        if row["termtype"] != "OnDemand" or row["currency"] != "USD" or not float(row["priceperunit"]):
            continue
        price = float(row["priceperunit"])
        if (host := HOST.search(row["usagetype"])) and row["unit"] == "Hrs":
            instances[host[1]] = Instance(
                price, number(row.get("vcpu")), number(row.get("memory")), gpu_of(row), source, published
            )
        elif (memory := SERVERLESS.search(row["usagetype"])) and row["unit"].lower().startswith("second"):
            per_gb[int(memory[1])] = price / int(memory[1])
    serverless = Serverless(max(per_gb.values()), None, source, published) if per_gb else None
    return Region(region, instances, serverless)


def number(text: str | None) -> int | None:
    """The whole number that a text begins with: 16 of "16 GiB"; None where there is none."""
    found = re.match(r"\d+", text or "")
    return int(found[0]) if found else None


def gpu_of(row: Mapping[str, str]) -> str | None:
    """What the list tells of an instance's accelerators."""
    count, kind = row.get("gpu", ""), row.get("physicalgpu", "")
    if not (number(count) or 0):
        return None
    return f"{count} x {kind}" if kind and kind != "N/A" else count
