"""AWS's price list, from a server on loopback: a file of the real form, broken ones, and none."""

import csv
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sightline.benchmarking.price_list import PATH, refresh
from sightline.benchmarking.prices import load_regions, serverless_price
from sightline.errors import ConfigError, RunError

COLUMNS = (
    "SKU", "OfferTermCode", "RateCode", "TermType", "PriceDescription", "EffectiveDate", "StartingRange", "EndingRange", "Unit",
    "PricePerUnit", "Currency", "Product Family", "serviceCode", "Location", "Location Type", "Instance Type", "vCPU", "Memory",
    "GPU", "GPU Memory", "Physical GPU", "usageType", "operation", "Component", "Instance Name", "Region Code", "serviceName",
)  # fmt: skip
METADATA = (
    ("FormatVersion", "v1.0"),
    ("Disclaimer", "This pricing list is for informational purposes only."),
    ("Publication Date", "2026-11-15T02:56:06Z"),
    ("Version", "20261115025606"),
    ("OfferCode", "AmazonSageMaker"),
)


def a_row(usage: str, price: str, **changes: str) -> list[str]:
    values = {
        "SKU": "ABC", "TermType": "OnDemand", "Unit": "Hrs", "PricePerUnit": price, "Currency": "USD", "usageType": usage,
        "vCPU": "4", "Memory": "16 GiB", "Region Code": "us-east-1",
    } | changes  # fmt: skip
    return [values.get(column, "") for column in COLUMNS]


ROWS = [
    a_row("USE1-Host:ml.m5.xlarge", "0.2300000000"),
    a_row("USE1-Host:ml.g5.xlarge", "1.4080000000", GPU="1", **{"Physical GPU": "A10G"}),
    a_row("USE1-Host:ml.m5.xlarge", "0.0000000000", PriceDescription="free tier"),
    a_row("USE1-Host:ml.m5.xlarge", "0.1500000000", TermType="Reserved"),
    a_row("USE1-Host:ml.c5.xlarge", "1.4", Currency="CNY"),
    a_row("USE1-Train:ml.m5.xlarge", "9.0000000000"),
    a_row("USE1-AsyncInf:ml.m5.xlarge", "9.0000000000"),
    a_row("USE1-Notebk:ml.t3.medium", "9.0000000000"),
    a_row("USE1-ServerlessInf:Mem-1GB", "0.0000200000", Unit="Seconds"),
    a_row("USE1-ServerlessInf:Mem-6GB", "0.0001200000", Unit="Seconds"),
    a_row("USE1-Host:VolumeUsage.gp2", "0.1400000000", Unit="GB-Mo"),
]


def a_list(rows: Sequence[Sequence[str]] = ROWS, columns: Sequence[str] = COLUMNS) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([*METADATA, columns, *rows])
    return file.getvalue().encode()


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server of one file at the list's path: its address."""
    servers: list[HTTPServer] = []

    def begin(body: bytes, *, status: int = 200, length: int | None = None, region: str = "us-east-1") -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = self.path == PATH.format(region=region)
                self.send_response(status if found else 403)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def test_only_endpoints_on_demand_are_kept(serve: Serve, tmp_path: Path) -> None:
    found, path = refresh("us-east-1", tmp_path, serve(a_list()))
    assert {name: one.usd_per_hour for name, one in found.instances.items()} == {"ml.m5.xlarge": 0.23, "ml.g5.xlarge": 1.408}
    g5 = found.instances["ml.g5.xlarge"]
    assert (g5.vcpu, g5.memory_gib, g5.gpu, g5.as_of) == (4, 16, "1 x A10G", "2026-11-15")
    assert "published 2026-11-15" in g5.source
    assert serverless_price(6144, found).usd_per_second == pytest.approx(0.00012)
    assert load_regions(tmp_path)["us-east-1"] == found
    assert sorted(entry.name for entry in tmp_path.rglob("*") if entry.is_file()) == [path.name]


def test_usage_types_without_a_regions_letters(serve: Serve, tmp_path: Path) -> None:
    rows = [a_row("Host:ml.m5.xlarge", "0.25"), a_row("EUC1-Host:ml.c5.2xlarge", "0.5")]
    found, _ = refresh("eu-central-1", tmp_path, serve(a_list(rows), region="eu-central-1"))
    assert set(found.instances) == {"ml.m5.xlarge", "ml.c5.2xlarge"}
    assert found.serverless is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(b"<html>maintenance</html>", "is no price list", id="a page"),
        pytest.param(b"", "is no price list", id="nothing"),
        pytest.param(b"\xff\xfe" * 50, "is no price list", id="bytes"),
        pytest.param(a_list(columns=[f"x{name}" for name in COLUMNS]), "no column usagetype", id="other columns"),
        pytest.param(a_list([a_row("USE1-Host:ml.m5.xlarge", "cheap")]), "is no price list", id="a price in words"),
        pytest.param(a_list(ROWS[5:8]), "has no prices of endpoints", id="no endpoints"),
    ],
)
def test_what_is_no_list_leaves_the_old_prices(body: bytes, error: str, serve: Serve, tmp_path: Path) -> None:
    refresh("us-east-1", tmp_path, serve(a_list()))
    before = load_regions(tmp_path)
    with pytest.raises(RunError, match=error):
        refresh("us-east-1", tmp_path, serve(body))
    assert load_regions(tmp_path) == before
    assert len([entry for entry in tmp_path.rglob("*") if entry.is_file()]) == 1


def test_a_list_that_breaks_off_is_none(serve: Serve, tmp_path: Path) -> None:
    body = a_list()
    with pytest.raises(RunError, match=r"cannot be fetched .*IncompleteRead"):
        refresh("us-east-1", tmp_path, serve(body[: len(body) // 2], length=len(body)))
    assert not (tmp_path / "prices").exists()


@pytest.mark.parametrize(
    ("region", "error"),
    [
        ("atlantis-1x", "is 'atlantis-1x'"),
        ("../../etc", "Give a region's code"),
        ("xx-north-1", "AWS has no list for 'xx-north-1'"),
    ],
)
def test_regions_that_are_none(region: str, error: str, serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=error):
        refresh(region, tmp_path, serve(a_list()))


def test_a_server_in_trouble(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="answers 500"):
        refresh("us-east-1", tmp_path, serve(b"", status=500))
