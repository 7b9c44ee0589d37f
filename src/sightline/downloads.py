"""Files behind addresses, fetched once: resumed when broken off, checked against the digest in their name, kept in a cache.

S3's objects go through `storage`, which has ways of its own for all that.
"""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sightline.errors import RunError, SightlineError
from sightline.storage import is_remote, local_path, write_text

ZOO = "https://dl.fbaipublicfiles.com/detectron2/"
"""Where `detectron2://` addresses lead."""

DIGESTS = (
    ("md5", re.compile(r"_([0-9a-f]{6,32})\.(?:pkl|pth)$")),
    ("sha256", re.compile(r"-([0-9a-f]{8})\.pth$")),
)
"""Files carry the first digits of their digest: model_final_f6e8b1.pkl of Detectron2, resnet50-0676ba61.pth of torchvision."""

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 30.0


def cache_folder(environ: Mapping[str, str]) -> Path:
    """SIGHTLINE_CACHE, else the user's cache folder."""
    if environ.get("SIGHTLINE_CACHE"):
        return Path(environ["SIGHTLINE_CACHE"])
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline"


def is_address(reference: str) -> bool:
    """Whether `reference` is to be fetched rather than opened."""
    return reference.startswith(("detectron2://", "https://", "http://")) or is_remote(reference)


def fetch(address: str, cache: Path, zoo: str = ZOO) -> Path:
    """The local copy of `address` (`detectron2://`, `https://`, `http://`, `s3://`), downloaded if it is not there yet.

    S3's objects are asked for changes every time and lie in the user's cache whatever `cache` says; others never change.

    Raises:
        RunError: it cannot be reached, or broke off; the next call goes on from there.
        SightlineError: the server does not have it, or what came is not what its name promises.
    """
    if is_remote(address):
        return local_path(address, "A download")
    url = zoo + address.removeprefix("detectron2://") if address.startswith("detectron2://") else address
    parts = urlsplit(url)
    target = cache / parts.netloc.replace(":", "_") / parts.path.lstrip("/")
    if not target.resolve().is_relative_to(cache.resolve()):
        raise SightlineError(address, "climbs out of the cache", "Correct the address.")
    if target.is_file():
        return target
    partial = target.with_name(target.name + ".partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        download(url, partial)
    except urllib.error.HTTPError as error:
        raise SightlineError(url, f"the server answers {error.code} {error.reason}", "Correct the address.") from error
    except (OSError, http.client.HTTPException) as error:
        raise RunError(
            url,
            f"cannot be downloaded ({getattr(error, 'reason', None) or error!r})",
            f"Check the network and try again, or put the file at {target}, or give a local file with --weights.",
        ) from error
    check_digest(partial, target.name, url)
    partial.replace(target)
    write_text(target.with_name(target.name + ".url"), url + "\n")
    return target


def download(url: str, partial: Path) -> None:
    """Append what is missing of `url` to `partial`; a server that cannot continue starts over."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is missing, or the file has changed: its digest tells which
            return
        raise
    with response, partial.open("ab" if response.status == 206 else "wb") as file:
        expected = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if expected is not None and received < int(expected):
        raise http.client.IncompleteRead(b"", int(expected) - received)


def check_digest(partial: Path, name: str, url: str) -> None:
    """Nothing, if the name promises no digest or the file keeps the promise; else the file is removed."""
    for kind, pattern in DIGESTS:
        promised = pattern.search(name)
        if promised is None:
            continue
        with partial.open("rb") as file:
            found = hashlib.file_digest(file, kind).hexdigest()
        if not found.startswith(promised[1]):
            partial.unlink()
            what = f"has the {kind} {found}, its name promises {promised[1]}..."
            raise SightlineError(url, what, "Try again; it was removed.")
