"""The entry point `train`: what the platform starts in a training container.

Reads `/opt/ml/input`, starts `sightline train` on every GPU of every host, then `sightline evaluate` and `sightline bundle
pack` on the first host: the same commands that people run by hand. The run folder is `/opt/ml/checkpoints`, so what is copied
to S3 while the job runs is all that a job needs to go on.
"""

import importlib.util
import json
import logging
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.config.zoo import ZOO
from sightline.containers.channels import Prepared, by_role, prepare, weights_in
from sightline.containers.failures import primary, write_failure
from sightline.containers.hosts import environments, gpu_count, wait_for_names
from sightline.containers.hyperparameters import Hyperparameters, parse, understood
from sightline.containers.opt_ml import ALONE, Channel, Cluster, OptMl, read_channels, read_cluster, read_hyperparameters
from sightline.containers.together import Ended, Stop, interrupted, run_together
from sightline.errors import ConfigError, Interrupted, SightlineError, nearest
from sightline.storage import is_remote, remove, unpack

LOG = logging.getLogger("sightline.containers.train")  # python -m calls this module __main__

SIGHTLINE = (sys.executable, "-m", "sightline")

DEFAULT_CONFIG = "small"

PACKING_S = 20.0
"""What must be left of a stop's time to pack the model as far as it came."""

FAILED, STOPPED = 1, Interrupted.exit_code


class Failed(Exception):  # noqa: N818 - the words of a process, which it has told already
    """A process failed, and this is what it said."""


@dataclass(frozen=True, slots=True)
class Job:
    """A training job as this host sees it. work: a folder for what is made on the way."""

    opt_ml: OptMl
    cluster: Cluster
    roles: Mapping[str, Channel]
    asked: Hyperparameters
    config: str
    weights: Path | None
    data: Prepared
    work: Path
    environ: Mapping[str, str]

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.opt_ml.checkpoints

    @property
    def processes(self) -> int:
        """Of this host."""
        keys = dict(zip(self.asked.overrides[::2], self.asked.overrides[1::2], strict=True))
        on_cpu = "cpu" in (self.asked.options.get("device"), keys.get("MODEL.DEVICE"))
        return self.asked.processes or (1 if on_cpu else max(gpu_count(), 1))

    def train_words(self) -> list[str]:
        """The command that every process runs."""
        parts = ["--split", self.data.train, "--validate-on", self.data.validation or "val"]
        chosen = [] if "fold" in self.asked.options else parts
        brought = [] if self.weights is None else ["--weights", str(self.weights)]
        settled = {name: value for name, value in self.asked.options.items() if name not in ("split", "validate-on")}
        asked = replace(self.asked, options=settled).words()
        place = ["--data", str(self.data.data), "--config", self.config, "-o", str(self.run), "--resume"]
        return [*SIGHTLINE, "train", *place, *chosen, *brought, *asked, *self.asked.overrides]


def names_weights(asked: Hyperparameters) -> bool:
    """Whether the hyperparameters say what to begin with."""
    return "weights" in asked.options or "MODEL.WEIGHTS" in asked.overrides[::2]


def read_job(opt_ml: OptMl, work: Path, environ: Mapping[str, str]) -> Job:
    """Everything that the platform says, and the data set that its channels hold.

    Raises:
        SightlineError: what is wrong with hyperparameters, hosts, channels or labels.
    """
    cluster = read_cluster(opt_ml)
    channels = read_channels(opt_ml)
    roles = by_role(channels, len(cluster.hosts))
    values = {
        name: opt_ml.here(value) if isinstance(value, str) else value for name, value in read_hyperparameters(opt_ml).items()
    }
    brings = "weights" in roles and not names_weights(parse(values)[0])
    weights, beside = weights_in(roles["weights"], work) if brings else (None, None)

    def resolve(name: str | None) -> str:
        return config_of(name, channels, beside)

    asked = understood(values, resolve)
    for line in asked.notes:
        LOG.info("note: %s", line)
    data = prepare(roles, asked, work)
    return Job(opt_ml, cluster, roles, asked, resolve(asked.config), weights, data, work, environ)


def config_of(name: str | None, channels: Mapping[str, Channel], beside: Path | None) -> str:
    """What a job's configuration is called here. A file may lie in any channel; unsaid, it is the one beside the weights.

    Raises:
        ConfigError: a file that no channel has.
    """
    if name is None:
        return str(beside) if beside is not None else DEFAULT_CONFIG
    for channel in channels.values():
        if (channel.folder / name).is_file():
            return str(channel.folder / name)
    if name.endswith((".yaml", ".yml")) and name not in ZOO and not is_remote(name) and not Path(name).is_file():
        near = nearest(name, [*ZOO])
        meant = near if near.startswith("Did you mean") else "The folder of a job's script (`source_dir`) is not read."
        raise ConfigError(
            name, "is no preset, no zoo name and no file in any channel", f"{meant} Send the file as a channel, `config` say."
        )
    return name


def train(job: Job, stop: Stop) -> None:
    """Run the training's processes of this host.

    Raises:
        Failed: one failed; its own words.
        Interrupted: it was asked to end; what there is is saved.
        RunError: the other hosts cannot be found.
    """
    environs = environments(job.cluster, job.processes, job.environ)
    if len(job.cluster.hosts) > 1:
        wait_for_names(job.cluster.hosts)
    words = job.train_words()
    LOG.info(
        "host %s of %s: %s x sightline %s", job.cluster.rank + 1, len(job.cluster.hosts), len(environs), " ".join(words[3:])
    )
    commands = {f"process {environ.get('RANK', '0')}": (words, environ) for environ in environs}
    require_done(run_together(commands, stop), stop)


def require_done(over: Sequence[Ended], stop: Stop) -> None:
    """Nothing, if all processes ended well.

    Raises:
        Interrupted: they were asked to end.
        Failed: the first useful words of one that failed.
    """
    failed = [one for one in over if one.code]
    if stop.came_at is not None:
        raise interrupted("and has saved what there was")
    if failed:
        raise Failed(primary([one.reason for one in failed]))


def evaluate(job: Job, stop: Stop) -> None:
    """Scores, page and plots into the run folder. A failure is told, not raised: no trained model is lost to a page.

    Raises:
        Interrupted: the job was asked to end.
    """
    if job.data.evaluated is None:
        LOG.info("note: there is no part to evaluate on; give a channel test or validation")
        return
    plots = ["--plots"] if importlib.util.find_spec("matplotlib") else []
    device = ["--device", str(job.asked.options["device"])] if "device" in job.asked.options else []
    words = [*SIGHTLINE, "evaluate", str(job.run), "--data", str(job.data.data), "--split", job.data.evaluated, *plots, *device]
    LOG.info("evaluation on the part %s", job.data.evaluated)
    (over,) = run_together({"evaluation": (words, environments(ALONE, 1, job.environ)[0])}, stop)
    if stop.came_at is not None:
        raise interrupted("during the evaluation, after training was over")
    if over.code:
        LOG.warning("warning: the evaluation failed, the model is there all the same: %s", over.reason)
    elif told := scores_told(job.run):
        LOG.info("the finished model on the part %s: %s", job.data.evaluated, told)


def scores_told(run: Path) -> str:
    """`model/bbox/AP: 0.31  model/bbox/AP50: 0.6` of a run that was evaluated: a metric of the platform's, for gates."""
    path = run / "inference" / "scores.json"
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    told = {f"{kind}/{name}": scores.get(kind, {}).get(name) for kind in ("bbox", "segm") for name in ("AP", "AP50")}
    return "  ".join(f"model/{name}: {value:.4g}" for name, value in told.items() if isinstance(value, int | float))


def pack(job: Job, stop: Stop, limit_s: float = float("inf")) -> None:
    """The bundle's files into `/opt/ml/model`: the platform makes the archive of them.

    Raises:
        Failed: it cannot be packed.
    """
    archive = job.work / "model.tar.gz"
    words = [*SIGHTLINE, "bundle", "pack", str(job.run), "-o", str(archive)]
    (over,) = run_together({"packing": (words, environments(ALONE, 1, job.environ)[0])}, stop, limit_s=limit_s)
    if over.code:
        raise Failed(over.reason)
    job.opt_ml.model.mkdir(parents=True, exist_ok=True)
    unpack(archive, job.opt_ml.model, archive)
    archive.unlink()


def hand_over(job: Job) -> None:
    """The run folder without its weights into `/opt/ml/output/data`: figures, log, scores, page and plots."""
    ignored = shutil.ignore_patterns("*.pth", "last_checkpoint", "*.partial")
    shutil.copytree(job.run, job.opt_ml.output_data, ignore=ignored, dirs_exist_ok=True)


def keep_what_there_is(job: Job, stop: Stop) -> None:
    """After a stop: the model as far as it came, if there is time and a checkpoint. A job that somebody stopped keeps it."""
    if not job.cluster.first or not (job.run / "last_checkpoint").is_file():
        return
    if stop.seconds_left > PACKING_S:
        try:
            pack(job, stop, limit_s=stop.seconds_left)
        except Failed as error:
            LOG.warning("warning: the model as far as it came is not in %s: %s", job.opt_ml.model, error)
    hand_over(job)


def run_job(job: Job, stop: Stop) -> None:
    """Train; on the first host also evaluate, pack and hand over.

    Raises:
        Failed, SightlineError: what went wrong.
        Interrupted: the job was asked to end.
    """
    try:
        train(job, stop)
        if job.cluster.first:
            evaluate(job, stop)
            pack(job, stop)
            hand_over(job)
    except Interrupted:
        keep_what_there_is(job, stop)
        raise


def run(opt_ml: OptMl, environ: Mapping[str, str], stop: Stop) -> int:
    """The whole of a training container; its exit code. What went wrong stands in `/opt/ml/output/failure`, too."""
    work = Path(tempfile.mkdtemp(prefix="sightline-"))
    remove(opt_ml.failure)
    try:
        run_job(read_job(opt_ml, work, environ), stop)
    except Interrupted as error:
        LOG.info("%s", error)
        return STOPPED
    except Failed as error:
        write_failure(opt_ml.failure, str(error))
        return FAILED
    except SightlineError as error:
        LOG.error("error: %s", error)
        write_failure(opt_ml.failure, str(error))
        return FAILED
    except Exception as error:
        traceback.print_exc()
        write_failure(opt_ml.failure, f"{type(error).__name__}: {error}")
        return FAILED
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0


def main() -> None:
    """`train`. Words behind it are of no meaning: AWS's toolkit repeats the hyperparameters there."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(f"{__doc__}")
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("sightline").handlers = [handler]
    logging.getLogger("sightline").setLevel(logging.INFO)
    with Stop().heard() as stop:
        code = run(OptMl.from_env(os.environ), os.environ, stop)
    sys.exit(code)


if __name__ == "__main__":
    main()
