"""A notebook as a page: its words, its code, and the output that was kept."""

import json

LARGEST = 20_000
"""Letters of one cell's output that are shown."""


def as_markdown(text: str) -> str:
    """The Markdown of a notebook's JSON."""
    notebook = json.loads(text)
    return "\n\n".join(part for cell in notebook["cells"] for part in parts_of(cell)) + "\n"


def parts_of(cell: dict) -> list[str]:
    """A cell's own text, and what came out of it."""
    source = "".join(cell["source"]).strip("\n")
    if not source:
        return []
    if cell["cell_type"] != "code":
        return [source]
    language = "console" if source.startswith("!") else "ipython" if source.startswith("%") else "python"
    return [fenced(source, language), *(shown for output in cell["outputs"] if (shown := output_of(output)))]


def output_of(output: dict) -> str:
    """What a cell printed, showed or gave. Pictures are embedded; of several forms of one thing the plainest is taken."""
    if output["output_type"] == "stream":
        return fenced("".join(output["text"]), "text")
    data = output.get("data", {})
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            content = "".join(data[kind]).replace("\n", "")
            return f'```{{raw}} html\n<img alt="output of the cell above" src="data:{kind};base64,{content}">\n```'
    return fenced("".join(data["text/plain"]), "text") if "text/plain" in data else ""


def fenced(text: str, language: str) -> str:
    """Text as a block of code."""
    shown = text.rstrip()[:LARGEST]
    return f"````{language}\n{shown}\n````" if shown else ""
