"""What an s3:// reference means here: a file of the cache, or a folder of links to such files.

Names in a folder are the keys behind the prefix, made safe and distinct by `sightline.names`: keys with `..`, of absolute or
Windows' form, keys that differ only by case, keys that are both a file and a folder. None of them can leave the folder.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import SightlineError
from sightline.names import file_names, safe_component
from sightline.s3 import objects, transfers
from sightline.s3.address import Address
from sightline.s3.connection import Store
from sightline.s3.failures import failure
from sightline.s3.listing import Entry, below, near
from sightline.storage import remove


@dataclass(frozen=True, slots=True)
class Fetched:
    """path: a file, or a folder that holds `files`; files: each with the address that it has on S3."""

    path: Path
    files: dict[Path, Address]


def fetch(store: Store, address: Address, wanted: Callable[[str], bool] = lambda _: True) -> Fetched:
    """The object `address`, else everything below it that is `wanted` (by its key behind the prefix).

    Raises:
        SightlineError, RunError: all that cannot be fetched, together; or there is neither such an object nor such a prefix.
    """
    if address.key and not address.key.endswith("/"):
        try:
            path = objects.fetch(store, address)
            return Fetched(path, {path: address})
        except Exception as error:
            failed = failure(error, address, "s3:GetObject", store.settings)
            if not failed.missing:
                raise failed.error() from error
    prefix = address.as_folder()
    listed = list(below(store, prefix))
    entries = [entry for entry in listed if wanted(entry.address.key[len(prefix.key) :])]
    if not entries:
        what = "holds nothing that is needed here" if listed else "does not exist, neither as an object nor as a prefix"
        fix = near(store, address) if not listed else ""
        raise SightlineError(address, what, fix or "Check the address; it is taken literally.")
    return fetch_entries(store, prefix, entries)


def fetch_entries(store: Store, prefix: Address, entries: Sequence[Entry]) -> Fetched:
    """A folder with the objects of a listing, under their names behind `prefix`; errors as `fetch`."""
    fetched = transfers.fetch_all(store, entries)
    if fetched.failures:
        failures = list(fetched.failures.values())
        raise type(failures[0].error()).collected([failed.problem for failed in failures])
    addresses = [entry.address for entry in entries]
    names = file_names([address.key[len(prefix.key) :] for address in addresses], keep_folders=True)
    folder = folder_of(store, prefix)
    with objects.locked(folder.parent / ".lock"):
        link_all(folder, {name: fetched.files[address] for name, address in zip(names, addresses, strict=True)})
    return Fetched(folder, {folder / name: address for name, address in zip(names, addresses, strict=True)})


def folder_of(store: Store, prefix: Address) -> Path:
    """Where the prefix's folder is; its last part is the prefix's own name, for messages."""
    digest = hashlib.sha256(f"{store.settings.endpoint}\n{prefix}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return store.settings.cache / "folders" / digest / safe_component(prefix.name)


def link_all(folder: Path, files: dict[str, Path]) -> None:
    """Make `folder` hold exactly `files`, {name: file}; what is right already stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder, {folder / name for name in files})
    for name, file in files.items():
        target = folder / name
        if target.is_file() and target.samefile(file):
            continue
        remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(file, target)


def clear(folder: Path, wanted: Collection[Path]) -> None:
    """Remove what is no longer wanted, and folders that stand where a file is wanted."""
    for place, folders, names in os.walk(folder, topdown=False):
        for name in names:
            if Path(place, name) not in wanted:
                Path(place, name).unlink(missing_ok=True)
        for name in folders:
            below_it = Path(place, name)
            if not any(below_it.iterdir()):
                below_it.rmdir()
