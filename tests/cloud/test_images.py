"""Images built and pushed: the tools' commands as data, and a tool that writes down what it is given, against moto's registry.

The images themselves are built in tests/containers/test_images.py.
"""

import base64
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sightline
from sightline.cli import cloud as command
from sightline.cli.main import main
from sightline.cloud import images, policies
from sightline.cloud.account import Account, find_image
from sightline.cloud.images import Access, Image, Settings, build_command, build_folder, login_command, push_commands
from sightline.errors import RunError, SightlineError

from .conftest import ACCOUNT, SECRET, TOKEN, asked_for

REGISTRY = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
PASSWORD = f"{ACCOUNT}-auth-token"
"""Moto's."""

DOCKER, OCI = "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"

RECORDER = """#!{python} -SE
import json, os, sys, urllib.error, urllib.request
words = sys.argv[1:]
given = sys.stdin.read() if "--password-stdin" in words else ""
kept = os.environ.get("DOCKER_CONFIG", "")
config = open(kept + "/config.json").read() if kept else ""
with open({log!r}, "a") as file:
    file.write(json.dumps(dict(words=words, stdin=given, kept=kept, config=config)) + "\\n")
print("a line of the tool")
if words[0] == {fails!r}:
    sys.exit(3)
if words[0] == "push":
    tag = words[-1].rpartition(":")[2]
    name = words[-1].rpartition("/")[2].partition(":")[0]
    about = dict(mediaType="application/vnd.docker.container.image.v1+json", size=1, digest="sha256:" + "0" * 64)
    manifest = dict(schemaVersion=2, mediaType={media!r}, layers=[], config=about)
    asked = dict(repositoryName=name, imageManifest=json.dumps(manifest), imageManifestMediaType={media!r}, imageTag=tag)
    headers = {{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonEC2ContainerRegistry_V20150921.PutImage",
                "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261121/us-east-1/ecr/aws4_request"}}
    try:
        urllib.request.urlopen(urllib.request.Request(os.environ["AWS_ENDPOINT_URL"], json.dumps(asked).encode(), headers))
    except urllib.error.HTTPError as error:
        if b"AlreadyExists" not in error.read():
            raise
"""
"""A tool that writes down its words, its stdin and its configuration; what it pushes is put into moto's registry."""

Tool = Callable[..., Callable[[], list[dict[str, Any]]]]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """A tool of a name, the only one on PATH; the call after that gives all that it was asked."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def make(name: str, fails: str = "nothing", media: str = DOCKER) -> Callable[[], list[dict[str, Any]]]:
        path, log = tmp_path / "bin" / name, tmp_path / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(RECORDER.format(python=sys.executable, log=str(log), fails=fails, media=media))
        path.chmod(0o755)
        return lambda: [json.loads(line) for line in log.read_text().splitlines()]

    return make


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def image(empty: Account, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`sightline cloud image WORDS` in an account with nothing in it: (exit code, stdout, stderr)."""
    monkeypatch.setattr(command, "open_account", lambda: empty)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sightline", "cloud", "image", *words])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        printed = capfd.readouterr()
        assert isinstance(code, int)
        return code, printed.out, printed.err

    return call


# ---- building ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "begins"),
    [
        ("docker", "docker buildx build --output type=docker --provenance=false"),
        ("podman", "podman build --format docker"),
        ("buildah", "buildah build --format docker --layers"),
    ],
)
def test_the_command_of_a_build(tool: str, begins: str) -> None:
    settings = Settings(
        "python:3.13-slim", "https://wheels/cu126", "linux/arm64", {"EXTRAS": "aws"}, ("--no-cache", "-v", "a:b")
    )
    words = build_command(tool, Image("train", "1"), Path("/f"), settings)
    rest = (
        "--platform linux/arm64 --file /f/containers/train.Dockerfile --tag sightline-train:1 --build-arg BASE=python:3.13-slim"
        " --build-arg TORCH_INDEX=https://wheels/cu126 --build-arg EXTRAS=aws --no-cache -v a:b /f"
    )
    assert " ".join(words) == f"{begins} {rest}"
    plain = build_command(tool, Image("serve-onnx", "1"), Path("/f"), Settings())
    assert "--build-arg" not in plain
    assert "linux/amd64" in plain


def test_an_image_is_built_from_this_sightline() -> None:
    with build_folder() as folder:
        assert {path.name for path in folder.iterdir()} == {"pyproject.toml", "README.md", "LICENSE", "containers", "src"}
        assert {f"{kind}.Dockerfile" for kind in images.KINDS} < {path.name for path in (folder / "containers").iterdir()}
        package = Path(sightline.__file__).parent
        for path in ("__init__.py", "cloud/images.py", "config/presets/r50.yaml"):
            assert (folder / "src/sightline" / path).read_bytes() == (package / path).read_bytes()
        assert not list(folder.rglob("__pycache__"))
        assert (folder / "containers/constraints.txt").is_file()
    assert not folder.exists()


def test_a_wheel_brings_what_images_are_built_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "sightline"
    (package / "cloud" / "context" / "containers").mkdir(parents=True)
    monkeypatch.setattr(sightline, "__file__", str(package / "__init__.py"))
    with pytest.raises(
        SightlineError, match=r"are not with this Sightline\. Install it from a wheel, or with `pip install -e`"
    ):
        images.sources()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (package / "cloud" / "context" / name).write_text(name)
    with build_folder() as folder:
        assert (folder / "LICENSE").read_text() == "LICENSE"
        assert not (folder / "src/sightline/cloud/context").exists()  # a wheel of this folder adds it again


def test_builds_one_after_the_other(image: Run, tool: Tool) -> None:
    asked = tool("podman")
    code, out, err = image("build", "--base", "debian", "--build-arg", "A=b=c", "--tool-options", "-v '/a b:/c'")
    assert (code, out) == (0, f"sightline-train:{sightline.__version__}\nsightline-serve:{sightline.__version__}\n")
    assert err.count("a line of the tool") == 2
    info, *builds = [call["words"] for call in asked()]
    assert info == ["info"]
    assert [words[words.index("--tag") + 1] for words in builds] == out.split()
    assert all({"BASE=debian", "A=b=c", "/a b:/c"} < set(words) for words in builds)


def test_a_dry_run_builds_nothing(image: Run, tool: Tool) -> None:
    asked = tool("buildah")
    code, out, err = image("build", "serve-onnx", "--dry-run", "--tool", "buildah", "--tag", "mine")
    assert code == 0
    assert out.startswith("buildah build --format docker --layers --platform linux/amd64 --file /")
    assert "--tag sightline-serve-onnx:mine" in out
    assert "nothing was built" in err
    with pytest.raises(FileNotFoundError):
        asked()


def test_a_build_that_fails(image: Run, tool: Tool) -> None:
    tool("docker", fails="buildx")
    code, out, err = image("build", "train")
    assert (code, out) == (1, "")
    assert "error: building sightline-train:" in err
    assert "`docker buildx` ended with 3. Correct what it says above." in err


def test_the_first_tool_that_works(tool: Tool) -> None:
    with pytest.raises(SightlineError, match="there is no docker or podman or buildah here"):
        images.find_tool("")
    tool("docker", fails="info")  # without its service
    with pytest.raises(SightlineError, match=r"docker cannot be reached \(docker info says why\)"):
        images.find_tool("")
    tool("buildah")
    assert images.find_tool("") == "buildah"
    assert images.find_tool("docker") == "docker"
    with pytest.raises(SightlineError, match="there is no podman here"):
        images.find_tool("podman")
    with pytest.raises(SightlineError, match="Did you mean 'podman'"):
        images.find_tool("podmann")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["build", "serv", "--tag", "a b"], ["KIND: is 'serv'. Did you mean 'serve'?", "--tag: is 'a b'"]),
        (["build", "--build-arg", "A"], ["--build-arg: is 'A'. Give NAME=VALUE"]),
        (["build", "--tool-options", "-v 'a"], ['--tool-options: is "-v \'a" (No closing quotation)']),
        (["push", "--repository-tag", "a"], ["--repository-tag: is 'a'. Give KEY=VALUE."]),
        (["push", "--tag", "-x"], ["--tag: is '-x'"]),
    ],
)
def test_asked_wrongly(image: Run, tool: Tool, words: list[str], expected: list[str]) -> None:
    tool("docker")
    code, out, err = image(*words)
    assert (code, out) == (2, "")
    assert all(text in err for text in expected), err


# ---- pushing ----------------------------------------------------------------------------------------------------------


def test_the_commands_of_a_push() -> None:
    one, uri, access = Image("serve", "1"), f"{REGISTRY}/sightline-serve:1", Access(Path("/a"))
    assert push_commands("docker", one, uri, access) == [["docker", "tag", one.name, uri], ["docker", "push", uri]]
    for name in ("podman", "buildah"):
        (words,) = push_commands(name, one, uri, access)
        assert words == [name, "push", "--authfile", "/a/auth.json", "--format", "v2s2", one.name, f"docker://{uri}"]
    assert login_command("docker", "AWS", REGISTRY, access) == [
        "docker",
        "login",
        "--username",
        "AWS",
        "--password-stdin",
        REGISTRY,
    ]


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_a_push(image: Run, tool: Tool, empty: Account, name: str, caplog: pytest.LogCaptureFixture) -> None:
    asked = tool(name)
    with caplog.at_level(logging.DEBUG, logger="sightline"):
        code, out, err = image("push", "serve", "--tag", "v1", "--json", "--repository-tag", "team=vision")
    assert code == 0, err
    (pushed,) = json.loads(out)
    assert pushed["image"] == f"{REGISTRY}/sightline-serve:v1"
    assert pushed["digest"].startswith("sha256:")
    assert find_image(empty, pushed["image"], "NONE", {}, "", "") == pushed["image"]  # as `cloud deploy --image` takes it
    assert "made the repository sightline-serve" in err
    ecr = empty.client("ecr")
    (repository,) = ecr.describe_repositories()["repositories"]
    told = ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
    assert {tag["Key"] for tag in told} == {"sightline:made-by", "sightline:kind", "team"}

    logins = [call for call in asked() if call["words"][0] == "login"]
    assert [call["stdin"] for call in logins] == [PASSWORD]
    for secret in (PASSWORD, base64.b64encode(f"AWS:{PASSWORD}".encode()).decode(), SECRET, TOKEN):
        assert secret not in out + err + caplog.text
        assert all(secret not in json.dumps([call["words"], call["config"]]) for call in asked())
    assert image("push", "serve", "--tag", "v1")[0] == 0  # again, with the repository there


def test_the_password_is_kept_for_the_time_of_the_push_only(image: Run, tool: Tool, tmp_path: Path) -> None:
    own = tmp_path / "home" / ".docker"
    (own / "contexts").mkdir(parents=True)
    config = {"auths": {"other": {"auth": "c2VjcmV0"}}, "credsStore": "desktop", "currentContext": "colima"}
    (own / "config.json").write_text(json.dumps(config))
    asked = tool("docker")
    assert image("push", "serve")[0] == 0
    login, *pushes = [call for call in asked() if call["words"][0] != "info"]
    assert [call["words"][0] for call in pushes] == ["tag", "push"]
    assert json.loads(login["config"]) == {"currentContext": "colima"}
    assert all(call["kept"] == login["kept"] for call in pushes)
    assert not Path(login["kept"]).exists()
    assert json.loads((own / "config.json").read_text()) == config
    assert (own / "contexts").is_dir()


def test_a_dry_run_sends_nothing(image: Run, tool: Tool, empty: Account) -> None:
    asked = tool("podman")
    code, out, _ = image("push", "--dry-run")
    assert code == 0
    plan = json.loads(out)
    assert [call["request"]["repositoryName"] for call in plan["make"]] == ["sightline-train", "sightline-serve"]
    assert [words[:2] for words in plan["run"]] == [["podman", "login"], ["podman", "push"], ["podman", "push"]]
    assert [call["words"] for call in asked()] == [["info"]]
    assert not empty.client("ecr").describe_repositories()["repositories"]


@pytest.mark.parametrize("step", ["login", "push"])
def test_a_push_that_fails(image: Run, tool: Tool, step: str) -> None:
    tool("podman", fails=step)
    code, out, err = image("push", "train")
    assert (code, out) == (1, "")
    assert f"`podman {step}` ended with 3" in err
    assert PASSWORD not in err


def test_a_manifest_that_sagemaker_refuses(image: Run, tool: Tool) -> None:
    tool("docker", media=OCI)
    code, _, err = image("push", "train")
    assert code == 1
    assert f"its manifest is {OCI}, and SageMaker takes Docker's only" in err


def test_a_tool_that_cannot_be_started() -> None:
    with pytest.raises(RunError, match="/no/such/tool cannot be started"):
        images.run(["/no/such/tool", "build"], "building")


def test_the_policy_of_pushing_has_all_that_it_asks(empty: Account, tool: Tool) -> None:
    tool("podman")
    with asked_for(empty) as found:
        plan = images.plan_push(empty, "podman", images.images(["train"], ""), {})
        images.push(empty, plan, lambda text: None)
    assert found <= policies.actions_of(policies.policy("push", policies.Scope()))
    assert "ecr:CreateRepository" in found
