"""One object to one file of the cache: fetched when it is new or has changed, whole or not at all, gone on with when cut off.

CACHE/s3/objects/5e/5e0c.../NAME   the content; the folder is the digest of the address, so no key can name another place
CACHE/s3/objects/5e/5e0c....json   ETag and size of the object, size and time of the file
CACHE/s3/objects/5e/5e0c....partial, .parts   a large object under way, and which of its parts are here

Small objects take one request, and that one says `If-None-Match` when the object is here: unchanged ones are not sent again.
"""

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.names import safe_component
from sightline.s3.address import Address
from sightline.s3.connection import ATTEMPTS, Store
from sightline.s3.failures import code_of
from sightline.s3.listing import Entry

LOG = logging.getLogger(__name__)

PART_BYTES = 8 * 2**20
"""Objects above this come in parts of this size, several at once; what one connection of S3 brings in about 0.1 s."""

PARTS_AT_ONCE = 4
CHUNK_BYTES = 2**18
PAUSE_S = 0.2

Told = Callable[[int], None]
"""Hears how many bytes have come."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an object is kept. base: without suffix; file: the content."""

    base: Path
    file: Path

    def beside(self, suffix: str) -> Path:
        return self.base.with_name(self.base.name + suffix)


class ChangedError(Exception):
    """The object is not the one any more that its first parts came from."""


def slot_of(store: Store, address: Address) -> Slot:
    identity = f"{store.settings.endpoint}\n{address.bucket}\n{address.key}"
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    base = store.settings.cache / "objects" / digest[:2] / digest
    return Slot(base, base / safe_component(address.name))


def etag_here(slot: Slot) -> str:
    """The ETag of the object as it is in the cache; empty if it is not, or if somebody touched the file."""
    try:
        record = json.loads(slot.beside(".json").read_bytes())
        status = slot.file.stat()
        whole = status.st_size == record["size"] and status.st_mtime_ns == record["mtime_ns"]
        return str(record["etag"]) if whole else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def fetch(store: Store, address: Address, entry: Entry | None = None, told: Told = lambda _: None) -> Path:
    """The object's file; `entry`: what a listing said of it, which saves asking. Raises what boto3 raises."""
    slot = slot_of(store, address)
    for attempt in range(ATTEMPTS):
        try:
            return fetch_once(store, address, slot, entry, told)
        except ChangedError:
            entry = None
        except Exception as error:
            if attempt + 1 == ATTEMPTS or not is_cut(error):
                raise
            LOG.debug("%s: %r, tried again", address, error)
        time.sleep(PAUSE_S * 2**attempt)
    raise OSError("it changes while it is fetched")


def is_cut(error: Exception) -> bool:
    """Whether an answer broke off on its way. boto3 itself tries again only until the answer begins."""
    from botocore import exceptions

    return isinstance(
        error,
        exceptions.IncompleteReadError
        | exceptions.ReadTimeoutError
        | exceptions.ResponseStreamingError
        | exceptions.ConnectionClosedError,
    )


def fetch_once(store: Store, address: Address, slot: Slot, entry: Entry | None, told: Told) -> Path:
    here = etag_here(slot)
    if entry is not None and entry.etag == here:
        return slot.file
    if entry is not None and entry.size > PART_BYTES:
        return fetch_in_parts(store, entry, slot, told)
    asked = {"IfNoneMatch": here} if here else {}
    try:
        response = store.client.get_object(**store.parameters(address), **asked)
    except Exception as error:
        if code_of(error) in ("304", "NotModified"):
            return slot.file
        raise
    with contextlib.closing(response["Body"]) as body:
        found = Entry(address, response["ContentLength"], response["ETag"])
        if found.size <= PART_BYTES:
            return keep(slot, found, body, told)
    return fetch_in_parts(store, found, slot, told)


def keep(slot: Slot, entry: Entry, body: Any, told: Told) -> Path:
    """A small object's body as its file."""
    temporary = slot.beside(f".{os.getpid()}-{time.monotonic_ns()}.new")
    slot.base.mkdir(parents=True, exist_ok=True)
    received = 0
    try:
        with temporary.open("wb") as file:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                told(len(chunk))
        return finished(slot, entry, temporary)
    except BaseException:
        told(-received)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def finished(slot: Slot, entry: Entry, temporary: Path) -> Path:
    """`temporary` takes the file's place. A cache needs no fsync: a file that a power cut shortened has another size."""
    slot.base.mkdir(parents=True, exist_ok=True)
    temporary.replace(slot.file)
    status = slot.file.stat()
    if status.st_size != entry.size:
        slot.file.unlink()
        raise OSError(f"{status.st_size:,} of {entry.size:,} bytes came")
    record = {"address": str(entry.address), "etag": entry.etag, "size": entry.size, "mtime_ns": status.st_mtime_ns}
    own = slot.beside(f".{os.getpid()}-{time.monotonic_ns()}.record")
    own.write_text(json.dumps(record), encoding="utf-8")
    own.replace(slot.beside(".json"))
    return slot.file


def fetch_in_parts(store: Store, entry: Entry, slot: Slot, told: Told) -> Path:
    """A large object; the parts that an earlier call fetched are not fetched again."""
    slot.base.mkdir(parents=True, exist_ok=True)
    with locked(slot.beside(".lock")):
        if etag_here(slot) == entry.etag:  # another process was quicker
            return slot.file
        partial, journal = slot.beside(".partial"), slot.beside(".parts")
        done = parts_here(partial, journal, entry)
        numbers = range(-(-entry.size // PART_BYTES))
        told(sum(min(PART_BYTES, entry.size - number * PART_BYTES) for number in done))
        with journal.open("a", encoding="utf-8") as list_of_parts, ThreadPoolExecutor(PARTS_AT_ONCE, "s3-part") as threads:

            def fetch_part(number: int) -> int:
                copy_part(store, entry, number, partial, told)
                return number

            missing = [threads.submit(fetch_part, number) for number in numbers if number not in done]
            try:
                for part in missing:
                    list_of_parts.write(f"{part.result()}\n")
                    list_of_parts.flush()
            except BaseException as error:
                threads.shutdown(cancel_futures=True)
                for part in missing:  # the parts behind the broken one are here, too
                    if part.done() and not part.cancelled() and part.exception() is None:
                        list_of_parts.write(f"{part.result()}\n")
                if code_of(error) in ("PreconditionFailed", "412") if isinstance(error, Exception) else False:
                    journal.unlink(missing_ok=True)
                    raise ChangedError from error
                raise
        path = finished(slot, entry, partial)
        journal.unlink(missing_ok=True)
        return path


def parts_here(partial: Path, journal: Path, entry: Entry) -> set[int]:
    """The numbers of the parts that `partial` holds; both files begin anew where they are of another object."""
    head = f"{entry.etag} {entry.size} {PART_BYTES}"
    try:
        lines = journal.read_text(encoding="utf-8").splitlines()
        if lines[0] == head and partial.stat().st_size == entry.size:
            return {int(line) for line in lines[1:] if line.isdecimal()}
    except (OSError, ValueError, IndexError):
        pass
    with partial.open("wb") as file:
        file.truncate(entry.size)
    journal.write_text(head + "\n", encoding="utf-8")
    return set()


def copy_part(store: Store, entry: Entry, number: int, partial: Path, told: Told) -> None:
    """One part to its place in `partial`; where the connection breaks, the next one begins."""
    begin, end = number * PART_BYTES, min((number + 1) * PART_BYTES, entry.size)
    with partial.open("r+b") as file:
        for attempt in range(ATTEMPTS):
            try:
                asked = store.parameters(entry.address) | {"Range": f"bytes={begin}-{end - 1}", "IfMatch": entry.etag}
                response = store.client.get_object(**asked)
                with contextlib.closing(response["Body"]) as body:
                    file.seek(begin)
                    for chunk in body.iter_chunks(CHUNK_BYTES):
                        file.write(chunk)
                        begin += len(chunk)
                        told(len(chunk))
                if begin >= end:
                    return
            except Exception as error:
                if attempt + 1 == ATTEMPTS or not is_cut(error):
                    raise
            time.sleep(PAUSE_S * 2**attempt)
    raise OSError(f"part {number} ends at byte {begin:,} of {end:,}")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process (and thread) at a time; where the system has no such locks, all at once, which costs only double work."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass
        yield
