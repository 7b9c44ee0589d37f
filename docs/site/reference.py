"""The reference of the Python names: their signatures and docstrings, read from the source without importing it.

docs/api.md lists names as links to their files; on the site each becomes what its docstring says. A docstring is prose, with
blocks of `name: what it is` for arguments and fields, and `Raises:`.
"""

import ast
import re
from pathlib import Path

ENTRY = re.compile(r"^- \[`(?P<name>sightline[\w.]*)`\]\([^)]*\)$")
"""A line of docs/api.md that is a name."""

PUBLIC = "PUBLIC"
"""The table in sightline/__init__.py of public names and where they are defined."""

DESCRIBED = re.compile(r"^(?P<names>[a-z_]\w*(, [a-z_]\w*)*): +(?P<text>\S.*)$")
RAISED = re.compile(r"^(?P<names>[A-Z]\w*(, [A-Z]\w*)*): +(?P<text>\S.*)$")
INDENTED = re.compile(r"^ {4,}\S")

UNLISTED = ":no-contents-entry:\n"
"""For fields and methods, which would fill the list of what is on the page."""

Definition = ast.FunctionDef | ast.ClassDef


def documented(page: str, source: Path) -> str:
    """docs/api.md with every listed name in full. source: the folder with the package.

    Raises:
        LookupError: a name that is defined nowhere.
    """
    public = public_names(source)
    lines = []
    for line in page.splitlines():
        found = ENTRY.match(line)
        lines.append(entry(found["name"], public, source) if found else line)
    return "\n".join(lines) + "\n"


def public_names(source: Path) -> dict[str, str]:
    """Every public name: "module:attribute"."""
    tree = ast.parse((source / "sightline/__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == PUBLIC:
            return dict(ast.literal_eval(node.value))
    raise LookupError(PUBLIC)


def entry(name: str, public: dict[str, str], source: Path) -> str:
    """What the site says of one name."""
    short = name.removeprefix("sightline.")
    module, _, attribute = public.get(short, "{}:{}".format(*name.rpartition(".")[::2])).partition(":")
    definition = find(module, attribute, source)
    if isinstance(definition, ast.FunctionDef):
        return function(name, definition)
    return class_of(name, definition)


def find(module: str, attribute: str, source: Path) -> Definition:
    """The function or class of a module, also of one that the module has from another.

    Raises:
        LookupError: there is none.
    """
    place = source / module.replace(".", "/")
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, Definition) and node.name == attribute:
            return node
        if isinstance(node, ast.ImportFrom) and node.module and any(attribute == alias.name for alias in node.names):
            return find(node.module, attribute, source)
    raise LookupError(f"{module}:{attribute}")


def signature(definition: ast.FunctionDef, *, method: bool = False) -> str:
    """The arguments and what is returned, as Python writes them."""
    arguments = definition.args
    if method:
        arguments = ast.arguments(
            posonlyargs=arguments.posonlyargs,
            args=arguments.args[1:],
            vararg=arguments.vararg,
            kwonlyargs=arguments.kwonlyargs,
            kw_defaults=arguments.kw_defaults,
            kwarg=arguments.kwarg,
            defaults=arguments.defaults,
        )
    returned = f" -> {ast.unparse(definition.returns)}" if definition.returns else ""
    return f"({ast.unparse(arguments)}){returned}"


def function(name: str, definition: ast.FunctionDef) -> str:
    """The directive of a function."""
    kind = "function"
    shown = signature(definition)
    if any("contextmanager" in ast.unparse(one) for one in definition.decorator_list):
        body = "A context manager, for `with`.\n\n" + prose(ast.get_docstring(definition) or "")
        shown = re.sub(r" -> Iterator\[(.*)\]$", r" -> \1", shown)
    else:
        body = prose(ast.get_docstring(definition) or "")
    return directive(kind, f"{name}{shown}", body)


def class_of(name: str, definition: ast.ClassDef) -> str:
    """The directive of a class: its words, its fields with their types, and the methods that say something."""
    members = []
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            field, kind = ast.unparse(node.target), ast.unparse(node.annotation)
            default = f':value: "{ast.unparse(node.value)}"\n' if node.value else ""
            members.append(f"```{{py:attribute}} {field}\n{UNLISTED}:type: {kind}\n{default}```")
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and ast.get_docstring(node):
            is_property = any(ast.unparse(one) == "property" for one in node.decorator_list)
            kind = "property" if is_property else "method"
            shown = f":type: {ast.unparse(node.returns)}\n" if is_property and node.returns else ""
            head = node.name if is_property else node.name + signature(node, method=True)
            members.append(f"```{{py:{kind}}} {head}\n{UNLISTED}{shown}\n{prose(ast.get_docstring(node) or '')}\n```")
    body = prose(ast.get_docstring(definition) or "") + "\n\n" + "\n\n".join(members)
    return directive("class", name, body)


def directive(kind: str, head: str, body: str) -> str:
    """MyST's form of a description of something in Python."""
    return f"\n``````{{py:{kind}}} {head}\n\n{body}\n``````\n"


def prose(docstring: str) -> str:
    """A docstring as Markdown: paragraphs as they are, blocks of `name: text` and `Raises:` as lists, examples as code."""
    blocks = re.split(r"\n\s*\n", docstring)
    return "\n\n".join(markdown(block) for block in blocks)


def markdown(block: str) -> str:
    """One block of a docstring."""
    lines = block.splitlines()
    if lines[0].startswith(">>> "):
        return "`````python\n" + "\n".join(re.sub(r"^(>>>|\.\.\.) ?", "", line) for line in lines) + "\n`````"
    if lines[0] == "Raises:":
        return "Raises:\n\n" + listed([line.removeprefix("    ") for line in lines[1:]], RAISED)
    if DESCRIBED.match(lines[0]):
        return listed(lines, DESCRIBED)
    return block


def listed(lines: list[str], form: re.Pattern[str]) -> str:
    """Lines of `name: text`, the text going on in lines that are indented, as a list."""
    entries: list[str] = []
    for line in lines:
        found = form.match(line)
        if found:
            names = ", ".join(f"`{name}`" for name in found["names"].split(", "))
            entries.append(f"- {names}: {found['text']}")
        elif entries and INDENTED.match(line):
            entries[-1] += " " + line.strip()
        else:
            entries.append(line)
    return "\n".join(entries)
