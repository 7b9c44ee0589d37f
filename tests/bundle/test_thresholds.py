"""Thresholds that an evaluation chose: kept with run and bundle, given back by class, refused for other weights."""

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from builders import a_painting, a_run

from sightline.bundle.archive import describe
from sightline.bundle.load import load_model
from sightline.bundle.pack import pack_run
from sightline.bundle.thresholds import store_thresholds
from sightline.errors import BundleError
from sightline.records import ImageSize
from sightline.training.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return a_run(tmp_path / "run")


def test_they_travel_from_the_run_into_the_bundle(run: Run, tmp_path: Path) -> None:
    assert load_model(run.folder).thresholds is None
    store_thresholds(run.folder, {"dog": 0.25}, "f1")
    assert load_model(run.folder).thresholds == (0.0, 0.25)
    packed = pack_run(run.folder, tmp_path / "model.tar.gz")
    model = load_model(packed.path)
    assert model.thresholds == (0.0, 0.25)
    assert model.facts["thresholds"]["chosen_for"] == "f1"  # type: ignore[index]
    assert describe(packed.path)["thresholds"]["per_class"] == {"dog": 0.25}  # type: ignore[index]


def test_they_stay_with_their_classes_under_other_names(run: Run, tmp_path: Path) -> None:
    store_thresholds(run.folder, {"dog": 0.25, "cat": 0.5}, "f1")
    packed = pack_run(run.folder, tmp_path / "model.tar.gz", ["Katze", "Hund"])
    assert load_model(packed.path).thresholds == (0.5, 0.25)
    assert load_model(packed.path, class_names=["un", "deux"]).thresholds == (0.5, 0.25)


def test_a_bundle_is_told_later(run: Run, tmp_path: Path) -> None:
    """Archive and folder; all else in it stays as it was, to the byte."""
    packed = pack_run(run.folder, tmp_path / "model.tar.gz")
    before = load_model(packed.path)
    with tarfile.open(packed.path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    for bundle in (Path(packed.path), tmp_path / "unpacked"):
        store_thresholds(bundle, {"cat": 0.75}, "precision=0.9")
        store_thresholds(bundle, {"cat": 0.5}, "recall=0.9")
        after = load_model(bundle)
        assert after.thresholds == (0.5, 0.0)
        assert {name: after.facts[name] for name in before.facts} == before.facts
    picture = a_painting(ImageSize(70, 90), [(10, 10, 40, 50)], seed=1)
    (one,), (other,) = before.predict([picture]), after.predict([picture])
    np.testing.assert_array_equal(one.scores, other.scores)  # prediction itself gives all that it gave
    kept = (one.scores >= 0.5) | (one.labels == 1)
    np.testing.assert_array_equal(one.above(after.thresholds).scores, one.scores[kept])


def test_other_weights_need_other_thresholds(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store_thresholds(run.folder, {"cat": 0.5}, "f1")
    other = a_run(tmp_path / "other", "SEED", "5")
    (run.folder / "model_final.pth").write_bytes((other.folder / "model_final.pth").read_bytes())
    message = r"thresholds: were chosen for other weights\. Choose them again: sightline evaluate"
    assert load_model(run.folder).thresholds is None  # to choose them again, it must load
    assert re.search("chosen for other weights, and are not used", caplog.text)
    with pytest.raises(BundleError, match=message):
        pack_run(run.folder, tmp_path / "model.tar.gz")
    store_thresholds(run.folder, {"cat": 0.5}, "f1")
    assert load_model(run.folder).thresholds == (0.5, 0.0)


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"wolf": 0.5}, "classes that the model does not have: wolf"),
        ({"cat": 1.5}, "thresholds: are "),
        ({"cat": float("nan")}, "thresholds: are "),
    ],
)
def test_what_is_no_threshold_of_this_model(run: Run, thresholds: dict[str, float], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        store_thresholds(run.folder, thresholds, "f1")
    assert not (run.folder / "thresholds.json").exists()


def test_what_was_changed_by_hand_is_looked_at(run: Run) -> None:
    store_thresholds(run.folder, {"cat": 0.5}, "f1")
    path = run.folder / "thresholds.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(told | {"per_class": {"cat": "much"}}), encoding="utf-8")
    with pytest.raises(BundleError, match="thresholds: are "):
        load_model(run.folder)


@pytest.mark.parametrize("model", ["http://127.0.0.1:1", "s3://bucket/model.tar.gz"])
def test_what_is_elsewhere_cannot_be_told(model: str) -> None:
    with pytest.raises(BundleError, match="is not on this machine"):
        store_thresholds(model, {}, "f1")


def test_a_folder_of_detectron2s_is_packed_first(run: Run) -> None:
    (run.folder / "run.json").unlink()
    with pytest.raises(BundleError, match=r"is neither a run nor a bundle\. Pack it first"):
        store_thresholds(run.folder, {}, "f1")
