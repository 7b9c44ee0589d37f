"""Figures in a CSV file, TensorBoard and MLflow, read back with csv, TensorBoard's own reader and MLflow's own client."""

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import MissingDependencyError, SightlineError
from sightline.training.hooks import Progress
from sightline.training.trackers import CsvTracker, MlflowTracker, TensorBoardTracker, database_address

PROGRESS = Progress(
    step=20,
    steps=100,
    losses={"loss_rpn_cls": 0.25, "loss_cls": 1.5},
    total_loss=1.75,
    lr=0.0125,
    time_s=0.5,
    last_time_s=0.4,
    images_per_s=16.0,
    eta_s=3725.0,
    max_mem_mib=812,
    data_wait_share=0.1,
)
SCORES = {"bbox/AP": 0.31, "bbox/AP50": 0.5, "val_loss": 0.7}


def at(step: int, loss: float = 1.75) -> Progress:
    return replace(PROGRESS, step=step, total_loss=loss)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestCsv:
    def test_a_row_a_report(self, tmp_path: Path) -> None:
        tracker = CsvTracker(tmp_path / "metrics.csv")
        tracker.progress(at(20))
        tracker.progress(at(40, 1.5))
        tracker.close()
        rows = table(tmp_path / "metrics.csv")
        assert [row["iteration"] for row in rows] == ["19", "39"]
        assert rows[1] == {name: str(value) for name, value in at(40, 1.5).as_metrics().items()}

    def test_columns_grow_and_an_evaluation_joins_its_row(self, tmp_path: Path) -> None:
        tracker = CsvTracker(tmp_path / "metrics.csv")
        tracker.progress(at(20))
        tracker.evaluation(20, SCORES)
        tracker.evaluation(25, {**SCORES, "bbox/AP-a,b": 0.25})
        tracker.progress(at(40))
        first, second, third = table(tmp_path / "metrics.csv")
        assert (first["total_loss"], first["bbox/AP"], first["bbox/AP-a,b"]) == ("1.75", "0.31", "")
        assert (second["iteration"], second["total_loss"], second["bbox/AP-a,b"]) == ("24", "", "0.25")
        assert (third["iteration"], third["bbox/AP"]) == ("39", "")
        assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]

    def test_a_resumed_run_goes_on_where_its_checkpoint_was(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.csv"
        killed = CsvTracker(path)
        for step in (20, 40, 60):
            killed.progress(at(step, 3.0))
        killed.evaluation(40, SCORES)
        with path.open("a", encoding="utf-8") as file:
            file.write("79,1.2")
        resumed = CsvTracker(path, begun=40)
        assert [row["iteration"] for row in table(path)] == ["19", "39"]
        resumed.progress(at(60, 0.5))
        rows = table(path)
        assert [(row["iteration"], row["total_loss"]) for row in rows] == [("19", "3.0"), ("39", "3.0"), ("59", "0.5")]
        assert rows[1]["bbox/AP"] == "0.31"

    def test_a_new_run_begins_a_new_file(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.csv"
        CsvTracker(path).progress(at(20))
        CsvTracker(path).progress(at(40))
        assert [row["iteration"] for row in table(path)] == ["39"]

    @pytest.mark.parametrize("content", ["", "\n", "a,b\n1,2\n", "iteration,lr\nx,1\n", "iteration,lr\n19\n", "\x00\xff"])
    def test_a_damaged_file_is_begun_anew(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "metrics.csv"
        path.write_text(content, encoding="latin-1")
        CsvTracker(path, begun=40).progress(at(60))
        (row,) = table(path)
        assert (row["iteration"], row["total_loss"]) == ("59", "1.75")


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]}, read by TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


class TestTensorBoard:
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("tensorboard")

    def test_detectron2s_tags(self, tmp_path: Path) -> None:
        tracker = TensorBoardTracker(tmp_path)
        tracker.progress(at(20))
        tracker.evaluation(20, SCORES)
        tracker.progress(at(40, 1.5))
        tracker.close()
        found = events(tmp_path)
        assert found["total_loss"] == [(19, 1.75), (39, 1.5)]
        assert found["loss_cls"] == [(19, 1.5), (39, 1.5)]
        assert found["bbox/AP"] == [(19, pytest.approx(0.31))]
        assert found["data_time"] == [(19, pytest.approx(0.05)), (39, pytest.approx(0.05))]
        assert {"lr", "time", "eta_seconds", "loss_rpn_cls", "images_per_s", "max_mem_mib", "val_loss"} <= set(found)
        assert "iteration" not in found

    def test_a_resumed_run_drops_what_lies_beyond_its_checkpoint(self, tmp_path: Path) -> None:
        killed = TensorBoardTracker(tmp_path)
        for step in (20, 40, 60):
            killed.progress(at(step, 3.0))
        killed.close()
        resumed = TensorBoardTracker(tmp_path, begun=40)
        resumed.progress(at(60, 0.5))
        resumed.close()
        assert events(tmp_path)["total_loss"] == [(19, 3.0), (39, 3.0), (59, 0.5)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder whose database all tests share: making its tables takes seconds."""
    pytest.importorskip("sqlalchemy")
    return str(tmp_path_factory.mktemp("mlflow"))


class TestMlflow:
    @pytest.fixture(autouse=True)
    def quiet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        pytest.importorskip("mlflow")

    def a_tracker(self, address: str, folder: Path, **options: Any) -> MlflowTracker:
        return MlflowTracker(address, "parts-01", {"SOLVER.BASE_LR": 0.02, "ema": 0.0}, folder=folder, **options)

    def history(self, tracker: MlflowTracker, name: str) -> list[tuple[int, float]]:
        found = self.client(tracker.address).get_metric_history(tracker.run_id, name)
        return sorted((metric.step, metric.value) for metric in found)

    def client(self, address: str) -> Any:
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=address)

    def test_parameters_and_figures(self, tmp_path: Path, address: str) -> None:
        before = logging.getLogger("sightline").isEnabledFor(logging.WARNING)
        tracker = self.a_tracker(address, tmp_path)
        tracker.progress(at(20))
        tracker.evaluation(20, {**SCORES, "bbox/AP-a/b (c)": 0.25})
        tracker.progress(at(40, 1.5))
        tracker.close()
        run = self.client(database_address(address)).get_run(tracker.run_id)
        assert run.info.status == "FINISHED"
        assert run.info.run_name == "parts-01"
        assert run.data.params == {"SOLVER.BASE_LR": "0.02", "ema": "0.0"}
        assert self.history(tracker, "total_loss") == [(19, 1.75), (39, 1.5)]
        assert self.history(tracker, "bbox/AP") == [(19, 0.31)]
        assert run.data.metrics["bbox/AP-a_b _c_"] == 0.25
        assert run.data.metrics["max_mem_mib"] == 812
        assert logging.getLogger("sightline").isEnabledFor(logging.WARNING) is before
        assert not Path("mlruns").exists()

    def test_hundreds_of_parameters_and_long_ones(self, tmp_path: Path, address: str) -> None:
        params = {f"KEY_{number}": "x" * (number * 40) for number in range(250)}
        tracker = MlflowTracker(address, "many", params, folder=tmp_path)
        assert len(self.client(tracker.address).get_run(tracker.run_id).data.params) == 250

    def test_a_resumed_run_goes_on_in_the_same(self, tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture) -> None:
        killed = self.a_tracker(address, tmp_path)
        killed.progress(at(20))
        with caplog.at_level(logging.INFO, logger="sightline"):
            resumed = MlflowTracker(
                address, "parts-01", {"SOLVER.BASE_LR": 0.01, "ema": 0.0, "new": 1}, folder=tmp_path, resuming=True
            )
        resumed.progress(at(40))
        resumed.close(finished=False)
        assert resumed.run_id == killed.run_id
        assert self.history(resumed, "total_loss") == [(19, 1.75), (39, 1.75)]
        run = self.client(resumed.address).get_run(resumed.run_id)
        assert run.info.status == "FAILED"
        assert run.data.params == {"SOLVER.BASE_LR": "0.02", "ema": "0.0", "new": "1"}
        assert "MLflow keeps the first values of SOLVER.BASE_LR" in caplog.text

    @pytest.mark.parametrize("kept", ['{"address": "elsewhere", "run_id": "1"}', '{"run', "[]", None, "unknown"])
    def test_a_run_that_is_not_there_is_begun(self, tmp_path: Path, address: str, kept: str | None) -> None:
        if kept == "unknown":
            kept = json.dumps({"address": database_address(address), "run_id": "0" * 32})
        if kept is not None:
            (tmp_path / "mlflow.json").write_text(kept, encoding="utf-8")
        tracker = self.a_tracker(address, tmp_path, resuming=True)
        assert json.loads((tmp_path / "mlflow.json").read_bytes()) == {"address": tracker.address, "run_id": tracker.run_id}

    def test_a_new_run_is_a_new_one(self, tmp_path: Path, address: str) -> None:
        assert self.a_tracker(address, tmp_path).run_id != self.a_tracker(address, tmp_path).run_id

    def test_a_server_that_is_away_costs_no_figures(
        self, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        now = [1_000_000.0]
        tracker = self.a_tracker(address, tmp_path, clock=lambda: now[0])
        asked = []

        def away(*args: object, **options: object) -> None:
            asked.append(1)
            raise tracker.error("no route to host")

        with monkeypatch.context() as patch:
            patch.setattr(tracker.client, "log_batch", away)
            tracker.progress(at(20))
            tracker.progress(at(40))
        assert len(asked) == 1
        assert "does not answer, trying again later; training goes on: no route to host" in caplog.text
        assert self.history(tracker, "total_loss") == []
        now[0] += tracker.RETRY_S
        tracker.progress(at(60))
        assert self.history(tracker, "total_loss") == [(19, 1.75), (39, 1.75), (59, 1.75)]

    @pytest.mark.parametrize("wrong", ["nonsense://x", "file:mlruns"])
    def test_an_address_that_cannot_be_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
        monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
        with pytest.raises(SightlineError, match=r"MLflow at .*: cannot be used .* Check the address"):
            self.a_tracker(wrong, tmp_path)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://host:5000", "http://host:5000"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("file:/x", "file:/x"),
    ],
)
def test_addresses_stay_as_they_are(address: str, expected: str) -> None:
    assert database_address(address) == expected


def test_a_folder_gets_a_database(tmp_path: Path) -> None:
    assert database_address(str(tmp_path / "runs")) == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_without_the_libraries_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name, name=name.partition(".")[0])

    monkeypatch.setattr("sightline.optional.importlib.import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"'tensorboard', which is not installed.*'sightline\[track\]'"):
        TensorBoardTracker(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"'mlflow.*, which is not installed.*'sightline\[track\]'"):
        MlflowTracker(str(tmp_path / "runs"), "parts-01", {}, folder=tmp_path)
    assert not list(tmp_path.iterdir())
