"""s3://bucket/key. Keys are literal: `%20`, `+`, blanks and every script are what they are; nothing is decoded."""

import re
from dataclasses import dataclass

from sightline.errors import SightlineError

SCHEME = "s3://"

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Names that S3 gives buckets."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An object, or a prefix: then `key` is empty or ends with /, and means all keys that begin with it."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The part of the key behind its last /, or the bucket."""
        return self.key.rstrip("/").rpartition("/")[2] or self.bucket

    def below(self, relative: str) -> "Address":
        """The object `relative` of this prefix, whether or not it is written with its last /."""
        folder = self.as_folder()
        return Address(folder.bucket, folder.key + relative)

    def as_folder(self) -> "Address":
        """The same prefix with its last /."""
        return self if not self.key or self.key.endswith("/") else Address(self.bucket, self.key + "/")


def parse(reference: str) -> Address:
    """The address that `reference` spells.

    Raises:
        SightlineError: it names no bucket.
    """
    bucket, _, key = reference.removeprefix(SCHEME).partition("/")
    if not reference.startswith(SCHEME) or not bucket:
        raise SightlineError(reference, "names no bucket", "Give s3://BUCKET/KEY.")
    return Address(bucket, key)


def bucket_fault(name: str) -> str:
    """What is wrong with a bucket's name, as `the bucket's name 'REGION' has capitals`; empty where S3 takes it."""
    if BUCKET.fullmatch(name):
        return ""
    if name != name.lower():
        what = "has capitals"
    elif not 3 <= len(name) <= 63:
        what = f"has {len(name)} characters, and can have 3 to 63"
    else:
        what = "has others than letters, digits, dots and hyphens, or begins or ends with one that is neither letter nor digit"
    return f"the bucket's name {name!r} {what}"
