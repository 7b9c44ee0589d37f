"""What lies below a prefix: 1,000 keys a request, page after page."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any

from sightline.s3.address import Address
from sightline.s3.connection import Store
from sightline.s3.failures import failure

MAX_COMPARED = 1_000
"""Keys that a missing one is compared with: one page."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing tells it. etag: as S3 writes it, in quotation marks; changes when the content does."""

    address: Address
    size: int
    etag: str


def below(store: Store, prefix: Address) -> Iterator[Entry]:
    """Everything under `prefix`, in the order of the keys; the empty objects that consoles make of folders are left out.

    Raises:
        SightlineError, RunError: it cannot be listed.
    """
    asked: dict[str, Any] = {"Bucket": prefix.bucket, "Prefix": prefix.key, **store.payer()}
    try:
        for page in store.client.get_paginator("list_objects_v2").paginate(**asked):
            for entry in page.get("Contents", ()):
                if not entry["Key"].endswith("/"):
                    yield Entry(Address(prefix.bucket, entry["Key"]), entry["Size"], entry["ETag"])
    except Exception as error:
        raise failure(error, prefix, "s3:ListBucket", store.settings).error() from error


def near(store: Store, address: Address) -> str:
    """A sentence about the name beside `address` that is most like it; empty if there is none, or no right to list."""
    from sightline.errors import SightlineError

    folder = Address(address.bucket, address.key[: address.key.rstrip("/").rfind("/") + 1])
    try:
        names = [entry.address.key for entry in islice(below(store, folder), MAX_COMPARED)]
    except SightlineError:
        return ""
    found = get_close_matches(address.key, names, n=1)
    return f"Did you mean {Address(address.bucket, found[0])}?" if found else ""
