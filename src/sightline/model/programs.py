"""Compiled programs, kept in a folder of the user's, so that a second start needs no compiler.

A program is code that is loaded into the process. So the folder must be the user's own and closed to everybody else, a file is
taken only with the digest that was written beside it, and what it was compiled for must be what is at hand: torch's version,
the processor with its instructions or the GPU, and the program's text. Anything else is compiled again, and the log says why.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import platform
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.export import ExportedProgram

from sightline.errors import ConfigError
from sightline.storage import write_json

LOG = logging.getLogger(__name__)

Build = Callable[[Path], object]
"""Writes a program's package to a path."""

FORMAT = 1
"""Of what is kept and the options it is compiled with; another number compiles everything again."""

CPU_FACTS = Path("/proc/cpuinfo")
CPU_KEYS = ("model name", "flags", "Features")
"""Of its lines: what code for `-march=native` depends on."""

SCRATCH = "TORCHINDUCTOR_CACHE_DIR"
"""Where torch's compiler works: by default a folder in /tmp whose name everybody knows."""

OTHERS_MAY = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Key:
    """What a program was compiled for.

    text:    digest of what it computes: operations, and shapes and types of all that goes in; weights are not in it
    machine: what it runs on, {"torch": "2.8.0", ...}
    """

    text: str
    machine: Mapping[str, str]

    def facts(self) -> dict[str, object]:
        return {"format": FORMAT, "text": self.text, "machine": dict(self.machine)}

    @property
    def name(self) -> str:
        """Of its files: that of the text, then that of everything, so that programs of other machines are seen."""
        return f"{self.text[:24]}-{digest(json.dumps(self.facts(), sort_keys=True).encode())[:16]}"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def text_of(exported: ExportedProgram) -> str:
    """The digest of what a program computes, whatever its weights are."""
    inputs = [
        (node.name, str(value.shape), str(value.stride()), str(value.dtype))
        for node in exported.graph.nodes
        if node.op == "placeholder" and isinstance(value := node.meta.get("val"), torch.Tensor)
    ]
    signature = str(exported.graph_signature)
    return digest("\n".join((exported.graph_module.code, signature, repr(inputs), repr(exported.call_spec))).encode())


def machine_facts(device: torch.device) -> dict[str, str]:
    """What decides whether code that was compiled on one machine runs on another."""
    facts = {"torch": torch.__version__, "system": f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}"}
    facts["processor"] = processor()
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        facts["gpu"] = f"{torch.cuda.get_device_name(device)}, {major}.{minor}"
        facts["libraries"] = f"CUDA {torch.version.cuda}, HIP {torch.version.hip}"
    return facts


def processor() -> str:
    """The processor's name and the digest of its instructions, where the system tells them."""
    try:
        lines = CPU_FACTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in CPU_KEYS:
            told.setdefault(key.strip(), value.strip())
    name = told.get("model name") or platform.processor() or platform.machine()
    instructions = told.get("flags") or told.get("Features") or torch.backends.cpu.get_cpu_capability()
    return f"{name}, {digest(' '.join(sorted(instructions.split())).encode())[:8]}"


def private_folder(folder: Path) -> None:
    """Make `folder`, or find that it is the user's alone.

    Raises:
        ConfigError: it cannot be made, or others could have put something into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
    except OSError as error:
        fix = "Set SIGHTLINE_CACHE to a folder that you may write to, or leave out --compile."
        raise ConfigError(folder, f"cannot keep compiled programs ({error.strerror})", fix) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(folder, "is no folder, and compiled programs would be kept in it", "Remove it.")
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        what = f"belongs to another user (number {status.st_uid}), whose programs would run as you"
        raise ConfigError(folder, what, "Set SIGHTLINE_CACHE to a folder of your own.")
    if hasattr(os, "getuid") and status.st_mode & OTHERS_MAY:
        what = f"is open to others (mode {stat.S_IMODE(status.st_mode):o}), whose programs would run as you"
        raise ConfigError(folder, what, f"Look who wrote what is in it, then: rm -r {folder}")


def program(folder: Path, key: Key, build: Build) -> Path:
    """The package of `key`, kept from an earlier start or built now. Processes that start together build it once.

    folder: as `private_folder` has made it

    Raises:
        ConfigError: it has to be built and there is no compiler.
        Exception: whatever `build` raises.
    """
    with alone(folder / f"{key.name}.lock"):
        package = kept(folder, key)
        if package is None:
            began = time.perf_counter()
            package = keep(folder, key, build)
            LOG.info("Compiled in %.0f s, kept as %s.", time.perf_counter() - began, package)
        return package


def kept(folder: Path, key: Key) -> Path | None:
    """The package of `key`, if it is there as it was written; else None, and the log says what is there instead."""
    package, told = folder / f"{key.name}.pt2", folder / f"{key.name}.json"
    try:
        written = json.loads(told.read_bytes())
        content = package.read_bytes()
    except FileNotFoundError:
        say_others(folder, key)
        return None
    except (OSError, ValueError) as error:
        LOG.warning("%s cannot be read (%s): compiled again.", told, error)
        return None
    if not isinstance(written, dict) or {name: written.get(name) for name in key.facts()} != key.facts():
        LOG.warning("%s is not what its name says, it was changed or copied: compiled again.", told)
        return None
    if written.get("sha256") != digest(content):
        LOG.warning("%s has not the digest that %s says, it was changed or damaged: compiled again.", package, told.name)
        return None
    return package


def say_others(folder: Path, key: Key) -> None:
    """Tell of the same program that was compiled elsewhere: who moves a cache or upgrades torch wonders why it takes long."""
    for told in sorted(folder.glob(f"{key.text[:24]}-*.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            machine = json.loads(told.read_bytes()).get("machine", {})
            changed = [
                f"{name} {machine.get(name)}, now {value}" for name, value in key.machine.items() if machine.get(name) != value
            ]
            if changed:
                LOG.warning("%s was compiled for %s: compiled again.", told.with_suffix(".pt2"), "; ".join(changed))
                return


def keep(folder: Path, key: Key, build: Build) -> Path:
    """Build the package and put it beside its facts, each whole or not at all."""
    package, told = folder / f"{key.name}.pt2", folder / f"{key.name}.json"
    told.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as room:
        made = Path(room) / package.name
        build(made)
        content = made.read_bytes()
        made.replace(package)
    write_json(told, {**key.facts(), "sha256": digest(content)})
    return package


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """One process at a time; where the system has no such locks, all at once, which costs only double work."""
    with path.open("a") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compile_to(exported: ExportedProgram, package: Path) -> None:
    """Compile with torch's Inductor ahead of time. The package has no weights: they are given to it where it is loaded.

    Raises:
        ConfigError: there is no compiler.
        Exception: torch's, of many kinds.
    """
    device = next((tensor.device.type for tensor in exported.state_dict.values()), "cpu")
    check_compiler(device, os.environ)
    from torch._inductor import aoti_compile_and_package

    with working_folder():
        aoti_compile_and_package(
            exported, package_path=str(package), inductor_configs={"aot_inductor.package_constants_in_so": False}
        )


def check_compiler(device: str, environ: Mapping[str, str]) -> None:
    """Nothing, if what torch's compiler calls is there: C++ always, and C for Triton on a GPU. device: "cpu" or "cuda".

    Raises:
        ConfigError: it is not.
    """
    usual = "clang++" if platform.system() == "Darwin" else "g++"
    wanted = {"C++": ("CXX", (usual,))} | ({} if device == "cpu" else {"C": ("CC", ("gcc", "clang"))})
    for language, (variable, names) in wanted.items():
        named = shlex.split(environ.get(variable, ""))[:1]
        if not any(shutil.which(name, path=environ.get("PATH")) for name in named or names):
            what = f"{variable}={named[0]} is not there" if named else f"{' or '.join(names)} is not there"
            fix = f"Install one (Debian, Ubuntu: apt install g++), set {variable}, or leave out --compile."
            raise ConfigError("--compile", f"needs a {language} compiler, and {what}", fix)


@contextlib.contextmanager
def working_folder() -> Iterator[None]:
    """torch's compiler works in a folder of this process, unless the user has named one; torch reads it from there alone."""
    if SCRATCH in os.environ:
        yield
        return
    os.environ[SCRATCH] = scratch().name
    try:
        yield
    finally:
        del os.environ[SCRATCH]


@functools.cache
def scratch() -> tempfile.TemporaryDirectory[str]:
    """Until the process ends: torch remembers what it has put there."""
    return tempfile.TemporaryDirectory(prefix="sightline-compile-", ignore_cleanup_errors=True)
