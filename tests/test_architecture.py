"""The import rules, and what works without torch: checked on every run, because nobody notices when they break."""

import ast
import importlib.util
import os
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sightline

REPOSITORY = Path(__file__).parents[1]
PACKAGE = Path(sightline.__file__).parent
MODULES = ["sightline", *(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "sightline."))]

BLOCKED = "import sys; sys.modules['torch'] = None; sys.modules['torchvision'] = None\n"
"""Importing a module that is None raises ImportError: as on a machine without it."""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_rooms_import_only_what_the_table_allows() -> None:
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_table_covers_every_room() -> None:
    """A new room that no rule names could import anything."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    named = {name for contract in contracts for key in ("source_modules", "modules") for name in contract.get(key, ())}
    # they put everything together
    composing = {"sightline.cli", "sightline.__main__", "sightline.checking", "sightline.examining", "sightline.journey"}
    rooms = {name for name in MODULES if name.count(".") == 1}
    assert rooms - composing <= named


@pytest.mark.parametrize(
    "module",
    [
        "sightline",
        "sightline.labels",
        "sightline.coco",
        "sightline.evaluation.coco",
        "sightline.evaluation.results",
        "sightline.config.sources",
        "sightline.config.support",
        "sightline.dataset.folder",
        "sightline.dataset.split",
        "sightline.checking",
        "sightline.examining",
        "sightline.bundle.load",
        "sightline.runtimes.onnxruntime",
        "sightline.images",
        "sightline.wire",
        "sightline.view.draw",
        "sightline.serving.app",
        "sightline.serving.remote",
        "sightline.cloud.endpoints",
        "sightline.cloud.jobs",
        "sightline.benchmarking.run",
        "sightline.benchmarking.plan",
        "sightline.cli.main",
    ],
)
def test_works_without_torch(module: str) -> None:
    done = python(f"{BLOCKED}import {module}")
    assert done.returncode == 0, done.stderr


def test_the_block_blocks() -> None:
    """Else the test above would pass whatever they import."""
    done = python(f"{BLOCKED}import sightline.model.boxes")
    assert done.returncode != 0
    assert "torch" in done.stderr


HELP = "import sys; sys.argv = ['sightline', *sys.argv[1:]]; from sightline.cli.main import main\ntry: main()\n"
HELP += "except SystemExit as end: code = end.code\nelse: code = 0\n"


@pytest.mark.parametrize("command", [(), ("train",), ("dataset", "split"), ("bundle",)], ids=" ".join)
def test_help_without_torch(command: tuple[str, ...]) -> None:
    done = python(f"{BLOCKED}{HELP}sys.exit(code or 0)", *command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: sightline" in done.stdout


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import sightline, sys\n", id="import sightline"),
        pytest.param(HELP, id="sightline --help"),
    ],
)
def test_torch_is_not_imported_before_it_is_needed(code: str) -> None:
    done = python(f"{code}print('LOADED', sorted({{'torch', 'torchvision', 'pandas'}} & sys.modules.keys()))", "--help")
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout


def test_every_public_name_is_there() -> None:
    for name in sightline.__all__:
        assert getattr(sightline, name) is not None
    assert set(sightline.PUBLIC) | {"__version__"} == set(sightline.__all__)


@pytest.mark.parametrize("name", [name for name, place in sightline.PUBLIC.items() if ":" in place])
def test_public_functions_stay_callable_when_their_rooms_are_imported(name: str) -> None:
    """Python sets a package in its parent once anything in it is imported, also over a name that means a function."""
    assert callable(getattr(sightline, name))
    assert callable(getattr(sightline, name))


def test_public_names_are_spelled_out_for_type_checkers() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    spelled = {
        alias.asname: f"{node.module}:{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert spelled == sightline.PUBLIC


def test_an_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match=r"module 'sightline' has no attribute 'detectron'"):
        sightline.detectron  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    """Read, not imported: importing would need every extra."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].rstrip().endswith((".", ":", "?")), docstring.splitlines()[0]


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("sightline.cli", "sightline.serving")])
def test_importing_reads_no_environment_and_configures_no_logging(name: str) -> None:
    """Module level holds definitions: no os.environ assignment, no basicConfig, no seeding of global generators."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    calls = [
        ast.unparse(node)
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call | ast.Subscript)
    ]
    assert [call for call in calls if any(word in call for word in ("environ", "basicConfig", "seed("))] == []


def test_packaged_files_are_there() -> None:
    """What is read at run time lies beside the code that reads it."""
    assert (PACKAGE / "config" / "presets" / "small.yaml").is_file()
    assert os.access(PACKAGE / "config" / "presets" / "small.yaml", os.R_OK)
