"""How Sphinx makes the site of the pages in docs/: `make docs`, into site/.

The repository's root is the source folder, so that links between files are the same here and in any viewer of the repository. A
link to a file that is no page (a script, a table of prices) gives that file itself. Nothing comes from another host.
"""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from contents import PAGES_OUTSIDE, tables  # noqa: E402  # stands beside this file
from notebook_pages import as_markdown  # noqa: E402
from reference import documented  # noqa: E402

project = "Sightline"
copyright = "the makers of Sightline, Apache-2.0"  # Sphinx's own name
root_doc = "docs/index"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
include_patterns = ["docs/**.md", "notebooks/*.ipynb", *PAGES_OUTSIDE]
exclude_patterns = [
    *(place.name for place in ROOT.iterdir() if place.name not in {"docs", "notebooks", *PAGES_OUTSIDE}),
    "docs/site",
    "**/.*",
]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
smartquotes = False  # `--` and quotes are meant as they stand

html_theme = "furo"
html_title = "Sightline"
html_static_path = ["static"]
html_favicon = "static/icon.svg"
html_css_files = ["site.css"]
html_extra_path = ["root"]
html_copy_source = False
html_show_sphinx = False
LIGHT, DARK = "#0b5c7a", "#6cc5e6"
html_theme_options = {
    "light_css_variables": dict.fromkeys(("color-brand-primary", "color-brand-content", "color-brand-visited"), LIGHT),
    "dark_css_variables": dict.fromkeys(("color-brand-primary", "color-brand-content", "color-brand-visited"), DARK),
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


LINK = re.compile(r"\[([^\[\]]+)\]\(([^()#:\s]+)\)")
"""A link to a file or folder of the repository."""


def without_folders(text: str, folder: Path) -> str:
    """The Markdown of a page in `folder`, with links to folders, which a site does not list, as plain words."""
    return LINK.sub(lambda found: found[1] if (folder / found[2]).is_dir() else found[0], text)


def read(app: Sphinx, page: str, source: list[str]) -> None:
    """Sphinx's `source-read`: what a page becomes before it is parsed."""
    path = Path(app.env.doc2path(page))
    source[0] = without_folders(source[0], path.parent)
    if path.suffix == ".ipynb":
        source[0] = as_markdown(source[0])
    elif page == root_doc:
        source[0] += tables(ROOT)
    elif page == "docs/api":
        source[0] = documented(source[0], ROOT / "src")


def made_of_more(app: Sphinx, env: object, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Sphinx's `env-get-outdated`: pages to read again every time, since files that Sphinx does not watch go into them."""
    return [root_doc, "docs/api"]


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
    app.connect("env-get-outdated", made_of_more)
