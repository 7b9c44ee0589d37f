"""Damaged label files of every kind end in our own error or are read; nothing else is ever raised, nothing else is touched."""

import math
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import NAMES, Specimen, changed, damaged, make, tree

from sightline import labels
from sightline.dataset import folder as dataset_folder
from sightline.errors import LabelError, SightlineError
from sightline.labels.report import Imported
from sightline.names import safe_name

REAL = {
    "bccd/Annotations/BloodImage_00000.xml": "voc",
    "balloon/val/via_region_data.json": "via",
    "cats/*.manifest": "ground-truth",
    "manifests/*greengrass*yellow*.manifest": "ground-truth",
    "manifests/licence_cards_2022_train.manifest": "ground-truth",
    "coco_tiny/annotations/*.json": "coco",
}
DEPTH = 20_000
BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c SYSTEM "file:///etc/passwd">]><annotation><filename>&b;&c;</filename></annotation>"""
WHOLE = {
    "empty": b"",
    "blank": b" \n\n ",
    "byte order mark": b"\xef\xbb\xbf",
    "NUL": bytes(1000),
    "deep lists": b"[" * DEPTH,
    "deep objects": b'{"a":' * DEPTH,
    "deep and closed": b'{"annotations": ' + b"[" * DEPTH + b"]" * DEPTH + b"}",
    "deep XML": b"<annotations>" + b"<image>" * DEPTH,
    "deep YAML": b"names: " + b"[" * 5000,
    "YAML aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (i, i, *[i - 1] * 9) for i in range(98, 108))
    + b"names: *k\n",
    "entities": BOMB.encode(),
    "a number": b"1",
    "a long number": b"9" * 100_000,
    "text": b'"x"',
    "one line": b"a" * 200_000,
    "empty list": b"[]",
    "empty object": b"{}",
    "null": b"null",
}


def assert_told(read: Callable[[], object]) -> object:
    """What `read` returns, or None if it ends in our own error, which says where, what and how to fix it."""
    try:
        return read()
    except SightlineError as error:
        assert all(problem.where and problem.what and problem.fix for problem in error.problems)
        str(error).encode("utf-8", "backslashreplace")
        return None


def assert_survives(specimen: Specimen, out: Path | None = None) -> None:
    """Reading, recognising and importing the specimen as it now is: our own error, or a data set that can be written."""
    before = tree(specimen.folder)
    assert_told(lambda: labels.recognise(specimen.path))
    for on_problem in ("skip", "error") if out else ("skip",):
        imported = assert_told(
            lambda how=on_problem: labels.read(specimen.path, format=specimen.format, on_problem=how, images=specimen.folder),  # type: ignore[misc]
        )
        if isinstance(imported, Imported):
            assert_sound(imported)
            if out:
                assert_told(lambda found=imported: import_to(out, found, specimen))  # type: ignore[misc]
                assert [path.name for path in out.parent.iterdir()] in ([], [out.name])
                shutil.rmtree(out, ignore_errors=True)
    assert tree(specimen.folder) == before


def assert_sound(imported: Imported) -> None:
    """Names that stay below any folder, and numbers that any format can hold."""
    dataset = imported.dataset
    dataset.class_names.__repr__().encode()
    for image in dataset.images:
        path = PurePosixPath(image.file_name)
        assert not path.is_absolute() and ".." not in path.parts and image.file_name == safe_name(image.file_name)
        for instance in image.instances:
            assert all(map(math.isfinite, instance.box)) and 0 <= instance.label < len(dataset.categories)


def import_to(out: Path, imported: Imported, specimen: Specimen) -> None:
    dataset_folder.create(imported.dataset, out, pictures=imported.pictures or [specimen.folder], on_problem="skip")


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Specimen]:
    return {name: make(name, tmp_path_factory.mktemp(name) / "labels") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_specimens_are_sound(specimens: dict[str, Specimen], name: str) -> None:
    specimen = specimens[name]
    imported = labels.read(specimen.path, format=specimen.format, images=specimen.folder)
    assert imported.report.skipped == ()
    assert imported.dataset.instance_count
    assert_sound(imported)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12)
@given(choices=st.randoms(use_true_random=False))
def test_damage_is_told(specimens: dict[str, Specimen], name: str, choices: random.Random) -> None:
    specimen = specimens[name]
    path = specimen.folder / specimen.file
    whole = path.read_bytes()
    try:
        for damage in (damaged, changed):
            path.write_bytes(damage(whole, lambda most: choices.randint(0, most)))
            assert_survives(specimen, out=specimen.folder.parent / "out" / "dataset" if choices.randint(0, 3) == 0 else None)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_other_content_is_told(specimens: dict[str, Specimen], name: str) -> None:
    specimen = specimens[name]
    path = specimen.folder / specimen.file
    whole = path.read_bytes()
    try:
        for content in (*WHOLE.values(), whole.decode().encode("utf-16"), whole.replace(b"a", b"\0"), whole[: len(whole) // 2]):
            path.write_bytes(content)
            assert_survives(specimen)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_survives_the_files_of_the_others(specimens: dict[str, Specimen], name: str) -> None:
    specimen = specimens[name]
    for format in labels.FORMATS:
        for source in (specimen.source, ".", specimen.file):
            assert_survives(replace(specimen, format=format, source=source))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "yolo-text"])
def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(specimens: dict[str, Specimen], name: str) -> None:
    specimen = specimens[name]
    path = specimen.folder / specimen.file
    whole = path.read_bytes()
    expected = labels.read(specimen.path, format=specimen.format, images=specimen.folder).dataset
    try:
        for content in (whole.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + whole):
            path.write_bytes(content)
            assert labels.recognise(specimen.path) == specimen.format
            assert labels.read(specimen.path, format=specimen.format, images=specimen.folder).dataset == expected
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_is_told(name: str, tmp_path: Path) -> None:
    """A folder, a link to itself, one that leads nowhere, and a file without permission in place of the labels."""
    specimen = make(name, tmp_path / "labels")
    path = specimen.folder / specimen.file
    whole = path.read_bytes()
    for make_odd in (
        path.mkdir,
        lambda: path.symlink_to(path),
        lambda: path.symlink_to("nowhere"),
        lambda: (path.write_bytes(whole), path.chmod(0)),
    ):
        path.unlink()
        make_odd()
        if os.access(path, os.R_OK) and path.is_file():
            continue  # root may read everything
        assert_survives(specimen)
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(whole)


def test_a_folder_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    specimen = make("labelme", tmp_path / "labels")
    expected = labels.read(specimen.path, format="labelme").dataset.instance_count
    (specimen.folder / "again").symlink_to(specimen.folder, target_is_directory=True)
    assert labels.recognise(specimen.path) == "labelme"
    assert labels.read(specimen.path, format="labelme").dataset.instance_count == expected


@pytest.mark.parametrize("pattern", REAL)
def test_damage_of_real_files_is_told(shared: Path, tmp_path: Path, pattern: str) -> None:
    real = next(iter(sorted((shared / "data").glob(pattern))))
    folder = tmp_path / "labels"
    folder.mkdir()
    for picture in sorted((shared / "data").glob("balloon/val/*.jpg"))[:1]:
        shutil.copy(picture, folder)
    whole = b"\n".join(real.read_bytes().split(b"\n")[:5]) if real.suffix == ".manifest" else real.read_bytes()
    specimen, choices = Specimen(folder, real.name, real.name, REAL[pattern]), random.Random(7)
    for damage in (damaged, changed) * 8:
        (folder / real.name).write_bytes(damage(whole, lambda most: choices.randint(0, most)))
        assert_survives(specimen)


def test_a_file_of_another_kind_given_as_yolo_is_refused_before_it_takes_hours(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_bytes(b"names: [" + b"x, " * 500_000 + b"y]")
    with pytest.raises(LabelError, match="has more than 1,048,576 bytes"):
        labels.read(path, format="yolo")
