import io
from pathlib import Path

import numpy as np
import pytest
from builders import SIZE, a_picture, a_record
from PIL import Image as Pillow

from sightline.dataset import alike
from sightline.dataset.check.pictures import findings_of, look_at, look_at_all, read_small
from sightline.dataset.check.subject import Picture
from sightline.errors import ImageError
from sightline.records import ImageSize


def seen_kinds(path: Path, size: ImageSize = SIZE) -> dict[str, str]:
    """{kind: what} of one file whose labels say `size`."""
    picture = Picture(path.name, path, a_record(file_name=path.name, size=size))
    return {finding.kind: finding.what for finding in findings_of(picture, look_at(picture, alike.fingerprint))}


def noise(size: ImageSize, seed: int = 0) -> Pillow.Image:
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_a_sound_picture_says_nothing(tmp_path: Path) -> None:
    assert seen_kinds(a_picture(tmp_path / "a.jpg")) == {}
    assert seen_kinds(a_picture(tmp_path / "a.png", format="PNG")) == {}


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_bytes(b"<html>404</html>")
    assert set(seen_kinds(tmp_path / "gone.jpg")) == {"missing-picture"}
    assert set(seen_kinds(tmp_path / ("n" * 300))) == {"missing-picture"}
    assert "0 bytes" in seen_kinds(tmp_path / "empty.jpg")["unreadable"]
    assert "is no picture" in seen_kinds(tmp_path / "page.jpg")["unreadable"]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_truncation_is_found_although_less_is_decoded(share: float, progressive: bool, tmp_path: Path) -> None:
    size = ImageSize(700, 900)
    noise(size).save(tmp_path / "whole.jpg", progressive=progressive)
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: int(share * len(data))])
    assert seen_kinds(tmp_path / "whole.jpg", size) == {}
    assert set(seen_kinds(tmp_path / "cut.jpg", size)) == {"truncated"}


def test_sizes_and_turns(tmp_path: Path) -> None:
    stored, turned = ImageSize(80, 100), ImageSize(100, 80)
    plain, rotated = a_picture(tmp_path / "a.jpg", stored), a_picture(tmp_path / "b.jpg", stored, orientation=6)
    assert seen_kinds(plain, ImageSize(160, 200)) == {
        "wrong-size": "is 100 x 80 px (width x height), its labels say 200 x 160 px (width x height)"
    }
    assert set(seen_kinds(rotated, turned)) == {"turned"}
    assert set(seen_kinds(rotated, stored)) == {"labels-not-turned"}


def test_large_by_pixels_and_by_bytes(tmp_path: Path) -> None:
    Pillow.new("1", (6000, 5000)).save(tmp_path / "wide.png")
    assert "large-picture" in seen_kinds(tmp_path / "wide.png", ImageSize(5000, 6000))
    path = a_picture(tmp_path / "a.bmp", format="BMP")
    path.write_bytes(path.read_bytes() + bytes(21 * 2**20))
    assert "21.0 MiB" in seen_kinds(path)["large-picture"]


def a_saved(path: Path, picture: Pillow.Image, **options: object) -> Path:
    file = io.BytesIO()
    picture.save(file, **options)  # type: ignore[arg-type]
    path.write_bytes(file.getvalue())
    return path


@pytest.mark.parametrize(
    ("mode", "format", "name", "kinds"),
    [
        pytest.param("RGB", "PNG", "a.jpg", {"wrong-extension"}, id="PNG named .jpg"),
        pytest.param("RGB", "JPEG", "a.JPEG", set(), id="capital letters"),
        pytest.param("L", "JPEG", "a.jpg", {"grey"}, id="grey"),
        pytest.param("CMYK", "JPEG", "a.jpg", {"cmyk"}, id="CMYK"),
        pytest.param("RGBA", "PNG", "a.png", {"alpha"}, id="alpha"),
        pytest.param("I;16", "PNG", "a.png", {"deep"}, id="16 bit"),
    ],
)
def test_pixels_that_are_not_plain_rgb(mode: str, format: str, name: str, kinds: set[str], tmp_path: Path) -> None:
    picture = Pillow.new(mode, (SIZE.width, SIZE.height))
    assert set(seen_kinds(a_saved(tmp_path / name, picture, format=format))) == kinds


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_small_copy_keeps_the_full_size(orientation: int, tmp_path: Path) -> None:
    size = ImageSize(1600, 2400)
    image, told = read_small(a_picture(tmp_path / "a.jpg", size, orientation=orientation), 200)
    assert told == (size if orientation == 1 else ImageSize(2400, 1600))
    assert 200 <= max(image.shape[:2]) <= 600
    assert image.shape[0] / image.shape[1] == pytest.approx(told.height / told.width, rel=0.02)
    with pytest.raises(ImageError, match="cannot be read"):
        read_small(tmp_path / "gone.jpg", 200)


def test_animation(tmp_path: Path) -> None:
    frames = [noise(SIZE, seed) for seed in range(3)]
    path = a_saved(tmp_path / "a.webp", frames[0], format="WEBP", save_all=True, append_images=frames[1:])
    assert seen_kinds(path)["animated"] == "has 3 frames; only the first is read"


def test_many_pictures_in_order(tmp_path: Path) -> None:
    pictures = [
        Picture(f"{number}.jpg", a_picture(tmp_path / f"{number}.jpg"), a_record(file_name=f"{number}.jpg"))
        for number in range(7)
    ]
    told: list[int] = []
    seen = list(look_at_all([*pictures, Picture("x", None, a_record())], alike.fingerprint, told.append))
    assert [picture.name for picture, _ in seen] == [picture.name for picture in pictures]
    assert told == [7]
    assert len({one.fingerprint.tobytes() for _, one in seen if one.fingerprint is not None}) == 1
