"""Files and folders to S3: several at once, large ones in parts, unchanged ones not at all. Nothing there is removed."""

import contextlib
import hashlib
import mimetypes
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sightline.errors import SightlineError
from sightline.images import SUFFIXES
from sightline.s3.address import Address
from sightline.s3.connection import Store
from sightline.s3.failures import Failure, failure
from sightline.s3.listing import Entry, below
from sightline.s3.objects import PART_BYTES
from sightline.s3.transfers import Meter, run_all

DIGEST = "sightline-md5"
"""Metadata of every object that is sent: the file's MD5 in hexadecimal digits."""


@contextlib.contextmanager
def target(store: Store, address: Address, purpose: str) -> Iterator[Path]:
    """A path that does not exist yet; the file or folder that is made there is uploaded when the block ends well.

    Raises:
        SightlineError, RunError: the bucket cannot be written to; found out before the block where that is possible.
    """
    require_bucket(store, address)
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
        made = Path(folder, Path(address.name).name or "output")
        yield made
        if not made.exists():
            return
        if made.is_dir():
            upload_folder(store, made, address)
        elif not address.key or address.key.endswith("/"):
            raise SightlineError(address, f"names a folder, and {purpose} is one file", "Give the whole key.")
        else:
            upload(store, {address: made})


def require_bucket(store: Store, address: Address) -> None:
    """Nothing, if the bucket is there and somebody is logged in: hours of work must not end with that news."""
    try:
        store.client.head_bucket(Bucket=address.bucket)
    except Exception as error:
        failed = failure(error, Address(address.bucket, ""), "s3:ListBucket", store.settings)
        if failed.missing:
            what, fix = f"there is no bucket {address.bucket!r}", "Create it, or check its name and your account."
            raise SightlineError(address, what, fix) from error
        if failed.ends_all or not failed.ours:
            raise failed.error() from error


def upload_folder(store: Store, folder: Path, to: Address) -> None:
    """Everything below `folder` under the same names below `to`; pictures first, so that no labels are there without them."""
    files = {to.below(path.relative_to(folder).as_posix()): path for path in files_below(folder)}
    try:
        there = {entry.address: entry for entry in below(store, to.as_folder())}
    except SightlineError:  # no right to list: then everything is sent
        there = {}
    other = {address: path for address, path in files.items() if address not in there or differs(path, there[address])}
    alike = {address: path for address, path in other.items() if address in there and same_size(path, there[address])}
    same = unchanged(store, alike)
    changed = {address: path for address, path in other.items() if address not in same}
    pictures = {address: path for address, path in changed.items() if path.suffix.lower() in SUFFIXES}
    for batch in (pictures, {address: path for address, path in changed.items() if address not in pictures}):
        upload(store, batch)


def differs(path: Path, entry: Entry) -> bool:
    return not same_size(path, entry) or entry.etag != etag_of(path, entry.etag)


def same_size(path: Path, entry: Entry) -> bool:
    return path.stat().st_size == entry.size


def unchanged(store: Store, files: dict[Address, Path]) -> set[Address]:
    """Those whose object tells the file's own digest: the ETag of an object that a key encrypts is none. A request for each."""

    def compare(address: Address) -> Path:
        told = store.client.head_object(Bucket=address.bucket, Key=address.key, **store.payer()).get("Metadata", {})
        return files[address] if told.get(DIGEST) == md5_of(files[address]) else Path()

    if not files:
        return set()
    found, _ = run_all(store, files, compare, lambda address: address, "s3:GetObject", Meter("compared", len(files)))
    return {address for address, path in found.items() if path == files[address]}


def files_below(folder: Path) -> list[Path]:
    """All files, sorted; also those in linked folders, which `rglob` passes over: pictures are often linked, not copied."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        above = {folder.resolve(), *(parent.resolve() for parent in (Path(place), *Path(place).parents))}
        folders[:] = [
            name for name in folders if Path(place, name).resolve() not in above
        ]  # a link to a folder above never ends
        found += [Path(place, name) for name in names if Path(place, name).is_file()]
    return sorted(found)


def upload(store: Store, files: dict[Address, Path]) -> None:
    """Each file as the object of its address.

    Raises:
        SightlineError, RunError: all that could not be uploaded, together.
    """
    from boto3.s3.transfer import TransferConfig

    if not files:
        return
    meter = Meter("uploaded", len(files))
    config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)

    def send(address: Address) -> Path:
        kind = mimetypes.guess_type(address.name)[0] or "application/octet-stream"
        path, place = files[address], {"Bucket": address.bucket, "Key": address.key}
        extra = {"ContentType": kind, "Metadata": {DIGEST: md5_of(path)}, **store.payer()}
        if (size := path.stat().st_size) < PART_BYTES:  # threads of its own for every picture would take most of the time
            with path.open("rb") as file:
                store.client.put_object(Body=file, **place, **extra)
            meter.told(size)
        else:
            store.client.upload_file(os.fspath(path), **place, ExtraArgs=extra, Config=config, Callback=meter.told)
        return path

    _, failures = run_all(store, files, send, lambda address: address, "s3:PutObject", meter)
    if failures:
        listed: list[Failure] = list(failures.values())
        raise type(listed[0].error()).collected([failed.problem for failed in listed])


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def etag_of(path: Path, alike: str) -> str:
    """The ETag that S3 gives to this file: its MD5, or that of its parts' MD5s where `alike` is of that form.

    Objects that a key encrypts have others (see `unchanged`).
    """
    if "-" not in alike:
        return f'"{md5_of(path)}"'
    with path.open("rb") as file:
        digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in iter(lambda: file.read(PART_BYTES), b"")]
    return f'"{hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"'
