from pathlib import Path

import pytest

from sightline.errors import LabelError
from sightline.labels.markup import number, read_xml, text_at


def test_texts_and_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<a><b> x\n</b><c/></a>")
    root = read_xml(tmp_path / "a.xml")
    assert [text_at(root, path) for path in ("b", "c", "d", "b/e")] == ["x", "", "", ""]
    assert [number(text) for text in ("1", " 2.5 ", "1e3", "", "x", "nan", "inf", "1e999", "1_0")] == [
        1.0, 2.5, 1000.0, None, None, None, None, None, 10.0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not XML"),
        (b"\xff\xfe\xff", "is not XML"),
        (b"<a>", "is not XML"),
        (b"<!DOCTYPE a><a/>", "declares entities or a document type"),
        (b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', "declares entities or a document type"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(LabelError, match=message):
        read_xml(tmp_path / "a.xml")
    with pytest.raises(LabelError, match="cannot be read"):
        read_xml(tmp_path / "b.xml")
