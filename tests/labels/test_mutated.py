"""Damaged label files of every kind end in our own error or are read; nothing else is ever raised, nothing else is touched."""

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import a_coco, a_picture
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline import labels
from sightline.errors import SightlineError

VOC = """<annotation><folder>f</folder><filename>a.jpg</filename><size><width>100</width><height>80</height></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>4e1</ymax></bndbox>
</object></annotation>"""
VIA = json.dumps(
    {
        "a.jpg1": {
            "filename": "a.jpg",
            "regions": {
                "0": {
                    "shape_attributes": {"name": "polygon", "all_points_x": [1, 2.5, 3], "all_points_y": [1, 5, 9]},
                    "region_attributes": {"type": {"cat": True}},
                },
                "1": {
                    "shape_attributes": {"name": "circle", "cx": 30, "cy": 30, "r": 4},
                    "region_attributes": {"type": "dog"},
                },
            },
        }
    }
)
CSV = """filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
a.jpg,1,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}","{""type"":""cat""}"
"""
YAML = "path: .\ntrain: images\nval: [images]\nnames:\n  0: cat\n  1: 'dog'\n"
TXT = "0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.5 0.1 0.4 0.6\n"

SEEDS = {
    "voc": ("a.xml", VOC),
    "via": ("via_region_data.json", VIA),
    "csv": ("via.csv", CSV),
    "yaml": ("data.yaml", YAML),
    "txt": ("labels/a.txt", TXT),
    "coco": ("coco.json", json.dumps(a_coco())),
}
FORMATS = {"csv": "via", "yaml": "yolo", "txt": "yolo"}
PIECES = [b"", b"\0", b"\xff\xfe", b"../", b"nan", b"1e999", b"-", b"[", b"{", b"}", b'"', b"<!DOCTYPE a>", b"null", b"\\ud800"]
PIECES += [b"9" * 5000, b"&a;", b"\n", b"*", b"&x ", b"!!python/object:os.system ", b"true", b'""', b"[" * 2000]


def damaged(text: bytes, choose: Callable[[int], int]) -> bytes:
    """`text` with one to four of its pieces exchanged, cut, doubled or moved."""
    for _ in range(1 + choose(3)):
        start = choose(len(text))
        end = min(len(text), start + choose(12))
        kind = choose(4)
        if kind == 0:
            text = text[:start] + PIECES[choose(len(PIECES) - 1)] + text[end:]
        elif kind == 1:
            text = text[:start]
        elif kind == 2:
            text = text[:end] + text[start:]
        elif kind == 3:
            text = text[:start] + text[end:]
        else:
            text = text[:start] + bytes([choose(255)]) + text[end:]
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    for name in ("a.jpg", "b.jpg"):
        a_picture(folder / name)
        a_picture(folder / "images" / name)
    (folder / "labels").mkdir()
    return folder


@pytest.mark.parametrize("seed", SEEDS)
@settings(max_examples=60)
@given(choices=st.randoms(use_true_random=False))
def test_damage_is_told(place: Path, seed: str, choices: random.Random) -> None:
    name, text = SEEDS[seed]
    (place / "data.yaml").write_text(YAML)
    (place / name).write_bytes(damaged(text.encode(), lambda most: choices.randint(0, most)))
    before = sorted(place.rglob("*"))
    source = place if seed == "txt" else place / name
    try:
        labels.read(source, format=FORMATS.get(seed, seed), on_problem="skip")
    except SightlineError as error:
        assert error.where and error.what and error.fix
    with contextlib.suppress(SightlineError):
        labels.recognise(source)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", ["bccd/Annotations/BloodImage_00000.xml", "balloon/val/via_region_data.json"])
def test_damage_of_real_files_is_told(shared: Path, tmp_path: Path, name: str) -> None:
    real = (shared / "data" / name).read_bytes()
    path = tmp_path / Path(name).name
    shutil.copy(shared / "data/bccd/JPEGImages/BloodImage_00000.jpg", tmp_path)
    choices = random.Random(7)
    for _ in range(60):
        path.write_bytes(damaged(real, lambda most: choices.randint(0, most)))
        try:
            labels.read(path, format="voc" if path.suffix == ".xml" else "via", on_problem="skip")
        except SightlineError as error:
            assert str(error)
