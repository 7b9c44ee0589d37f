"""Every notebook from top to bottom in a kernel of its own, with few steps; those for AWS on the local twin and moto."""

import importlib.util
import io
import json
import os
import re
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import nbformat
import pytest
from cloud.conftest import SETTINGS, TRUST, log_in, push
from cloud.platform import runtime_before
from moto.server import ThreadedMotoServer
from nbformat import NotebookNode

import sightline
from sightline import labels
from sightline.cloud.account import Account, open_account

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))

SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "1"]
QUICK = {
    "drawn_pictures": 16,
    "at_most": 6,
    "settings": ["SOLVER.MAX_ITER", "2", *SMALL],
    "workers": 0,
    "smaller_side": 48,
}
"""Values of parameters with which everything happens, and nothing is learned."""

Ran = Callable[..., "Executed"]


class Executed:
    """A notebook that was run."""

    def __init__(self, notebook: NotebookNode) -> None:
        self.notebook = notebook
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        self.text = "".join(output.text for output in outputs if output.output_type == "stream")
        self.pictures = [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]


def load_execute() -> Any:
    spec = importlib.util.spec_from_file_location("notebooks_execute", NOTEBOOKS / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXECUTE = load_execute()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the notebooks run, one after the other: what one has made, the next takes."""
    made = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
            monkeypatch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield made


@pytest.fixture(scope="module")
def ran(folder: Path) -> Ran:
    """Run a notebook, once with the same values."""
    done: dict[str, Executed] = {}

    def run(name: str, **values: object) -> Executed:
        key = name + repr(values)
        if key not in done:
            notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
            known = EXECUTE.parameters(notebook)
            quick = {parameter: value for parameter, value in QUICK.items() if parameter in known}
            done[key] = Executed(EXECUTE.execute(EXECUTE.with_parameters(notebook, {**quick, **values}), folder))
        return done[key]

    return run


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kept(name: str) -> NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def texts(value: object) -> Iterator[str]:
    """Every text in an output, but for pictures."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            if not str(key).startswith("image/"):
                yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def test_there_is_one_for_each_step() -> None:
    steps = ("ground_truth", "open_images", "train", "train_on_sagemaker", "evaluate", "deploy", "bring_your_own")
    assert [f"{number}_{step}" for number, step in enumerate(steps, 1)] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_whole(name: str) -> None:
    notebook = kept(name)
    nbformat.validate(notebook)
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 300_000
    assert notebook.metadata == {"kernelspec": EXECUTE.KERNEL, "language_info": {"name": "python"}}
    cells = code_cells(notebook)
    assert len(cells) <= 12
    assert cells[0].metadata["tags"] == ["parameters"]
    assert not any(cell.metadata for cell in cells[1:])
    assert EXECUTE.parameters(notebook)["work"] == "work"
    for parameter in EXECUTE.parameters(notebook):
        assert any(re.search(rf"\b{parameter}\b", cell.source) for cell in cells[1:]), parameter


@pytest.mark.parametrize("name", NAMES)
def test_its_output_is_kept_and_says_nothing_of_the_machine(name: str) -> None:
    cells = code_cells(kept(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert any("image/jpeg" in output.get("data", {}) for output in outputs) or name == "4_train_on_sagemaker"
    for text in texts(outputs):
        found = re.search(r"(?<![\w:.])/(work|tmp|home|root|Users|usr|mnt|var|private)/|[A-Z]:\\|Traceback|simple/", text)
        assert found is None, text


@pytest.mark.parametrize("name", NAMES)
def test_what_it_points_to_is_there(name: str) -> None:
    said = "".join(cell.source for cell in kept(name).cells if cell.cell_type == "markdown")
    pointed = [address for address in re.findall(r"\]\(([^)#]+)", said) if not address.startswith("https://")]
    assert pointed
    for address in pointed:
        assert (NOTEBOOKS / address).exists(), address


def test_other_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match=r"no parameter wrok\. Known: work, data"):
        EXECUTE.with_parameters(kept("3_train"), {"wrok": "elsewhere"})


def test_ground_truth(ran: Ran, folder: Path) -> None:
    done = ran("1_ground_truth")
    assert "ground-truth: 16 images" in done.text
    for fault in ("faulty.manifest:2, box 1: has a box outside", "faulty.manifest:3, box 1: has class_id 7", ":4: is not JSON"):
        assert fault in done.text
    assert done.pictures == ["image/jpeg"]
    assert sightline.open_part(folder / "work/data", "train").dataset.class_names == ("balloon", "kite")
    train = sightline.open_part(folder / "work/data", "train").dataset
    for written in ("train.json", "train.manifest"):
        assert labels.read(folder / "work" / written).dataset.instance_count == train.instance_count
    yolo = (folder / "work/train_yolo").rglob("*.txt")
    assert sum(len(path.read_text().splitlines()) for path in yolo if path.parent.name != "train_yolo") == train.instance_count
    assert (folder / "work/check/index.html").is_file()


def test_ones_own_manifest(ran: Ran, folder: Path) -> None:
    ran("1_ground_truth")
    own = {"manifests": ["work/train.manifest"], "pictures": "work/data/images", "rename": {"kite": "dragon"}}
    done = ran("1_ground_truth", work="own/first", **own)
    assert "dragon: " in done.text
    assert not (folder / "own/first/drawn").exists()
    assert sightline.open_part(folder / "own/first/data", "test").dataset.class_names == ("balloon", "dragon")


def test_open_images(ran: Ran, folder: Path) -> None:
    done = ran("2_open_images")
    assert "open-images: 6 images" in done.text
    assert "the class 'Balloon'" in done.text
    public = labels.read(folder / "work/open_images.manifest").dataset
    assert public.class_names == ("Balloon", "Kite")
    joined = sightline.open_part(folder / "work/joined", "all").dataset
    assert joined.class_names == ("balloon", "kite")
    assert len(joined.images) == 16 + 6
    assert {image.file_name for image in public.images} < {Path(image.file_name).name for image in joined.images}


def test_train(ran: Ran, folder: Path) -> None:
    done = ran("3_train")
    assert "Did you mean 'SOLVER.MAX_ITER'?" in done.text
    assert "2 steps, work/run/model_final.pth" in done.text
    assert done.pictures == ["image/jpeg", "image/png", "image/jpeg"]
    assert sightline.load_model(folder / "work/model.tar.gz").class_names == ("balloon", "kite")


def test_train_on_the_local_twin(ran: Ran, folder: Path) -> None:
    done = ran("4_train_on_sagemaker")
    given = json.loads((folder / "work/opt_ml/input/config/hyperparameters.json").read_text())
    assert given["SOLVER.MAX_ITER"] == "2"
    assert "doubts: none" in done.text
    assert "sagemaker:CreateTrainingJob" in done.text
    assert (folder / "work/run_sagemaker/model.pth").is_file()
    assert re.search(r"^AP \d\.\d+, AP50 \d\.\d+", done.text, re.MULTILINE)
    assert str(folder) not in done.text


def test_evaluate(ran: Ran, folder: Path) -> None:
    done = ran("5_evaluate")
    assert "kind of error" in done.text
    assert "B: work/smaller.tar.gz" in done.text
    assert "for precision=0.9:" in done.text
    assert done.pictures == ["image/png", "image/jpeg"]
    assert (folder / "work/evaluation/scores.json").is_file()
    assert (folder / "work/evaluation/report/index.html").is_file()


def test_deploy_on_the_local_twin(ran: Ran, folder: Path) -> None:
    done = ran("6_deploy")
    assert "it answers, and knows: balloon, kite" in done.text
    same = done.text.count(", the same as in this process")
    assert same > 0
    assert "not the same" not in done.text
    assert '400 {\n "error": {\n  "where": "body"' in done.text
    assert "stopped, with exit code 0" in done.text
    assert len((folder / "work/found.jsonl").read_text().splitlines()) == same


def test_bring_your_own(ran: Ran, folder: Path) -> None:
    done = ran("7_bring_your_own")
    assert sorted(path.name for path in (folder / "work/detectron2").iterdir()) == ["config.yaml", "model_final.pth"]
    assert "has 2 classes, but 4 class names" in done.text
    assert "was trained for 2 classes, the configuration says 80" in done.text
    for bundle in ("brought", "lone"):
        assert sightline.load_model(folder / f"work/{bundle}.tar.gz").class_names == ("balloon", "kite")
    assert not (folder / "work/wrong.tar.gz").exists()


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account on loopback with a role and two images, which the kernels see, too."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    log_in(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    opened = open_account(os.environ)
    opened.client("iam").create_role(RoleName="sightline-jobs", AssumeRolePolicyDocument=json.dumps(TRUST))
    for kind in ("train", "serve"):
        push(opened, f"sightline-{kind}", sightline.__version__)
    yield opened
    server.stop()


def packed(folder: Path) -> bytes:
    """A folder as the platform packs it."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        archive.add(folder, ".")
    return written.getvalue()


@contextmanager
def training_platform(account: Account, moto: str, left: Path) -> Iterator[str]:
    """The address of a SageMaker that is moto's, and whose trainings have left what `left`, a folder like /opt/ml, holds."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = urllib.request.Request(moto, body, dict(self.headers))
            with urllib.request.urlopen(request) as answer:
                status, content = answer.status, answer.read()
            if self.headers["X-Amz-Target"].endswith(".CreateTrainingJob"):
                asked = json.loads(body)
                bucket, _, prefix = asked["OutputDataConfig"]["S3OutputPath"].removeprefix("s3://").partition("/")
                for file, part in {"model.tar.gz": "model", "output.tar.gz": "output/data"}.items():
                    key = f"{prefix}{asked['TrainingJobName']}/output/{file}"
                    account.client("s3").put_object(Bucket=bucket, Key=key, Body=packed(left / part))
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    platform = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=platform.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{platform.server_address[1]}"
    platform.shutdown()
    thread.join()
    platform.server_close()


def test_train_on_aws(ran: Ran, folder: Path, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    ran("4_train_on_sagemaker")  # what the job will have left
    with training_platform(account, os.environ["AWS_ENDPOINT_URL"], folder / "work/opt_ml") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", address)
        done = ran("4_train_on_sagemaker", work="aws", data="work/data", on_aws=True)
        (job,) = account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
        told = account.client("sagemaker").describe_training_job(TrainingJobName=job["TrainingJobName"])
    assert told["HyperParameters"]["SOLVER.MAX_ITER"] == "2"
    assert told["EnableManagedSpotTraining"] is True
    assert "CreateTrainingJob" in done.text
    assert (folder / "aws/run_sagemaker/model.pth").read_bytes() == (folder / "work/opt_ml/model/model.pth").read_bytes()
    assert SETTINGS["AWS_SECRET_ACCESS_KEY"] not in done.text


def test_deploy_on_aws(ran: Ran, folder: Path, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    ran("6_deploy")
    model = sightline.load_model(folder / "work/model.tar.gz")
    with sightline.running(model) as server, runtime_before(server) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", address)
        done = ran("6_deploy", work="aws", data="work/data", model="work/model.tar.gz", on_aws=True)
    assert "it answers, and knows: balloon, kite" in done.text
    assert ", the same as in this process" in done.text
    assert "not the same" not in done.text
    assert '400 {"error"' in done.text
    assert "deleted" in done.text
    assert account.client("sagemaker").list_endpoints()["Endpoints"] == []
    assert account.client("sagemaker").list_models()["Models"] == []
