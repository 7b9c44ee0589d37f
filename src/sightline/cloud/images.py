"""Sightline's container images: built by docker, podman or buildah, and pushed into the account's registry (ECR).

The tools' commands are plain lists, made without running anything. What is built is the Sightline that runs here, from a
folder laid out like the repository; an installed package carries the files for that in `context`.

SageMaker refuses OCI's manifests (aws/amazon-sagemaker-feedback#180), so every tool is told to write Docker's.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sightline
from sightline.cloud.account import Account, Say
from sightline.cloud.failures import code_of, failure, is_missing, send
from sightline.cloud.hosting import repository_request
from sightline.cloud.shapes import Call, require_valid
from sightline.errors import Problem, RunError, SightlineError, nearest

KINDS = ("train", "serve", "serve-onnx")
"""One Dockerfile each."""

TOOLS = ("docker", "podman", "buildah")
"""In the order in which they are tried."""

PLATFORM = "linux/amd64"
"""Of SageMaker's machines, except those with Graviton processors."""

CARRIED = ("pyproject.toml", "README.md", "LICENSE", "containers")
"""What an image is built from besides the package."""

TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
"""As registries take it."""

STDERR = 2
"""The descriptor: results alone go to stdout, and what tools print is none."""

PROBE_S = 60
"""Until a tool has said whether it works."""


@dataclass(frozen=True, slots=True)
class Image:
    """One of our images, here. name: `sightline-train:0.1.0`."""

    kind: str
    tag: str

    @property
    def repository(self) -> str:
        return f"sightline-{self.kind}"

    @property
    def name(self) -> str:
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How images are built.

    base:        image with Python 3.11 to 3.13; empty: the Dockerfile's own
    torch_index: where PyTorch's wheels come from; empty: pip's own index
    arguments:   {name: value} of further build arguments
    options:     words for the tool itself, as they are
    """

    base: str = ""
    torch_index: str = ""
    platform: str = PLATFORM
    arguments: Mapping[str, str] | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image in the registry. compressed: bytes, as they are stored and sent."""

    uri: str
    digest: str
    compressed: int

    def as_dict(self) -> dict[str, object]:
        return {"image": self.uri, "digest": self.digest, "compressed_bytes": self.compressed}


def images(kinds: Sequence[str], tag: str) -> list[Image]:
    """The images of these kinds.

    Raises:
        SightlineError: kinds that there are not, a tag that no registry takes; all of it together.
    """
    problems = [Problem("KIND", f"is {kind!r}", nearest(kind, list(KINDS))) for kind in kinds if kind not in KINDS]
    tag = tag or sightline.__version__
    if not TAG.fullmatch(tag):
        problems.append(Problem("--tag", f"is {tag!r}", "Give up to 128 letters, digits, '_', '.' and '-'."))
    if problems:
        raise SightlineError.collected(problems)
    return [Image(kind, tag) for kind in dict.fromkeys(kinds)]


def find_tool(given: str) -> str:
    """The tool that is asked for, or the first that works here: docker without its service does not.

    Raises:
        SightlineError: it is unknown or not installed; none works.
    """
    if given:
        if given not in TOOLS:
            raise SightlineError("--tool", f"is {given!r}", nearest(given, list(TOOLS)))
        if shutil.which(given) is None:
            raise SightlineError("--tool", f"there is no {given} here", "Install it, or leave --tool out.")
        return given
    found = [tool for tool in TOOLS if shutil.which(tool)]
    for tool in found:
        if works(tool):
            return tool
    tools = " or ".join(TOOLS)
    what = f"{' and '.join(found)} cannot be reached ({found[0]} info says why)" if found else f"there is no {tools} here"
    raise SightlineError("--tool", what, f"Start or install {tools}, or build on a machine that has one.")


def works(tool: str) -> bool:
    try:
        return subprocess.run([tool, "info"], capture_output=True, timeout=PROBE_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def sources() -> Path:
    """The folder with CARRIED: inside the installed package, or the repository that is installed as it lies.

    Raises:
        SightlineError: neither is there.
    """
    package = Path(sightline.__file__).parent
    for folder in (package / "cloud" / "context", package.parent.parent):
        if all((folder / name).exists() for name in CARRIED):
            return folder
    what = "the files that images are built from are not with this Sightline"
    raise SightlineError(package, what, "Install it from a wheel, or with `pip install -e` from a clone of the repository.")


@contextmanager
def build_folder() -> Iterator[Path]:
    """A folder laid out like the repository, with just what the images need; it is gone after the block."""
    source, package = sources(), Path(sightline.__file__).parent
    with tempfile.TemporaryDirectory(prefix="sightline-image-") as made:
        folder = Path(made)
        for name in CARRIED:
            copy = shutil.copytree if (source / name).is_dir() else shutil.copy2
            copy(source / name, folder / name)
        unwanted = shutil.ignore_patterns("__pycache__", "context")
        shutil.copytree(package, folder / "src" / "sightline", ignore=unwanted)
        yield folder


def build_command(tool: str, image: Image, folder: Path, settings: Settings) -> list[str]:
    """The words that build an image from `folder`."""
    given = {"BASE": settings.base, "TORCH_INDEX": settings.torch_index, **(settings.arguments or {})}
    return [
        *BUILDING[tool],
        "--platform", settings.platform,
        "--file", str(folder / "containers" / f"{image.kind}.Dockerfile"),
        "--tag", image.name,
        *(word for name, value in given.items() if value for word in ("--build-arg", f"{name}={value}")),
        *settings.options,
        str(folder),
    ]  # fmt: skip


BUILDING = {
    "docker": ["docker", "buildx", "build", "--output", "type=docker", "--provenance=false"],
    "podman": ["podman", "build", "--format", "docker"],
    "buildah": ["buildah", "build", "--format", "docker", "--layers"],
}
"""Tool -> the words before what all of them take. Layers are kept: PyTorch is installed once for `train` and `serve`."""


def build(tool: str, image: Image, folder: Path, settings: Settings) -> None:
    """Build an image; the tool's own lines go to stderr.

    Raises:
        RunError: the tool failed.
    """
    run(build_command(tool, image, folder, settings), f"building {image.name}")


def run(command: Sequence[str], where: str, given: bytes | None = None, environ: Mapping[str, str] | None = None) -> None:
    """A tool's command; what it prints goes to stderr. given: for its stdin, where secrets go.

    Raises:
        RunError: it cannot be started, or fails.
    """
    try:
        code = subprocess.run(command, input=given, stdout=STDERR, env=environ, check=False).returncode
    except OSError as error:
        raise RunError(where, f"{command[0]} cannot be started ({error})", "Check how it is installed.") from error
    if code:
        raise RunError(where, f"`{' '.join(command[:2])}` ended with {code}", "Correct what it says above.")


# ---- pushing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push does. calls: repositories to make; targets: [(image here, its address in the registry)]."""

    tool: str
    registry: str
    calls: tuple[Call, ...]
    targets: tuple[tuple[Image, str], ...]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        access = Access(Path("AUTH"))
        commands = [login_command(self.tool, "AWS", self.registry, access)]
        commands += [words for image, uri in self.targets for words in push_commands(self.tool, image, uri, access)]
        return {"make": [call.as_dict() for call in self.calls], "run": commands}


@dataclass(frozen=True, slots=True)
class Access:
    """A folder of our own where a tool keeps the registry's password while it pushes; gone afterwards."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "auth.json"


def plan_push(account: Account, tool: str, wanted: Sequence[Image], own_tags: Mapping[str, str]) -> Plan:
    """What has to be made and run. Only reads.

    Raises:
        SightlineError: repositories may not be looked at, or the requests are not valid.
    """
    missing = [image.repository for image in wanted if not is_there(account, image.repository)]
    calls = [Call("ecr", "CreateRepository", repository_request(name, own_tags)) for name in missing]
    warnings = require_valid(calls)
    targets = [(image, f"{account.registry()}/{image.name}") for image in wanted]
    return Plan(tool, account.registry(), tuple(calls), tuple(targets), tuple(warnings))


def is_there(account: Account, repository: str) -> bool:
    try:
        account.client("ecr").describe_repositories(repositoryNames=[repository])
    except Exception as error:
        if is_missing(error):
            return False
        raise failure(error, repository, "ecr:DescribeRepositories") from error
    return True


def push(account: Account, plan: Plan, say: Say) -> list[Pushed]:
    """Make the repositories that are missing, log in, push, and ask the registry what it has now.

    Raises:
        SightlineError, RunError: what AWS answers, or the tool; an image in a form that SageMaker does not take.
    """
    for call in plan.calls:
        make_repository(account, call, say)
    user, password = credentials(account)
    pushed = []
    with login(plan.tool, plan.registry, user, password) as (access, environ):
        for image, uri in plan.targets:
            for command in push_commands(plan.tool, image, uri, access):
                run(command, f"pushing {image.name}", environ=environ)
            pushed.append(stored(account, image, uri))
    return pushed


def make_repository(account: Account, call: Call, say: Say) -> None:
    name = call.request["repositoryName"]
    try:
        account.client("ecr").create_repository(**call.request)
    except Exception as error:
        if code_of(error) == "RepositoryAlreadyExistsException":  # somebody else was faster
            return
        raise failure(error, name, "ecr:CreateRepository") from error
    say(f"made the repository {name}")


def credentials(account: Account) -> tuple[str, str]:
    """(user, password) for the account's registry; good for twelve hours."""
    answer = send(account.client("ecr").get_authorization_token, "ECR", "ecr:GetAuthorizationToken")
    user, _, password = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode().partition(":")
    return user, password


@contextmanager
def login(tool: str, registry: str, user: str, password: str) -> Iterator[tuple[Access, dict[str, str]]]:
    """(where the password lies, the environment of commands that use it), for the time of the block.

    The password goes through stdin. docker gets a configuration of its own without credential helpers, which could not keep
    it, and with the user's choice of a service.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-login-") as made:
        access, environ = Access(Path(made)), dict(os.environ)
        if tool == "docker":
            lay_out_docker(access.folder, Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker"))
            environ["DOCKER_CONFIG"] = made
        run(login_command(tool, user, registry, access), f"logging in to {registry}", password.encode(), environ)
        yield access, environ


def lay_out_docker(folder: Path, own: Path) -> None:
    """docker's configuration as the user has it, less its passwords."""
    try:
        known = json.loads((own / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    kept = {name: value for name, value in known.items() if name not in ("auths", "credsStore", "credHelpers")}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    for name in ("contexts", "cli-plugins"):
        if (own / name).is_dir():
            (folder / name).symlink_to((own / name).resolve(), target_is_directory=True)


def login_command(tool: str, user: str, registry: str, access: Access) -> list[str]:
    return [tool, "login", *kept_in(tool, access), "--username", user, "--password-stdin", registry]


def push_commands(tool: str, image: Image, uri: str, access: Access) -> list[list[str]]:
    """The commands that put an image into the registry, one after the other."""
    if tool == "docker":
        return [["docker", "tag", image.name, uri], ["docker", "push", uri]]
    return [[tool, "push", *kept_in(tool, access), "--format", "v2s2", image.name, f"docker://{uri}"]]


def kept_in(tool: str, access: Access) -> list[str]:
    """Where the password is kept; docker knows from its environment."""
    return [] if tool == "docker" else ["--authfile", str(access.file)]


def stored(account: Account, image: Image, uri: str) -> Pushed:
    """What the registry has of an image.

    Raises:
        RunError: it is in a form that SageMaker does not take.
    """
    wanted = {"repositoryName": image.repository, "imageIds": [{"imageTag": image.tag}]}
    told = send(account.client("ecr").describe_images, uri, "ecr:DescribeImages", **wanted)["imageDetails"][0]
    kind = str(told.get("imageManifestMediaType", ""))
    if "oci" in kind:
        what = f"its manifest is {kind}, and SageMaker takes Docker's only"
        raise RunError(uri, what, "Build it anew with `sightline cloud image build`, and with podman or buildah if that stays.")
    return Pushed(uri, str(told["imageDigest"]), int(told.get("imageSizeInBytes", 0)))
