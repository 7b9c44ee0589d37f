import unicodedata
from pathlib import Path

import pytest
from builders import SIZE, a_picture

from sightline.errors import LabelError
from sightline.labels.pictures import Shelf, inside, size_of, turned_note


def test_names_are_found_in_the_first_folder_that_has_them(tmp_path: Path) -> None:
    for name in ("one/a.jpg", "two/a.jpg", "two/b/c.PNG", "two/" + unicodedata.normalize("NFD", "é.jpg")):
        a_picture(tmp_path / name, format="PNG")
    shelf = Shelf([tmp_path / "missing", tmp_path / "one", tmp_path / "two"])
    assert shelf.find("a.jpg") == tmp_path / "one/a.jpg"
    assert shelf.find("b/c.PNG") == shelf.find_stem("b/c") == tmp_path / "two/b/c.PNG"
    assert shelf.find(unicodedata.normalize("NFC", "é.jpg")) is not None
    assert shelf.find("b") is None
    for hostile in ("", "x\0y", "\ud800", "x" * 5000, "/", "."):
        assert shelf.find(hostile) is None
        assert shelf.find_stem(hostile) is None


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "C:\\a.jpg", "..\\a.jpg", "\\\\host\\a.jpg", "a\0"]
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(LabelError, match=r"here: names the picture .*, outside its folder"):
        inside(name, "here")


def test_names_that_stay_do() -> None:
    for name in ("a.jpg", "a/b c.jpg", "..a.jpg", "a..jpg"):
        assert inside(name, "here") == name


def test_sizes(tmp_path: Path) -> None:
    assert size_of(a_picture(tmp_path / "a.jpg"), "here").shown == SIZE
    (tmp_path / "b.jpg").write_bytes(b"no picture at all")
    with pytest.raises(LabelError, match=r"here: needs the size of .*b.jpg, which is no picture"):
        size_of(tmp_path / "b.jpg", "here")
    assert turned_note(0) == []
    assert "2 pictures are turned" in turned_note(2)[0]
