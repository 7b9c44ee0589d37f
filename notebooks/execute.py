"""Run the notebooks from top to bottom, each in a kernel of its own, and keep what they showed.

python notebooks/execute.py                                      all of them, in this folder
python notebooks/execute.py 3_train --set 'data="my/data"'        one, with another value of a parameter

Parameters stand in the first code cell, which is tagged `parameters`; as papermill does, other values go into a cell behind it.
Notebooks that were given other values are not kept, unless --to names a folder for them.
"""

import argparse
import ast
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
TIMEOUT_S = 3600
"""For one cell: a training on a busy machine."""


def parameters_cell(notebook: NotebookNode) -> int:
    """Which cell is tagged `parameters`.

    Raises:
        ValueError: none is.
    """
    for place, cell in enumerate(notebook.cells):
        if "parameters" in cell.metadata.get("tags", ()):
            return place
    raise ValueError("no cell is tagged `parameters`")


def parameters(notebook: NotebookNode) -> dict[str, object]:
    """Name and value of every parameter."""
    statements = ast.parse(notebook.cells[parameters_cell(notebook)].source).body
    return {
        one.targets[0].id: ast.literal_eval(one.value)
        for one in statements
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
    }


def with_parameters(notebook: NotebookNode, values: Mapping[str, object]) -> NotebookNode:
    """A copy with other values of some parameters.

    Raises:
        ValueError: it has no such parameter.
    """
    unknown = sorted(values.keys() - parameters(notebook).keys())
    if unknown:
        raise ValueError(f"no parameter {', '.join(unknown)}. Known: {', '.join(parameters(notebook))}")
    copy = nbformat.from_dict(notebook)
    if values:
        lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        cell = nbformat.v4.new_code_cell(lines, id="injected", metadata={"tags": ["injected-parameters"]})
        copy.cells.insert(parameters_cell(notebook) + 1, cell)
    return copy


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with its output, run in `folder`.

    Raises:
        CellExecutionError: a cell failed.
    """
    client = NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return tidied(client.execute())


def tidied(notebook: NotebookNode) -> NotebookNode:
    """Without what differs from machine to machine and from run to run: times, versions, and where output was cut in pieces."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, of one stream in a row made one."""
    made: list[NotebookNode] = []
    for output in outputs:
        if made and output.output_type == made[-1].output_type == "stream" and output.name == made[-1].name:
            made[-1].text += output.text
        else:
            made.append(output)
    return made


def main(words: list[str]) -> None:
    names = sorted(path.stem for path in HERE.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description="Run the notebooks and keep their output.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter, as Python writes it; of several notebooks those that have it get it",
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="where notebooks with other parameters are kept")
    given = parser.parse_args(words)
    wrong = sorted(set(given.names) - set(names))
    if wrong:
        parser.error(f"no notebook {', '.join(wrong)}. Known: {', '.join(names)}")
    values = {name: ast.literal_eval(value) for name, _, value in (word.partition("=") for word in given.set)}
    notebooks = {name: nbformat.read(HERE / f"{name}.ipynb", as_version=4) for name in given.names or names}
    known = {name: parameters(notebook) for name, notebook in notebooks.items()}
    unknown = sorted(name for name in values if not any(name in own for own in known.values()))
    if unknown:
        parser.error(
            f"no notebook has a parameter {', '.join(unknown)}. Known: {', '.join(sorted(set().union(*known.values())))}"
        )
    for name, notebook in notebooks.items():
        path = HERE / f"{name}.ipynb"
        print(path.name, flush=True)
        own = {parameter: value for parameter, value in values.items() if parameter in known[name]}
        done = execute(with_parameters(notebook, own), HERE)
        to = given.to or (None if values else HERE)
        if to is not None:
            to.mkdir(parents=True, exist_ok=True)
            nbformat.write(done, to / path.name)


if __name__ == "__main__":
    main(sys.argv[1:])
