"""The page at `/`: one self-contained HTML file beside this module. It asks the server it came from and nothing else."""

from functools import cache
from importlib.resources import files

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""The browser itself then refuses anything that the page should not do, such as reaching another host."""


@cache
def page() -> str:
    """The page's HTML."""
    return files(__package__).joinpath("page.html").read_text(encoding="utf-8")
