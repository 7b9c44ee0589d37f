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
from sightline.s3.listing import below
from sightline.s3.objects import PART_BYTES
from sightline.s3.transfers import Meter, run_all


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
        there = {entry.address: entry.etag for entry in below(store, to.as_folder())}
    except SightlineError:  # no right to list: then everything is sent
        there = {}
    changed = {address: path for address, path in files.items() if there.get(address) != etag_of(path, there.get(address, ""))}
    pictures = {address: path for address, path in changed.items() if path.suffix.lower() in SUFFIXES}
    for batch in (pictures, {address: path for address, path in changed.items() if address not in pictures}):
        upload(store, batch)


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
        extra = {"ContentType": kind, **store.payer()}
        store.client.upload_file(
            os.fspath(files[address]), address.bucket, address.key, ExtraArgs=extra, Config=config, Callback=meter.told
        )
        return files[address]

    _, failures = run_all(store, files, send, lambda address: address, "s3:PutObject", meter)
    if failures:
        listed: list[Failure] = list(failures.values())
        raise type(listed[0].error()).collected([failed.problem for failed in listed])


def etag_of(path: Path, alike: str) -> str:
    """The ETag that S3 gives to this file: its MD5, or that of its parts' MD5s where `alike` is of that form.

    Encrypted objects have others, so they are sent again.
    """
    if not alike:
        return ""
    with path.open("rb") as file:
        if "-" not in alike:
            return f'"{hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()}"'
        digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in iter(lambda: file.read(PART_BYTES), b"")]
    return f'"{hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"'
