"""A client for S3, from what the environment says. boto3 is imported here, and only when an s3:// address is used.

AWS's own variables count as everywhere (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL, ...); ours are
SIGHTLINE_S3_REQUESTER_PAYS=1 (the bucket's owner lets you pay) and SIGHTLINE_S3_ANONYMOUS=1 (public buckets, no credentials).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sightline.errors import SightlineError
from sightline.optional import require
from sightline.s3.address import Address

REQUESTER_PAYS, ANONYMOUS = "SIGHTLINE_S3_REQUESTER_PAYS", "SIGHTLINE_S3_ANONYMOUS"

WORKERS = 16
"""Transfers at once. Small ones mostly wait, and boto3 takes about 2 ms of CPU for each: more threads gain little."""

CONNECTIONS = 64
"""Open at most: the workers, each perhaps with a large object in parts."""

ATTEMPTS = 5
"""Of every request, with growing pauses; S3 asks for that in bursts (503 SlowDown)."""

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 60


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. cache: folder for what is fetched; aws: AWS's own variables; they tell connections apart."""

    cache: Path
    requester_pays: bool = False
    anonymous: bool = False
    endpoint: str = ""
    aws: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str], cache: Path) -> Self:
        """cache: Sightline's cache folder.

        Raises:
            SightlineError: a switch is neither on nor off.
        """
        return cls(
            cache / "s3",
            requester_pays=switch(environ, REQUESTER_PAYS),
            anonymous=switch(environ, ANONYMOUS),
            endpoint=environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or "",
            aws=tuple(sorted((name, value) for name, value in environ.items() if name.startswith("AWS_"))),
        )


def switch(environ: Mapping[str, str], name: str) -> bool:
    value = environ.get(name, "").strip().lower()
    if value not in ("", "0", "1", "false", "true", "no", "yes"):
        raise SightlineError(name, f"is {value!r}", "Set it to 1 or 0.")
    return value in ("1", "true", "yes")


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """A connection. client: boto3's, safe to use from several threads."""

    client: Any
    settings: Settings

    def parameters(self, address: Address) -> dict[str, str]:
        """Bucket and key of a request, and who pays."""
        return {"Bucket": address.bucket, "Key": address.key, **self.payer()}

    def payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self.settings.requester_pays else {}


def connect(settings: Settings) -> Store:
    """The connection of these settings. No request is sent.

    Raises:
        MissingDependencyError: boto3 is not installed.
        SightlineError: AWS's own configuration is broken.
    """
    return Store(client(settings.aws, settings.anonymous, settings.endpoint), settings)


@functools.lru_cache(maxsize=4)
def client(aws: tuple[tuple[str, str], ...], anonymous: bool, endpoint: str) -> Any:
    """boto3's client for an environment; made once, since that takes a third of a second."""
    boto3 = require("boto3", "aws", "s3://")
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    options: dict[str, Any] = {"signature_version": UNSIGNED} if anonymous else {}
    if "AWS_MAX_ATTEMPTS" not in dict(aws):
        options["retries"] = {"mode": "standard", "max_attempts": ATTEMPTS}
    if endpoint:  # other servers that speak S3 know no buckets as host names, and few the newer checksums
        options["s3"] = {"addressing_style": "path"}
        options["request_checksum_calculation"] = options["response_checksum_validation"] = "when_required"
    config = Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        **options,
    )
    region = dict(aws).get("AWS_REGION") or None  # which boto3 itself does not read, unlike all of AWS's other SDKs
    try:
        return boto3.session.Session(region_name=region).client("s3", config=config)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no address
        raise SightlineError("AWS configuration", f"cannot be used ({error})", "Correct AWS_* or ~/.aws/config.") from error
