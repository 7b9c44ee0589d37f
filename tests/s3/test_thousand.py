"""A thousand pictures to S3 and back: several at a time, gone on with after a break, nothing sent twice."""

import io
from pathlib import Path

import pytest
from PIL import Image as Pillow

from sightline import storage
from sightline.errors import SightlineError
from sightline.s3 import uploads
from sightline.s3.address import Address

from .shelf import open_shelf

COUNT, BREAK = 1000, 300


def pictures(folder: Path) -> dict[str, bytes]:
    """JPEGs of 8 x 8 pixels, no two alike, in ten folders."""
    made = {}
    for number in range(COUNT):
        file = io.BytesIO()
        Pillow.new("RGB", (8, 8), (number % 256, number // 256, 90)).save(file, "JPEG")
        name = f"images/{number % 10}/{number:04}.jpg"
        made[name] = file.getvalue() + number.to_bytes(2, "big")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(made[name])
    return made


def test_a_thousand_pictures_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pictures(tmp_path / "here")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with open_shelf() as (shelf, address):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        to = Address("parts", "data")
        shelf.goes_on_for = BREAK
        with pytest.raises(SightlineError, match="data/images/"):
            uploads.upload_folder(storage.store(), tmp_path / "here", to)
        assert len(shelf.objects) == BREAK
        shelf.goes_on_for = float("inf")
        uploads.upload_folder(storage.store(), tmp_path / "here", to)
        assert shelf.objects == {f"data/{name}": content for name, content in made.items()}
        assert sorted(shelf.keys("PUT")) == sorted(shelf.objects), "nothing is sent twice, also after the break"
        assert shelf.met.is_set(), "several at a time"
        shelf.asked.clear()
        uploads.upload_folder(storage.store(), tmp_path / "here", to)
        assert set(shelf.asked) == {("GET", "")}, "only listed"

        shelf.asked.clear()
        shelf.met.clear()
        shelf.goes_on_for = BREAK
        with pytest.raises(SightlineError, match="data/images/"):
            storage.local_path("s3://parts/data", "Reading")
        shelf.goes_on_for = float("inf")
        there = storage.local_path("s3://parts/data", "Reading")
        assert {path.relative_to(there).as_posix(): path.read_bytes() for path in there.rglob("*.jpg")} == made
        fetched = [key for key in shelf.keys("GET") if key != "data"]  # which might have been one object
        assert sorted(fetched) == sorted(shelf.objects), "nothing is fetched twice"
        assert shelf.met.is_set()
        shelf.asked.clear()
        assert storage.local_path("s3://parts/data", "Reading") == there
        assert set(shelf.keys("GET")) <= {"data"}
