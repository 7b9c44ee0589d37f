"""Where the figures of a run go beside metrics.json: a CSV file, TensorBoard, MLflow. Each is a `Tracker` (see hooks.py).

All have Detectron2's names and count as metrics.json does: iteration 19 is the 20th step. A resumed run goes on where its
checkpoint was; what had been written beyond that is dropped (MLflow cannot drop, there the later values come on top).
"""

import csv
import io
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError
from sightline.optional import require
from sightline.storage import write_json, write_text
from sightline.training.hooks import Progress

LOG = logging.getLogger(__name__)

STEP = "iteration"


class CsvTracker:
    """A row an iteration in a file that spreadsheets open. Rows are appended; a new column has the file written anew, whole.

    begun: steps done before this process began (a resumed run's); rows of later ones are dropped, and 0 drops them all
    """

    def __init__(self, path: Path, begun: int = 0) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows: dict[int, dict[str, str]] = {}
        if begun and path.is_file():
            self.columns, rows = read_rows(path)
            self.rows = {iteration: row for iteration, row in rows.items() if iteration < begun}
            self.write()
        else:
            path.unlink(missing_ok=True)

    def progress(self, progress: Progress) -> None:
        self.add(progress.step - 1, progress.as_metrics())

    def evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        self.add(step - 1, numbers)

    def close(self, finished: bool = True) -> None:
        """Nothing: every row is on the disk already."""

    def add(self, iteration: int, numbers: Mapping[str, float]) -> None:
        cells = {STEP: str(iteration), **{name: str(value) for name, value in numbers.items()}}
        new = [name for name in cells if name not in self.columns]
        grows = not new and iteration not in self.rows
        self.columns += new
        self.rows[iteration] = self.rows.get(iteration, {}) | cells
        if grows:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(self.rows[iteration])
        else:
            self.write()

    def write(self) -> None:
        """All of it; some 20 MB and a second for a run of a million steps, once an evaluation."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows.values())
        write_text(self.path, text.getvalue())


def read_rows(path: Path) -> tuple[list[str], dict[int, dict[str, str]]]:
    """(columns, rows by iteration) of a CsvTracker's file. A last line that a kill has cut is passed over."""
    text = path.read_text(encoding="utf-8", errors="replace")
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
    columns = next(reader, [])
    rows = [dict(zip(columns, cells, strict=True)) for cells in reader if len(cells) == len(columns)]
    return columns, {int(row[STEP]): row for row in rows if row.get(STEP, "").isdecimal()}


class TensorBoardTracker:
    """Events for TensorBoard with Detectron2's tags, and `data_time`, seconds a step spent waiting for pictures.

    folder: where the events lie; Detectron2 has them in the run folder itself
    begun:  steps done before this process began; TensorBoard drops what an earlier one wrote beyond them

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """

    FLUSH_S = 30
    """The longest that a kill can cost."""

    def __init__(self, folder: Path, begun: int = 0) -> None:
        require("tensorboard", "track", "TensorBoard events")
        writer = require("torch.utils.tensorboard", "track", "TensorBoard events").SummaryWriter
        self.writer: Any = writer(str(folder), purge_step=begun, flush_secs=self.FLUSH_S)

    def progress(self, progress: Progress) -> None:
        numbers = {name: value for name, value in progress.as_metrics().items() if name != STEP}
        self.add(progress.step, numbers | {"data_time": progress.data_wait_share * progress.time_s})

    def evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        self.add(step, numbers)
        self.writer.flush()

    def close(self, finished: bool = True) -> None:
        self.writer.close()

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step - 1)


class MlflowTracker:
    """A run on an MLflow server or in a local database, with the configuration as its parameters.

    A server that is away later on costs no training and no figures: they are kept, and sent when it is back.

    address:  "http://host:5000", "databricks", "sqlite:///path/mlflow.db", or a folder, which gets a database
    params:   what is shown beside the run; values are cut to what MLflow takes
    folder:   the run folder; `mlflow.json` there keeps the MLflow run's id, by which a resumed run goes on in it
    resuming: go on in that run, if the address still knows it
    clock:    seconds since 1970

    Raises:
        MissingDependencyError: mlflow is not installed.
        SightlineError: the address cannot be used.
    """

    RUN_FILE = "mlflow.json"
    RETRY_S = 1800
    """Until a failed server is tried again. MLflow itself tries for some 4 minutes each time, in which training waits."""

    PARAMS_A_BATCH, LONGEST_PARAM, METRICS_A_BATCH, LONGEST_NAME = 100, 6000, 1000, 250
    """MLflow's own limits."""

    def __init__(
        self,
        address: str,
        run_name: str,
        params: Mapping[str, object],
        *,
        folder: Path,
        resuming: bool = False,
        experiment: str = "sightline",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.entities = require("mlflow.entities", "track", "MLflow tracking")
        self.error: type[Exception] = require("mlflow.exceptions", "track", "MLflow tracking").MlflowException
        self.address = database_address(address)
        self.clock = clock
        self.waiting: list[Any] = []
        self.retry_at = 0.0
        client = require("mlflow.tracking", "track", "MLflow tracking").MlflowClient
        try:
            self.client: Any = client(tracking_uri=self.address)
            self.run_id = (self.earlier_run(folder / self.RUN_FILE) if resuming else "") or self.new_run(experiment, run_name)
            self.add_params(params)
        except self.error as error:
            raise SightlineError(
                f"MLflow at {self.address}",
                f"cannot be used ({str(error).splitlines()[0]})",
                "Check the address; local runs go to a folder or to sqlite:///PATH.db.",
            ) from error
        write_json(folder / self.RUN_FILE, {"address": self.address, "run_id": self.run_id})

    def progress(self, progress: Progress) -> None:
        self.add(progress.step, {name: value for name, value in progress.as_metrics().items() if name != STEP})

    def evaluation(self, step: int, numbers: Mapping[str, float]) -> None:
        self.add(step, numbers)

    def close(self, finished: bool = True) -> None:
        """Send what is left, and end the MLflow run as finished or failed."""
        self.send()
        try:
            self.client.set_terminated(self.run_id, "FINISHED" if finished else "FAILED")
        except self.error as error:
            LOG.warning("MLflow run %s could not be ended: %s", self.run_id, error)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        now_ms = int(self.clock() * 1000)
        self.waiting += [
            self.entities.Metric(self.allowed(name), float(value), now_ms, step - 1) for name, value in numbers.items()
        ]
        if self.clock() >= self.retry_at:
            self.send()

    def send(self) -> None:
        """Everything that is waiting; where that fails, it goes on waiting."""
        try:
            while self.waiting:
                self.client.log_batch(self.run_id, metrics=self.waiting[: self.METRICS_A_BATCH])
                del self.waiting[: self.METRICS_A_BATCH]
        except (self.error, OSError) as error:
            self.retry_at = self.clock() + self.RETRY_S
            LOG.warning("MLflow at %s does not answer, trying again later; training goes on: %s", self.address, error)

    def earlier_run(self, path: Path) -> str:
        """The id of the run that `path` names, running again; "" where there is none at this address."""
        try:
            kept = json.loads(path.read_bytes())
            if kept["address"] != self.address:
                return ""
            self.client.update_run(kept["run_id"], status="RUNNING")
        except (OSError, ValueError, KeyError, TypeError, self.error) as error:
            LOG.info("the earlier MLflow run cannot go on, a new one begins: %s", error)
            return ""
        return str(kept["run_id"])

    def new_run(self, experiment: str, run_name: str) -> str:
        known = self.client.get_experiment_by_name(experiment)
        experiment_id = known.experiment_id if known else self.client.create_experiment(experiment)
        return str(self.client.create_run(experiment_id, run_name=run_name).info.run_id)

    def add_params(self, params: Mapping[str, object]) -> None:
        """Those that the run does not have. MLflow never changes one: of a resumed run it shows what it began with."""
        before: Mapping[str, str] = self.client.get_run(self.run_id).data.params
        texts = {self.allowed(name): str(value)[: self.LONGEST_PARAM] for name, value in params.items()}
        changed = [name for name, text in texts.items() if before.get(name, text) != text]
        if changed:
            LOG.info("MLflow keeps the first values of %s", ", ".join(changed))
        new = [self.entities.Param(name, text) for name, text in texts.items() if name not in before]
        for start in range(0, len(new), self.PARAMS_A_BATCH):
            self.client.log_batch(self.run_id, params=new[start : start + self.PARAMS_A_BATCH])

    def allowed(self, name: str) -> str:
        """`name` as MLflow takes it: "bbox/AP-a/b (c)" becomes "bbox/AP-a_b _c_"."""
        kind, slash, rest = name.partition("/")
        return re.sub(r"[^\w.\- /]", "_", kind + slash + rest.replace("/", "_"))[: self.LONGEST_NAME]


def database_address(address: str) -> str:
    """`address`, or the database in it where it is a folder's path: MLflow no longer writes plain folders."""
    if "://" in address or address.startswith(("databricks", "file:")):
        return address
    folder = Path(address).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}"
