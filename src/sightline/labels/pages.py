"""Pictures of formats that have a file or a task for each: read one by one, each name once, and made a dataset."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sightline.errors import LabelError, Problem
from sightline.names import file_names
from sightline.records import Category, Dataset, ImageRecord, ImageSize, Instance
from sightline.storage import is_remote


@dataclass(frozen=True, slots=True)
class Page:
    """One picture that was labelled.

    place:   of its labels, for messages
    source:  what the labels call it; no two pictures share one
    name:    what its file is to be called
    objects: class name, object still of class 0
    picture: its file, where it is here
    """

    place: str
    source: str
    name: str
    size: ImageSize
    objects: Sequence[tuple[str, Instance]]
    picture: Path | None = None


def collect(readers: Iterable[Callable[[], Page | None]], problems: list[Problem], fix: str) -> list[Page]:
    """What each reader gives; None is no picture. What they raise, and pictures that come again, goes to `problems`.

    fix: what to do about a picture that comes again
    """
    pages: dict[str, Page] = {}
    for read in readers:
        try:
            page = read()
        except LabelError as error:
            problems.extend(error.problems)
            continue
        if page is None:
            continue
        if page.source in pages:
            problems.append(Problem(page.place, f"labels {page.source} again, after {pages[page.source].place}", fix))
        else:
            pages[page.source] = page
    return list(pages.values())


def assemble(pages: Sequence[Page]) -> tuple[Dataset, dict[str, Path]]:
    """(the dataset, its classes ordered by name; {file name: its picture})."""
    classes = sorted({name for page in pages for name, _ in page.objects})
    labels = {name: label for label, name in enumerate(classes)}
    images: list[ImageRecord] = []
    pictures: dict[str, Path] = {}
    called = Counter(page.name for page in pages)
    references = [page.source if called[page.name] > 1 else page.name for page in pages]
    safe = file_names(references, keep_folders=not any(map(is_remote, references)))
    for identity, (name, page) in enumerate(zip(safe, pages, strict=True), 1):
        instances = tuple(replace(one, label=labels[kind]) for kind, one in page.objects)
        images.append(ImageRecord(identity, name, page.size, instances, "" if page.source == name else page.source))
        if page.picture is not None:
            pictures[name] = page.picture
    return Dataset(tuple(Category(identity, name) for identity, name in enumerate(classes, 1)), tuple(images)), pictures
