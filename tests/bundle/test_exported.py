"""Bundles with `model.onnx`: what is refused, and what is not held in memory."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from graphs import a_bundle, a_graph, bundle_members, told_of

from sightline.bundle.archive import GRAPH, MANIFEST, WEIGHTS, Passed, describe, read_model_files, sha256
from sightline.bundle.load import load_model
from sightline.errors import BundleError

OLD_WEIGHTS, NEW_WEIGHTS = b"weights " * 40, b"others " * 40


def of(weights: bytes) -> bytes:
    """A graph that was made from them."""
    return a_graph(told=told_of(weights_sha256=sha256(weights)))


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_a_bundle_that_was_tampered_with(tmp_path: Path, packed: bool) -> None:
    members = bundle_members() | {GRAPH: a_graph(told=told_of(classes=["dog", "cat"]))}
    path = a_bundle(tmp_path / ("model.tar.gz" if packed else "model"), members)
    with pytest.raises(BundleError, match=r"model\.onnx: is not the file that was packed \(sha256 differs\)"):
        load_model(path)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_weights_that_were_tampered_with_beside_a_graph(tmp_path: Path, packed: bool) -> None:
    """They are not run, and still no bundle is taken that is not what was packed."""
    members = bundle_members(graph=of(OLD_WEIGHTS), weights=OLD_WEIGHTS) | {WEIGHTS: NEW_WEIGHTS}
    path = a_bundle(tmp_path / ("model.tar.gz" if packed else "model"), members)
    with pytest.raises(BundleError, match=r"model\.pth: is not the file that was packed \(sha256 differs\)"):
        load_model(path, runtime="onnx")


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
def test_a_graph_of_other_weights_is_stale(tmp_path: Path, packed: bool) -> None:
    members = bundle_members(graph=of(OLD_WEIGHTS), weights=NEW_WEIGHTS)
    path = a_bundle(tmp_path / ("model.tar.gz" if packed else "model"), members)
    message = (
        r"model\.onnx: was made from other weights than the model\.pth beside it\. Export it again: sightline bundle export"
    )
    with pytest.raises(BundleError, match=message):
        load_model(path, runtime="onnx")
    assert describe(path)["graph"]["stale"] is True  # type: ignore[index]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("INPUT.MIN_SIZE_TEST", "128"),
            r"was made with INPUT\.MIN_SIZE_TEST = 64, and config\.yaml has 128\. Export it again",
        ),
        (("INPUT.MAX_SIZE_TEST", "128"), r"was made with INPUT\.MAX_SIZE_TEST = 96, and config\.yaml has 128"),
        (("MODEL.MASK_ON", "True"), r"was made with masks = False, and config\.yaml has True"),
        (("MODEL.ROI_HEADS.NUM_CLASSES", "3"), r"was made with classes = 2, and config\.yaml has 3"),
    ],
)
def test_a_graph_of_another_configuration_is_stale(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    path = a_bundle(tmp_path / "model", bundle_members(*overrides, class_names=[]))
    with pytest.raises(BundleError, match=message):
        load_model(path, class_names=["a", "b", "c"] if "3" in overrides else None)


def test_a_graph_alone_brings_its_class_names(tmp_path: Path) -> None:
    members = {name: content for name, content in bundle_members().items() if name != MANIFEST}
    path = a_bundle(tmp_path / "model", members)
    assert load_model(path).class_names == ("cat", "dog")
    assert load_model(path, class_names=["Katze", "Hund"]).class_names == ("Katze", "Hund")


def test_neither_weights_nor_graph(tmp_path: Path) -> None:
    members = {name: content for name, content in bundle_members().items() if name == "config.yaml"}
    with pytest.raises(BundleError, match=r"has no model\.pth \(it holds config\.yaml\)"):
        load_model(a_bundle(tmp_path / "model", members))


def test_weights_are_left_unread_where_the_graph_will_do(tmp_path: Path) -> None:
    members = bundle_members(graph=of(OLD_WEIGHTS), weights=OLD_WEIGHTS)
    folder, archive = a_bundle(tmp_path / "model", members), a_bundle(tmp_path / "model.tar.gz", members)
    for path, left_out in ((folder, folder / WEIGHTS), (archive, Passed(sha256(OLD_WEIGHTS)))):
        files = read_model_files(path, graph_first=True)
        assert (files.weights, files.left_out) == (b"", left_out)
        assert files.weights_sha256() == sha256(OLD_WEIGHTS)
        assert read_model_files(path).weights == OLD_WEIGHTS
    assert read_model_files(folder).graph == folder / GRAPH  # not read either


def test_members_in_any_order(tmp_path: Path) -> None:
    members = bundle_members(graph=of(OLD_WEIGHTS), weights=OLD_WEIGHTS)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as made:
        for name in (WEIGHTS, GRAPH, "config.yaml", MANIFEST):
            entry = tarfile.TarInfo(name)
            entry.size = len(members[name])
            made.addfile(entry, io.BytesIO(members[name]))
    files = read_model_files(tmp_path / "model.tar.gz", graph_first=True)
    assert (files.weights, files.left_out) == (b"", Passed(sha256(OLD_WEIGHTS)))
    assert json.loads(members[MANIFEST])["files"][GRAPH] == sha256(files.graph)  # type: ignore[arg-type]
