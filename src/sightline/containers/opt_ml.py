"""`/opt/ml` as the platform lays it out: where things are, and the JSON files that say what the job is.

The root is an argument, so that the same code runs under any folder. The platform's `SM_*` variables come from AWS's toolkits
and are not there for others; nothing here reads them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import ConfigError, Problem

ROOT = "/opt/ml"

ROOT_VARIABLE = "SAGEMAKER_BASE_DIR"
"""The root for everything below, as AWS's toolkits name it."""

SHARDED = "ShardedByS3Key"


@dataclass(frozen=True, slots=True)
class OptMl:
    """The folder that the platform and a container share."""

    root: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "OptMl":
        return cls(Path(environ.get(ROOT_VARIABLE) or ROOT))

    @property
    def config(self) -> Path:
        """The JSON files."""
        return self.root / "input" / "config"

    @property
    def data(self) -> Path:
        """A folder for each channel."""
        return self.root / "input" / "data"

    @property
    def model(self) -> Path:
        """What becomes model.tar.gz, or what was in it."""
        return self.root / "model"

    @property
    def models(self) -> Path:
        """The models of a multi-model endpoint."""
        return self.root / "models"

    @property
    def output_data(self) -> Path:
        """What becomes output.tar.gz."""
        return self.root / "output" / "data"

    @property
    def failure(self) -> Path:
        """Why a job failed; the platform shows its first 1,024 letters."""
        return self.root / "output" / "failure"

    @property
    def checkpoints(self) -> Path:
        """What is copied to S3 while the job runs, and is there again when it is started anew.

        Raises:
            ConfigError: checkpointconfig.json is broken.
        """
        asked = read_json(self.config / "checkpointconfig.json").get("LocalPath") or f"{ROOT}/checkpoints"
        return Path(self.here(str(asked)))

    def here(self, name: str) -> str:
        """A path below /opt/ml, as jobs name it, below this root; everything else as it is."""
        return str(self.root / Path(name).relative_to(ROOT)) if Path(name).is_relative_to(ROOT) else name


@dataclass(frozen=True, slots=True)
class Channel:
    """One input of a job. mode: File, FastFile or Pipe; sharded: each host has another part of it."""

    name: str
    folder: Path
    mode: str = "File"
    sharded: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """The hosts of a job, sorted by name: the first one leads. interface: the network between them; empty: not told."""

    current: str
    hosts: tuple[str, ...]
    interface: str = ""

    @property
    def rank(self) -> int:
        return self.hosts.index(self.current)

    @property
    def first(self) -> bool:
        """Whether this host writes model, checkpoints and report."""
        return self.rank == 0


ALONE = Cluster("localhost", ("localhost",))


def read_json(path: Path) -> dict[str, object]:
    """A JSON object; empty where there is no file.

    Raises:
        ConfigError: it is something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(path, f"cannot be read as JSON ({error})", "Write it as the platform does.") from error
    if not isinstance(content, dict):
        raise ConfigError(path, f"holds a {type(content).__name__}", "Write an object, as the platform does.")
    return content


def read_hyperparameters(opt_ml: OptMl) -> dict[str, object]:
    """{name: value}; the platform makes every value a text."""
    return read_json(opt_ml.config / "hyperparameters.json")


def read_cluster(opt_ml: OptMl) -> Cluster:
    """The hosts of this job; this one alone where resourceconfig.json is missing.

    Raises:
        ConfigError: the current host is none of them, or they are of several kinds.
    """
    path = opt_ml.config / "resourceconfig.json"
    facts = read_json(path)
    if not facts:
        return ALONE
    given = facts.get("hosts")
    hosts = tuple(sorted(map(str, given))) if isinstance(given, list) and given else ALONE.hosts
    current = str(facts.get("current_host") or hosts[0])
    problems = []
    if current not in hosts:
        problems.append(Problem(str(path), f"says this is {current!r}, and names {', '.join(hosts)}", "Name it among hosts."))
    groups = facts.get("instance_groups")
    kinds = (
        {str(group.get("instance_type")) for group in groups if isinstance(group, dict)} if isinstance(groups, list) else set()
    )
    if len(kinds) > 1:
        what = f"has instances of several kinds ({', '.join(sorted(kinds))}), and every host must have as many GPUs"
        problems.append(Problem(str(path), what, "Take one kind of instance."))
    if problems:
        raise ConfigError.collected(problems)
    return Cluster(current, hosts, str(facts.get("network_interface_name") or ""))


def read_channels(opt_ml: OptMl) -> dict[str, Channel]:
    """The inputs of this job by name: those that inputdataconfig.json tells of, else every folder that is there."""
    told = read_json(opt_ml.config / "inputdataconfig.json")
    names = sorted(told) or sorted(path.name for path in opt_ml.data.glob("*") if path.is_dir())
    channels = {}
    for name in names:
        facts = told.get(name)
        facts = facts if isinstance(facts, dict) else {}
        mode, sharded = str(facts.get("TrainingInputMode") or "File"), facts.get("S3DistributionType") == SHARDED
        channels[name] = Channel(name, opt_ml.data / name, mode, sharded)
    return channels
