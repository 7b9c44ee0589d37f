"""Drawn pictures: names, formats, order."""

from pathlib import Path, PurePath

import numpy as np
import pytest

from sightline.errors import ImageError
from sightline.images import read_image
from sightline.serving.drawing import drawn_names, targets_of, write_picture


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(["/d/a.jpg"], ["a.jpg"], id="one file"),
        pytest.param(["/d/x/a.jpg", "/d/y/a.jpg"], ["x/a.jpg", "y/a.jpg"], id="equal base names"),
        pytest.param(["/d/a.tif", "/d/b.WEBP", "/d/c.JPG"], ["a.tif.png", "b.WEBP.png", "c.JPG"], id="suffixes"),
        pytest.param(["/d/a.tif", "/d/a.tif.png"], ["a.tif.png.png", "a.tif.png"], id="a name that is taken"),
        pytest.param(["/d/../d/a.jpg", "/d/b"], ["a.jpg", "b.png"], id="dots"),
        pytest.param(["/d/a.mov", "/d/a.mp4", "/d/a.mov.mp4"], ["a.mov.mp4.mp4", "a.mp4", "a.mov.mp4"], id="videos"),
        pytest.param(["s3://b/x/1.jpg", "s3://b/y/1.jpg"], ["x/1.jpg", "y/1.jpg"], id="S3"),
        pytest.param(["s3://b/x/1.jpg", "s3://b/../../1.jpg"], ["x/1.jpg", "_/_/1.jpg"], id="hostile keys"),
        pytest.param([], [], id="none"),
    ],
)
def test_drawn_names(names: list[str], expected: list[str]) -> None:
    assert drawn_names(names) == dict(zip(names, map(PurePath, expected), strict=True))


def test_no_picture_is_drawn_over(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="would be drawn over"):
        targets_of([str(tmp_path / "a.jpg")], tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "deep/a.PNG"])
def test_write_picture(name: str, tmp_path: Path, make_picture) -> None:
    write_picture(make_picture(77), tmp_path / name)
    np.testing.assert_allclose(read_image(tmp_path / name).astype(int), 77, atol=1)
