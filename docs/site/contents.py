"""The site's table of contents. A page of docs/ that stands nowhere here is a warning of the build, and so an error."""

from pathlib import Path

PAGES_OUTSIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages that lie in the repository's root, where people look for them."""

CONTENTS = {
    "Start": ["getting_started", "journey", "troubleshooting"],
    "Labels": ["labels", "check", "splits", "s3"],
    "Training": ["training", "tuning"],
    "Evaluation": ["evaluation"],
    "Prediction and serving": ["predict", "sliced", "wire", "bundles", "export", "runtimes", "cost"],
    "SageMaker": ["cloud", "limits", "containers", "infra"],
    "Moving here": ["moving_from_detectron2", "moving_from_samples", "moving_from_others"],
    "Detectron2": ["detectron2", "detectron2_drop_in", "zoo", "detectron2_keys"],
    "Recipes": ["recipes/balloon", "recipes/coco", "recipes/custom", "recipes/aerial", "recipes/shelves"],
    "Notebooks": ["notebooks"],
    "Reference": ["api", "architecture", "benchmarks/README", "licences"],
    "Project": ["/CHANGELOG", "/CONTRIBUTING", "releasing", "/SECURITY"],
}
"""Caption: pages in docs/, or with `/` from the repository's root. Those that do not exist are left out."""


def pages(root: Path, caption: str) -> list[str]:
    """What stands under a caption, as Sphinx names documents: from the repository's root, without suffix."""
    listed = [page[1:] if page.startswith("/") else f"docs/{page}" for page in CONTENTS[caption]]
    there = [page for page in listed if (root / f"{page}.md").is_file()]
    if caption == "Notebooks":
        there += sorted(f"notebooks/{place.stem}" for place in (root / "notebooks").glob("*.ipynb"))
    return there


def tables(root: Path) -> str:
    """The table of contents as Sphinx wants it, to stand at the end of the first page, unseen but for the sidebar."""
    parts = []
    for caption in CONTENTS:
        found = pages(root, caption)
        if found:
            lines = "\n".join(f"/{page}" for page in found)
            parts.append(f"\n```{{toctree}}\n:hidden:\n:titlesonly:\n:maxdepth: 1\n:caption: {caption}\n\n{lines}\n```\n")
    return "".join(parts)
