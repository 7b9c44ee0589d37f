"""The commands as a user types them: one process each, results on stdout, errors on stderr with the right exit code."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline import labels
from sightline.cli.main import main
from sightline.dataset import drawn

TINY = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.FPN.OUT_CHANNELS", "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "INPUT.MIN_SIZE_TRAIN", "(96,)", "INPUT.MIN_SIZE_TEST", "96",
    "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "2",
]  # fmt: skip


def sightline(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`sightline WORDS`, which must end with `code` and never with a stack trace."""
    command = [sys.executable, "-c", "from sightline.cli.main import main; main()", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


Refused = Callable[..., str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """What `sightline WORDS` says when it ends with 2. In this process, because a new one imports torch for seconds."""

    def run(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, words)])
        with pytest.raises(SystemExit) as ending:
            main()
        assert ending.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with output.manifest and images/."""
    folder = tmp_path_factory.mktemp("job")
    labels.write(
        drawn.write(folder, 20, seed=5), folder / "output.manifest", format="ground-truth", prefix="s3://bucket/images"
    )
    return folder


@pytest.fixture(scope="module")
def travelled(job: Path) -> Path:
    """The work folder of a journey over the job."""
    work = job / "work"
    sightline("run", job / "output.manifest", "--images", job / "images", "-o", work, "--workers", 0, *TINY)
    return work


def test_help_names_every_command() -> None:
    text = sightline("--help").stdout
    assert all(name in text for name in ("run", "demo", "dataset", "train", "evaluate", "predict", "bundle", "serve"))
    assert sightline("--version").stdout.startswith("sightline ")


def test_run_tells_its_stages_and_prints_the_bundle(job: Path, travelled: Path) -> None:
    again = sightline(
        "run", job / "output.manifest", "--images", job / "images", "-o", travelled, "--workers", 0, *TINY, "--json"
    )
    assert again.stderr.count("still valid, skipped") == 5
    outcome = json.loads(again.stdout)
    assert outcome["bundle"] == str(travelled / "model.tar.gz")
    assert "AP50" in outcome["scores"]["bbox"]


def test_train_evaluate_pack_predict(
    travelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process of its own predicts, as one trains for `travelled`; the others run in this one, which has torch already."""

    def said(*words: object) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", *map(str, words)])
        with pytest.raises(SystemExit) as ending:
            main()
        assert ending.value.code == 0
        return capsys.readouterr()

    run, bundle, found = tmp_path / "run", tmp_path / "model.tar.gz", tmp_path / "found.jsonl"
    train = ["train", "--data", travelled / "dataset", "-o", run, "--workers", 0]
    out, err = said(*train, "--json", *TINY, "SEED", "-1")
    assert json.loads(out)["class_names"] == ["balloon", "kite"]
    assert "total_loss: " in err
    out, err = said(*train, "--resume", *TINY, "SOLVER.MAX_ITER", "4")
    assert "resumed from" in err
    assert "4 steps" in out
    scores = json.loads(said("evaluate", run, "--data", travelled / "dataset", "--json")[0])
    assert scores["bbox"].pop("analysis")
    assert json.loads((run / "inference" / "scores.json").read_text()) == scores
    packed = json.loads(said("bundle", "pack", run, "-o", bundle, "--json")[0])
    assert packed["class_names"] == ["balloon", "kite"]
    inspected = json.loads(said("bundle", "inspect", bundle, "--json")[0])
    assert inspected["scores"] == scores
    pictures = travelled / "dataset" / "images"
    sightline("predict", bundle, pictures, "-o", found, "--draw", tmp_path / "drawn", "--draw-threshold", 0.01)
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    assert len(lines) == len(list(pictures.iterdir())) == len(list((tmp_path / "drawn").iterdir()))
    assert {"image", "image_size", "pred_boxes", "scores", "pred_classes", "class_names"} == lines[0].keys()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--data", "nowhere"], "error: nowhere", id="no data set"),
        pytest.param(["--config", "smal"], "Did you mean 'small'?", id="misspelt preset"),
        pytest.param(["SOLVER.MAX_ITERS", "5"], "Did you mean 'SOLVER.MAX_ITER'?", id="misspelt key"),
        pytest.param(["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER is 'many'. Give a whole number.", id="wrong type"),
        pytest.param(["SOLVER.MAX_ITER"], "no KEY VALUE pairs", id="key without value"),
        pytest.param(["--wieghts", "x.pth"], "--wieghts: is no option of this command", id="misspelt option"),
        pytest.param(["MODEL.KEYPOINT_ON", "True"], "MODEL.KEYPOINT_ON is True", id="unsupported"),
        pytest.param(["MODEL.ROI_HEADS.NUM_CLASSES", "7"], "the data set has 2 classes (balloon, kite)", id="contradiction"),
        pytest.param(["--weights", "none.pth"], "none.pth: does not exist", id="no weights"),
        pytest.param(["--device", "cuda:99"], "error: device: 'cuda:99' cannot be used", id="no such device"),
    ],
)
def test_train_refuses(words: list[str], expected: str, travelled: Path, tmp_path: Path, refused: Refused) -> None:
    data = [] if "--data" in words else ["--data", travelled / "dataset"]
    assert expected in refused("train", *data, "-o", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


def test_other_refusals(travelled: Path, tmp_path: Path, refused: Refused) -> None:
    assert "does not exist" in refused("predict", tmp_path / "none", travelled / "dataset" / "images")
    assert "Name a train and a test part" in refused("run", "x", "-o", tmp_path / "w", "--fractions", "a=1")
    assert "Give one of the two" in refused("bundle", "pack", "--weights", "x.pth")
    assert "has no part" in refused("evaluate", travelled / "run", "--data", travelled / "dataset", "--split", "b")


def test_what_the_system_refuses_is_told_with_its_place(job: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    words = ["dataset", "import", job / "output.manifest", "--labels-only", "-o", tmp_path / "file" / "data"]
    monkeypatch.setattr(sys, "argv", ["sightline", *map(str, words)])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 1
    assert "file: File exists. Check the path, its permissions and the space that is left." in capsys.readouterr().err
