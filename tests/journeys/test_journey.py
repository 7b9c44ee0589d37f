"""Whole paths: labels to an HTTP answer, what a second call skips and redoes, and a training that was cut short."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from sightline import journey, labels, wire
from sightline.bundle.load import load_model
from sightline.dataset import drawn
from sightline.dataset.folder import open_part
from sightline.errors import ConfigError, DatasetError, SightlineError
from sightline.images import read_image
from sightline.serving.server import running
from sightline.training.state import FINAL, last_checkpoint

TINY = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", "96",
    "SOLVER.IMS_PER_BATCH", "4", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "SOLVER.CHECKPOINT_PERIOD", "5",
]  # fmt: skip
FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


def draw_job(folder: Path, pictures: int = 20) -> Path:
    """A labelling job's manifest in `folder`, its pictures in `folder`/images."""
    dataset = drawn.write(folder, pictures, seed=3)
    labels.write(dataset, folder / "output.manifest", format="ground-truth", prefix="s3://bucket/some job/images")
    return folder / "output.manifest"


def travel(manifest: Path, work: Path, *, steps: int = 4, **options: object) -> tuple[journey.Journey, list[str]]:
    """A journey with a tiny network, and what it said."""
    said: list[str] = []
    overrides = [*TINY, "SOLVER.MAX_ITER", str(steps), *options.pop("overrides", [])]
    done = journey.run(
        [manifest], work, images=manifest.parent / "images", overrides=overrides, workers=0, say=said.append,
        show=lambda progress: None, **{"fractions": FRACTIONS, **options},
    )  # fmt: skip
    return done, said


def skipped(said: list[str]) -> list[str]:
    """The stages that were still valid."""
    return [line.split()[1] for line in said if "still valid" in line]


def test_labels_to_http_answer(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job", pictures=24)
    done, said = travel(manifest, tmp_path / "work", steps=20)
    assert [line for line in said if re.match(r"\[\d/5\]", line)][-1].startswith("[5/5] pack")
    stored = json.loads((done.run / "inference" / "scores.json").read_text())
    assert stored == done.scores
    assert 0 <= stored["bbox"]["AP50"] <= 1
    page = done.run / "report" / "index.html"
    assert any(str(page) in line for line in said)
    assert page.read_text(encoding="utf-8").count("data:image/jpeg") > 0

    part = open_part(done.dataset, "test")
    paths = [part.images_dir / image.file_name for image in part.dataset.images]
    bundle = load_model(done.bundle)
    assert bundle.class_names == ("balloon", "kite")
    assert bundle.facts["scores"] == stored
    from_run = load_model(done.run).predict([read_image(path) for path in paths])
    from_bundle = bundle.predict([read_image(path) for path in paths])
    for one, other in zip(from_run, from_bundle, strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.scores, other.scores)

    with running(bundle) as address:
        for path in paths:
            request = urllib.request.Request(
                f"{address}/invocations", data=path.read_bytes(), headers={"Content-Type": "image/jpeg"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                served = json.loads(answer.read())
            (local,) = bundle.predict([read_image(path)])
            assert served == wire.to_json(local, bundle.class_names)
            assert served["scores"], "a threshold of 0 finds something in every picture"


def test_a_second_call_skips_what_is_valid_and_redoes_what_changed(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job")
    work = tmp_path / "work"
    first, said = travel(manifest, work)
    assert skipped(said) == []
    again, said = travel(manifest, work)
    assert skipped(said) == ["import", "split", "train", "evaluate", "pack"]
    assert again == first

    _, said = travel(manifest, work, overrides=["SOLVER.BASE_LR", "0.01"])
    assert skipped(said) == ["import", "split"]
    _, said = travel(manifest, work, overrides=["SOLVER.BASE_LR", "0.01"], split_seed=1)
    assert skipped(said) == ["import"]
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]))
    name = json.loads(lines[0])["boxes-metadata"]["class-map"].popitem()[1]
    asked = labels.ReadOptions(rename=((name, "another"),))
    _, said = travel(manifest, work, overrides=["SOLVER.BASE_LR", "0.01"], split_seed=1, reading=asked)
    assert skipped(said) == []
    assert "another" in next(line for line in said if "import" in line)
    _, said = travel(manifest, work, overrides=["SOLVER.BASE_LR", "0.01"], split_seed=1)
    assert skipped(said) == []
    assert "19 images" in next(line for line in said if "import" in line)


def test_what_was_removed_is_made_again(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job")
    first, _ = travel(manifest, tmp_path / "work")
    before = first.bundle.read_bytes()
    first.bundle.unlink()
    again, said = travel(manifest, tmp_path / "work")
    assert skipped(said) == ["import", "split", "train", "evaluate"]
    assert again.bundle.read_bytes() == before


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_journey
from sightline import journey
from sightline.training import hooks
original = hooks.SaveCheckpoints.after_step
def kill_after_the_first(self, state, losses, batch):
    original(self, state, losses, batch)
    if state.step == 7:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
hooks.SaveCheckpoints.after_step = kill_after_the_first
test_journey.travel(Path(sys.argv[1]), Path(sys.argv[2]), steps=10)
"""


def test_a_killed_training_goes_on_where_it_was(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job")
    work = tmp_path / "work"
    command = [sys.executable, "-c", KILLED, str(manifest), str(work), str(Path(__file__).parent)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert last_checkpoint(work / "run") == work / "run" / "model_0000004.pth"
    assert not (work / "run" / FINAL).exists()
    done, said = travel(manifest, work, steps=10)
    assert skipped(said) == ["import", "split"]
    whole, _ = travel(manifest, tmp_path / "whole", steps=10)
    iterations = [json.loads(line)["iteration"] for line in (done.run / "metrics.json").read_text().splitlines()]
    assert iterations[-1] == 9
    assert load_model(done.run).class_names == load_model(whole.run).class_names
    picture = read_image(next((manifest.parent / "images").iterdir()))
    (resumed,), (uninterrupted,) = load_model(done.run).predict([picture]), load_model(whole.run).predict([picture])
    np.testing.assert_array_equal(resumed.boxes, uninterrupted.boxes)
    np.testing.assert_array_equal(resumed.scores, uninterrupted.scores)


def test_what_no_journey_made_is_never_replaced(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job")
    theirs = tmp_path / "run" / "precious.txt"
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    with pytest.raises(DatasetError, match=r"run: already exists, and no journey made it\. Choose another folder with -o"):
        travel(manifest, tmp_path)
    assert theirs.read_text() == "years of work"
    assert not (tmp_path / "dataset").exists()


def test_other_weights_train_again(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job")
    first, _ = travel(manifest, tmp_path / "first")
    weights = tmp_path / "w.pth"
    weights.write_bytes((first.run / FINAL).read_bytes())
    overrides = ["MODEL.WEIGHTS", str(weights)]
    travel(manifest, tmp_path / "work", overrides=overrides)
    _, said = travel(manifest, tmp_path / "work", overrides=overrides)
    assert len(skipped(said)) == 5
    os.utime(weights, ns=(1, 1))  # as another file of the same size would have
    _, said = travel(manifest, tmp_path / "work", overrides=overrides)
    assert skipped(said) == ["import", "split"]


def test_wrong_options_are_told_before_anything_is_made(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job")
    with pytest.raises(ConfigError, match=r"unknown key .SOLVER\.MAX_ITERS.\. Did you mean .SOLVER\.MAX_ITER.\?"):
        travel(manifest, tmp_path / "work", overrides=["SOLVER.MAX_ITERS", "3"])
    with pytest.raises(ConfigError, match=r"MODEL\.KEYPOINT_ON is True, which is not supported"):
        travel(manifest, tmp_path / "work", overrides=["MODEL.KEYPOINT_ON", "True"])
    with pytest.raises(DatasetError, match="Name a train and a test part"):
        travel(manifest, tmp_path / "work", fractions={"train": 0.5, "rest": 0.5})
    assert not (tmp_path / "work").exists()


def test_a_truncated_picture_is_found_before_training(tmp_path: Path) -> None:
    manifest = draw_job(tmp_path / "job")
    victim = sorted((tmp_path / "job" / "images").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:-900])
    with pytest.raises(SightlineError, match=victim.name):
        travel(manifest, tmp_path / "work")
    assert not (tmp_path / "work" / "dataset").exists()
    _, said = travel(manifest, tmp_path / "work", on_problem="skip")
    assert "19 images" in next(line for line in said if "import" in line and "[1/5]" in line)


def test_demo_ends_with_a_drawn_answer(tmp_path: Path) -> None:
    said: list[str] = []
    done = journey.demo(
        tmp_path / "demo", pictures=24, overrides=[*TINY, "SOLVER.MAX_ITER", "3"], workers=0, say=said.append,
        show=lambda progress: None,
    )  # fmt: skip
    assert read_image(tmp_path / "demo" / "answer.png").ndim == 3
    assert any(line.startswith("AP50 ") for line in said)
    assert any(f"sightline serve {done.bundle}" in line for line in said)


def test_real_bees(shared: Path, tmp_path: Path) -> None:
    """The real job, all 500 pictures, three steps: 1,009 boxes, one class, a PNG that is named .jpg."""
    said: list[str] = []
    done = journey.run(
        [shared / "data" / "bees" / "output.manifest"], tmp_path / "work", images=shared / "data" / "bees" / "images",
        overrides=[*TINY, "SOLVER.MAX_ITER", "3"], workers=0, say=said.append, show=lambda progress: None,
    )  # fmt: skip
    assert "500 images, 1,009 boxes of bee" in next(line for line in said if line.startswith("[1/5]"))
    assert load_model(done.bundle).class_names == ("bee",)
