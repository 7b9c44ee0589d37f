"""The world of a page: a folder with what its reader has, AWS and servers on loopback, and a shell to copy commands into.

Commands run word for word in bash. What differs from a reader's machine stands in the tables here, and nowhere else:

- `sightline` is answered by this process, which has torch imported already (`Desk`), with the same words, folder and
  environment as a process of its own would have. What takes long is made short there, behind the options: `shortened`.
- `pip`, `make`, `docker`, ... are not run. What they are given is looked up in the repository: `CHECKED`.
- Addresses of servers on ports 8080 to 8099 lead to ones on free ports, and AWS's to moto: `Page.text_of`, `Cloud`.
"""

import contextlib
import io
import json
import os
import re
import selectors
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image as Pillow

from docs import aws, shortened, things
from docs.console import ROOT, Command, without_comment
from docs.things import OF_PAGES, THINGS, Store

ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost):(80\d\d)\b")
"""Servers on this machine, as the pages have them."""

REAL = [
    *(
        "awk",
        "basename",
        "bash",
        "cat",
        "cp",
        "curl",
        "cut",
        "dirname",
        "echo",
        "env",
        "false",
        "find",
        "grep",
        "gunzip",
        "gzip",
    ),
    *(
        "head",
        "jq",
        "ls",
        "mkdir",
        "mv",
        "rm",
        "sed",
        "sh",
        "sleep",
        "sort",
        "tail",
        "tar",
        "tee",
        "test",
        "touch",
        "tr",
        "true",
    ),
    *("uniq", "unzip", "wc", "xargs", "zip"),
]
"""Programs of the machine that pages use; any other must be entered here or in `CHECKED`."""

MADE_BY = re.compile(r"(?:^|\s)(?:-o|--output|--into|--draw|--local|--plot|--markdown|>)\s+([^\s;&|]+)")

SHIM = """#!{python} -IS
import json, os, socket, sys
desk = socket.socket(socket.AF_UNIX)
desk.connect({address!r})
desk.sendall(json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
answer = json.loads(desk.makefile().read())
sys.stdout.write(answer["out"]), sys.stderr.write(answer["err"])
sys.stdout.flush(), sys.stderr.flush(), os._exit(answer["code"])
"""


APPENDED = {
    r"^sightline cloud image ": " --dry-run",  # there is no docker here
    r"^sightline cloud tune ": " --dry-run",  # moto starts no trainings of a search
}
"""Words that commands get in addition."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did. out, err: what it wrote."""

    code: int
    out: str
    err: str

    @property
    def written(self) -> str:
        return self.out + self.err


Answer = Callable[[list[str], Path], Outcome]
"""What stands in for a program: its words and the folder that it is called in."""


@dataclass
class Desk:
    """Where the programs of the shell come to: it answers what they would."""

    address: Path
    answers: Mapping[str, Answer]
    door: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(str(self.address))
        self.door.listen()

    @property
    def quiet(self) -> Path:
        """What a command answered here finds in its PATH: programs that do nothing, since the desk answers one at a time."""
        return self.address.with_name("quiet")

    def place(self, folder: Path) -> None:
        """All programs of a shell whose PATH is `folder`."""
        folder.mkdir()
        for name in self.answers:
            path = folder / name
            path.write_text(SHIM.format(python=sys.executable, address=str(self.address), name=name), encoding="utf-8")
            path.chmod(0o755)
        for name in REAL:
            if (found := shutil.which(name)) is not None:
                (folder / name).symlink_to(found)
        self.quiet.mkdir()
        for name in ("docker", "podman", "buildah"):
            (self.quiet / name).write_text("#!/bin/sh\n", encoding="utf-8")
            (self.quiet / name).chmod(0o755)
        (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
        (folder / "python").chmod(0o755)

    def answer(self) -> None:
        """One program that waits."""
        caller, _ = self.door.accept()
        with caller, caller.makefile("rb") as asked:
            name, words, folder, environ = json.loads(asked.readline())
            with around(Path(folder), environ | {"PATH": str(self.quiet)}):
                outcome = self.answers[name](words, Path(folder))
            caller.sendall(json.dumps({"code": outcome.code, "out": outcome.out, "err": outcome.err}).encode())

    def attend(self, process: "subprocess.Popen[str]") -> None:
        """Answer until `process` is over."""
        over = os.pidfd_open(process.pid)
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(over, selectors.EVENT_READ, False)
                waiting.register(self.door, selectors.EVENT_READ, True)
                while True:
                    ready = [key.data for key, _ in waiting.select()]
                    if True in ready:
                        self.answer()
                    elif ready:
                        return
        finally:
            os.close(over)


@contextlib.contextmanager
def around(folder: Path, environ: Mapping[str, str]) -> Iterator[None]:
    """This process in another folder, with another environment."""
    before, kept = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({**environ, **{name: value for name, value in kept.items() if name.startswith("PYTEST_")}})
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(kept)


def sightline(words: list[str], folder: Path) -> Outcome:
    """`sightline WORDS` in this process; who is asked whether to go on says yes."""
    from sightline.cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    before, code = (sys.argv, sys.stdin), 0
    sys.argv, sys.stdin = ["sightline", *words], io.StringIO("y\n")
    try:
        whole = shortened.as_asked() if words[:2] == ["dataset", "check"] else contextlib.nullcontext()
        with whole, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv, sys.stdin = before
    return Outcome(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]


def wrong(message: str) -> Outcome:
    return Outcome(2, "", message + "\n")


FINE = Outcome(0, "", "")


def make(words: list[str], folder: Path) -> Outcome:
    """Targets and variables of the repository's Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, _ = word.partition("=")
        if not re.search(rf"^{re.escape(name)}\s*\?=" if is_variable else rf"^{re.escape(name)}:", text, re.MULTILINE):
            return wrong(f"the Makefile has no {word}")
    return FINE


def pip(words: list[str], folder: Path) -> Outcome:
    """`pip install` of this package's extras, and of files that the repository has."""
    import tomllib

    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if words[:1] != ["install"]:
        return wrong(f"what is pip {words}?")
    for before, word in zip(["", *words], words, strict=False):
        if before in ("-r", "--requirement", "-c", "--constraint", "-e") and not (ROOT / word.partition("[")[0]).exists():
            return wrong(f"the repository has no {word}")
        found = re.fullmatch(r"(?:sightline|\.|\S+\.whl)\[([\w,-]+)\](?:\s*@.*)?", word)
        if found is not None and (unknown := set(found[1].split(",")) - set(known)):
            return wrong(f"pyproject.toml has no extras {unknown}")
    return FINE


def docker(words: list[str], folder: Path) -> Outcome:
    """`docker build` from files that the repository has."""
    for before, word in zip(["", *words], words, strict=False):
        if before in ("-f", "--file") and not (ROOT / word).is_file():
            return wrong(f"the repository has no {word}")
    return FINE


CHECKED: dict[str, Answer] = {"make": make, "pip": pip, "docker": docker}
"""Programs that are not run: what takes minutes, installs, or needs what is not here."""


@dataclass
class Page:
    """A page's folder, and what its commands have done so far."""

    name: str
    folder: Path
    world: "World"
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)

    def text_of(self, command: Command) -> str:
        """As on the page, but for the server's port and what is in APPENDED."""
        text = ADDRESS.sub(lambda found: self.world.server(int(found[1])).removeprefix("http://"), command.text)
        if text.startswith("sightline serve"):
            text = text.rstrip("& ")  # servers are in the background by themselves here
        more = next((words for pattern, words in APPENDED.items() if re.search(pattern, text)), "")
        return without_comment(text) + more if more else text

    def equip(self, command: Command) -> None:
        """Make the things that `command` names, unless an earlier one has made them or it makes them itself."""
        text = re.sub(r"\bsightline run\b", "sightline", without_comment(command.text))
        aws.equip(self.world, text)
        for address in re.findall(r"detectron2://[\w/.-]+", text):
            things.zoo_weights(address, Path(self.world.environ["SIGHTLINE_CACHE"]))
        made = {found.rstrip("/") for found in MADE_BY.findall(text)}
        for name, thing in THINGS.items():
            path = self.folder / name
            if name in made or path.exists():
                continue
            if re.search(rf"(?<![\w./:-]){re.escape(name)}(?![\w-]|\.\w)", text):
                path.parent.mkdir(parents=True, exist_ok=True)
                OF_PAGES.get((self.name, name), thing)(self.world.store, path)

    def run(self, command: Command) -> Outcome:
        """What `command` does here."""
        self.equip(command)
        state, place = self.folder.with_name(f"{self.folder.name}.env"), self.folder.with_name(f"{self.folder.name}.cwd")
        script = "\n".join([
            f"set -a; [ -f {state} ] && . {state}; cd \"$(cat {place} 2>/dev/null || echo {self.folder})\"; set +a -o pipefail",
            self.text_of(command),
            f"code=$?; export -p >{state}; pwd >{place}; exit $code",
        ])  # fmt: skip
        with (self.folder.with_name("out")).open("w+") as out, (self.folder.with_name("err")).open("w+") as err:
            process = subprocess.Popen(
                ["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=out, stderr=err, text=True,
                cwd=self.folder, env=dict(self.world.environ),
            )  # fmt: skip
            self.world.desk.attend(process)
            code = process.wait()
            out.seek(0), err.seek(0)
            return Outcome(code, out.read(), err.read())

    def run_python(self, command: Command) -> Outcome:
        """Run a block of Python with what the page says to have."""
        self.equip(command)
        names = {name: give() for name, give in self.world.given(self.name).items() if re.search(rf"\b{name}\b", command.text)}
        for name, value in names.items():
            self.names.setdefault(name, value)
        code = compile(self.text_of(command), command.place, "exec")
        out = io.StringIO()
        with around(self.folder, self.world.environ), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            exec(code, self.names)
        return Outcome(0, out.getvalue(), "")


@dataclass
class World:
    """What all pages share. always: the address of a server with a model; ports: of those that a page has started."""

    folder: Path
    store: Store
    environ: dict[str, str]
    desk: Desk
    account: Any
    always: str
    serving: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    ports: dict[int, str] = field(default_factory=dict)
    pages: dict[str, Page] = field(default_factory=dict)

    def page(self, name: str) -> Page:
        if name not in self.pages:
            folder = self.folder / name.replace("/", "_") / "here"
            folder.mkdir(parents=True)
            self.stop_serving()
            self.pages[name] = Page(name, folder, self)
        return self.pages[name]

    def sightline(self, *words: str) -> Outcome:
        """A command outside of all pages."""
        with around(self.folder, self.environ):
            return sightline(list(words), self.folder)

    def server(self, port: int = 8080) -> str:
        """The address of the server that the page has started on that port, else of one that is always there."""
        return self.ports.get(port, self.always)

    def stop_serving(self) -> None:
        self.serving.close()
        self.ports.clear()

    def serve(
        self,
        model: str | Path,
        *,
        port: int,
        device: str,
        threshold: Any,
        class_names: Any,
        settings: Any,
        load: Any,
        **rest: Any,
    ) -> None:
        """In place of `sightline.serving.server.serve`: in the background."""
        from sightline.serving.server import running

        loaded = load(model, device=device, score_threshold=threshold, class_names=class_names)
        self.ports[port] = self.serving.enter_context(running(loaded, settings=settings))

    def serve_many(self, folder: Path, *, port: int, device: str, threshold: float | None, settings: Any, load: Any,
                   **rest: Any) -> None:  # fmt: skip
        """In place of `serve_many` there."""
        from sightline.serving.server import create_many, running_app

        def load_one(path: Path) -> Any:
            return load(path, device=device, score_threshold=threshold, class_names=None)

        self.ports[port] = self.serving.enter_context(running_app(create_many(folder.absolute(), load_one), settings=settings))

    def train_here(self, root: Path, *, channels: Any, hyperparameters: Any = None, environ: Any = None) -> Any:
        """In place of `containers.local.train`, which tests/containers runs: laid out alike, and this run left."""
        from sightline.containers import local

        opt_ml = local.lay_out(root, channels=channels, hyperparameters=hyperparameters)
        shutil.unpack_archive(self.store.bundle, opt_ml.model)
        shutil.copytree(self.store.run, opt_ml.output_data, ignore=shutil.ignore_patterns("*.pth"), dirs_exist_ok=True)
        return local.Trained(opt_ml.model, opt_ml.output_data, opt_ml.checkpoints)

    def serve_here(self, root: Path, model: str | Path, *, port: int = 8080, environ: Any = None) -> int:
        """In place of `containers.local.serve`: in the background."""
        from sightline.bundle.load import load_model
        from sightline.containers import local
        from sightline.serving.server import running

        loaded = load_model(local.lay_out_model(root, model).model)
        self.ports[port] = self.serving.enter_context(running(loaded))
        return 0

    def given(self, page: str) -> dict[str, Callable[[], Any]]:
        """The names that blocks of Python use without having made them."""
        from builders import a_mask

        from sightline import wire
        from sightline.bundle.load import load_model
        from sightline.images import read_image
        from sightline.records import Detections

        first = min(self.store.pictures.glob("*.jpg"))

        def answer() -> bytes:
            import urllib.request

            request = urllib.request.Request(f"{self.server()}/invocations", first.read_bytes(), {"Content-Type": "image/jpeg"})
            with urllib.request.urlopen(request) as response:
                content: bytes = response.read()
            return content

        def with_masks() -> Any:
            mask = a_mask()
            box = np.array([[10, 20, 40, 60]], np.float32)
            found = Detections(mask.size, box, np.array([0.9], np.float32), np.array([0]), masks=(mask,))
            return wire.to_json(found, ("bee", "wasp"))

        return {
            "image": lambda: "sightline-train:0.1.0" if page == "docs/cloud.md" else read_image(first),
            "model": lambda: load_model(self.store.bundle),
            "body": answer,
            "answer": with_masks,
            "name": lambda: "parts-01",
            "role": lambda: "arn:aws:iam::123456789012:role/sightline-jobs",
            "cv2": lambda: SimpleNamespace(imread=lambda path: np.asarray(Pillow.open(path).convert("RGB"))[:, :, ::-1].copy()),
        }
