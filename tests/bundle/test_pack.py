"""A run, or any weights with their configuration, to one file; nothing half-written when that fails."""

import hashlib
import io
import json
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from builders import a_config, a_detector, a_run

import sightline
from sightline import storage
from sightline.bundle.archive import read_archive, sha256, write_archive
from sightline.bundle.load import load_model
from sightline.bundle.pack import bundle_members, pack_files, pack_run
from sightline.config.sources import load
from sightline.config.yaml_dialect import dump, load_file
from sightline.errors import BundleError, CheckpointError, ConfigError, SightlineError
from sightline.storage import unpack
from sightline.training.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return a_run(tmp_path_factory.mktemp("trained") / "run")


def weights_file(folder: Path) -> Path:
    torch.save({"model": a_detector().state_dict(), "optimizer": {"state": {}}, "iteration": 9}, folder / "weights.pth")
    return folder / "weights.pth"


def config_file(folder: Path, text: str | None = None) -> Path:
    (folder / "my.yaml").write_text(dump(a_config()) if text is None else text, encoding="utf-8")
    return folder / "my.yaml"


def test_what_a_bundle_of_a_run_holds(run: Run, tmp_path: Path) -> None:
    (run.folder / "inference").mkdir(exist_ok=True)
    (run.folder / "inference" / "scores.json").write_text('{"bbox": {"AP50": 0.25}}', encoding="utf-8")
    packed = pack_run(run.folder, tmp_path / "deep" / "model.tar.gz")
    members = read_archive(packed.path)
    code = ["code/inference.py", "code/requirements.txt", f"code/sightline-{sightline.__version__}.zip"]
    assert sorted(members) == ["bundle.json", *code, "config.yaml", "model.pth"]
    assert members["config.yaml"] == (run.folder / "config.yaml").read_bytes()
    manifest = json.loads(members["bundle.json"])
    assert (manifest["format"], manifest["class_names"], manifest["score_threshold"]) == (1, ["cat", "dog"], 0.05)
    assert (manifest["training"]["images"], manifest["scores"]) == (6, {"bbox": {"AP50": 0.25}})
    assert manifest["files"] == {name: sha256(members[name]) for name in (*code, "config.yaml", "model.pth")}


def test_what_is_told_of_a_bundle(run: Run, tmp_path: Path) -> None:
    packed = pack_run(run.folder, tmp_path / "model.tar.gz")
    content = packed.path.read_bytes()
    assert (packed.class_names, packed.size_bytes) == (("cat", "dog"), len(content))
    assert packed.sha256 == hashlib.sha256(content).hexdigest()


def test_packing_twice_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    assert pack_run(run.folder, tmp_path / "a.tar.gz").sha256 == pack_run(run.folder, tmp_path / "b.tar.gz").sha256


def test_only_the_models_tensors_travel(run: Run, tmp_path: Path) -> None:
    """Momentum would double the size."""
    packed = pack_run(run.folder, tmp_path / "model.tar.gz")
    (tmp_path / "model.pth").write_bytes(read_archive(packed.path)["model.pth"])
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    assert set(content) == {"model"}
    assert set(content["model"]) == set(a_detector().state_dict())


def test_files_from_anywhere(tmp_path: Path) -> None:
    packed = pack_files(weights_file(tmp_path), config_file(tmp_path), tmp_path / "m.tar.gz", ["Hund", "Katze ß"])
    model = load_model(packed.path)
    assert (model.class_names, model.facts.keys()) == (("Hund", "Katze ß"), {"runtime", "precision"})


def test_a_config_on_a_base_travels_written_out(tmp_path: Path) -> None:
    config_file(tmp_path).replace(tmp_path / "base.yaml")
    config = config_file(tmp_path, "_BASE_: base.yaml\nSEED: 77\n")
    packed = pack_files(weights_file(tmp_path), config, tmp_path / "m.tar.gz")
    (tmp_path / "out.yaml").write_bytes(read_archive(packed.path)["config.yaml"])
    assert load_file(tmp_path / "out.yaml") == a_config("SEED", "77")


def test_names_given_when_packing_go_before_the_runs(run: Run, tmp_path: Path) -> None:
    assert load_model(pack_run(run.folder, tmp_path / "m.tar.gz", ["a", "b"]).path).class_names == ("a", "b")


def test_an_existing_bundle_is_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_text("old", encoding="utf-8")
    pack_run(run.folder, tmp_path / "model.tar.gz")
    assert load_model(tmp_path / "model.tar.gz").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("config", "weights", "names", "error", "message"),
    [
        pytest.param(None, None, ["one"], BundleError, "has 2 classes, but 1 class names", id="names"),
        pytest.param("SEEED: 1", None, None, ConfigError, "unknown key 'SEEED'", id="a key"),
        pytest.param("MODEL: {KEYPOINT_ON: true}", None, None, ConfigError, "which is not supported", id="keypoints"),
        pytest.param("_BASE_: gone.yaml", None, None, ConfigError, r"gone\.yaml: cannot be read", id="a base"),
        pytest.param(None, b"", None, CheckpointError, r"weights\.pth: is damaged", id="empty weights"),
    ],
)
def test_what_cannot_be_loaded_is_not_packed(
    tmp_path: Path,
    config: str | None,
    weights: bytes | None,
    names: list[str] | None,
    error: type[SightlineError],
    message: str,
) -> None:
    checkpoint = weights_file(tmp_path)
    if weights is not None:
        checkpoint.write_bytes(weights)
    with pytest.raises(error, match=message):
        pack_files(checkpoint, config_file(tmp_path, config), tmp_path / "out" / "m.tar.gz", names)
    assert not (tmp_path / "out").exists()


def test_another_family_is_told_before_the_number_of_names(tmp_path: Path) -> None:
    narrow = ["MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.FPN.OUT_CHANNELS", "16"]
    config_file(tmp_path, dump(load("COCO-Detection/retinanet_R_50_FPN_1x", narrow))).rename(tmp_path / "config.yaml")
    weights_file(tmp_path).rename(tmp_path / "model_final.pth")
    with pytest.raises(CheckpointError, match=r"looks like a Faster R-CNN.*, the configuration describes a RetinaNet"):
        pack_run(tmp_path, tmp_path / "m.tar.gz", ["one"])


def an_old_archive(folder: Path, weights: str, **more: str) -> Path:
    """Detectron2's files in an archive, as the 2021 samples made it."""
    files = {weights: weights_file(folder).read_bytes(), "config.yaml": config_file(folder).read_bytes()}
    files |= {name.replace("_json", ".json"): text.encode() for name, text in more.items()}
    with (folder / "old.tar.gz").open("wb") as file:
        write_archive({**files, "code/train.py": b"raise SystemExit"}, file)
    return folder / "old.tar.gz"


@pytest.mark.parametrize("weights", ["model.pth", "model_final.pth"])
def test_an_archive_without_a_description_gets_one(tmp_path: Path, weights: str) -> None:
    packed = pack_run(an_old_archive(tmp_path, weights), tmp_path / "new.tar.gz", ["cat", "dog"])
    members = read_archive(packed.path)
    assert json.loads(members["bundle.json"])["class_names"] == ["cat", "dog"]
    assert "code/inference.py" in members and "code/train.py" not in members
    assert load_model(packed.path, device="cpu").class_names == ("cat", "dog")
    assert bundle_members(tmp_path / "old.tar.gz", ["cat", "dog"]) == members


def test_an_archived_run_brings_its_names(tmp_path: Path) -> None:
    archived = an_old_archive(tmp_path, "model_final.pth", run_json='{"class_names": ["bee", "wasp"], "images": 3}')
    packed = pack_run(archived, tmp_path / "new.tar.gz")
    assert packed.class_names == ("bee", "wasp")
    assert json.loads(read_archive(packed.path)["bundle.json"])["training"] == {"images": 3}


@pytest.mark.parametrize("packed", [True, False])
def test_a_bundle_packed_again_keeps_what_it_tells(run: Run, tmp_path: Path, packed: bool) -> None:
    first = tmp_path / "first.tar.gz"
    pack_run(run.folder, first, ["bee", "wasp"])
    if not packed:
        unpack(first, tmp_path / "first", first)
    again = pack_run(first if packed else tmp_path / "first", tmp_path / "again.tar.gz")
    assert (again.class_names, Path(again.path).read_bytes()) == (("bee", "wasp"), first.read_bytes())


@pytest.mark.parametrize(
    ("missing", "error", "message"),
    [
        ("weights.pth", BundleError, r"weights\.pth: does not exist\. Check the path\."),
        ("my.yaml", ConfigError, r"my\.yaml: is no preset, no zoo name and no file"),
    ],
)
def test_files_that_are_missing(tmp_path: Path, missing: str, error: type[SightlineError], message: str) -> None:
    weights, config = weights_file(tmp_path), config_file(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(error, match=message):
        pack_files(weights, config, tmp_path / "m.tar.gz")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ((), r"run: has no config\.yaml and no model\.pth\. Give the folder of a finished training"),
        (("config.yaml",), r"run: has no model\.pth\."),
        (None, r"run: does not exist\. Give the folder that `sightline train` wrote, or an archive"),
    ],
)
def test_folders_that_are_no_run(tmp_path: Path, there: tuple[str, ...] | None, message: str) -> None:
    if there is not None:
        (tmp_path / "run").mkdir()
        for name in there:
            (tmp_path / "run" / name).write_text("", encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        pack_run(tmp_path / "run", tmp_path / "m.tar.gz")
    assert not (tmp_path / "m.tar.gz").exists()


def test_a_write_that_is_cut_off_leaves_the_bundle_before(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model.tar.gz"
    pack_run(run.folder, target)
    before = target.read_bytes()

    def fail(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        pack_run(run.folder, target, ["other", "names"])
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]


def a_zoo_file(folder: Path) -> Path:
    """The detector's weights as Detectron2's model zoo publishes them: arrays in a pickle, the digest in the name."""
    content = pickle.dumps(
        {
            "model": {name: value.numpy() for name, value in a_detector().state_dict().items()},
            "__author__": "Detectron2 Model Zoo",
        }
    )
    path = folder / f"model_final_{hashlib.md5(content).hexdigest()[:6]}.pkl"
    path.write_bytes(content)
    return path


def test_a_zoo_pickle_is_packed_as_it_is(tmp_path: Path) -> None:
    packed = pack_files(a_zoo_file(tmp_path), config_file(tmp_path), tmp_path / "model.tar.gz")
    kept = torch.load(io.BytesIO(read_archive(packed.path)["model.pth"]), weights_only=True)["model"]
    assert kept.keys() == a_detector().state_dict().keys()


def test_weights_behind_an_address_are_fetched(tmp_path: Path) -> None:
    """A real server on loopback; the second packing asks it no more."""
    published = a_zoo_file(tmp_path)
    with serving_files(tmp_path) as address:
        packed = pack_files(f"{address}/{published.name}", config_file(tmp_path), tmp_path / "a.tar.gz", cache=tmp_path / "c")
    again = pack_files(f"{address}/{published.name}", config_file(tmp_path), tmp_path / "b.tar.gz", cache=tmp_path / "c")
    assert packed.sha256 == again.sha256


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_zoo_name_is_a_configuration(tmp_path: Path) -> None:
    """Its weights are another matter: these belong to a small detector, and the message says so."""
    with pytest.raises(CheckpointError, match="configuration"):
        pack_files(weights_file(tmp_path), "COCO-Detection/faster_rcnn_R_50_C4_1x", tmp_path / "model.tar.gz")
    assert not (tmp_path / "model.tar.gz").exists()
