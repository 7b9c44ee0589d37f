"""Prediction over files: paths in, one result per picture out, in order, as a stream. A broken picture never stops the rest.

`predict_files` gives what `sightline predict -o out.jsonl` writes; `detect_files` gives the pictures too, for drawing.
"""

import json
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path, PurePath

from PIL import Image as Pillow

from sightline import wire
from sightline.errors import ImageError, Problem, RunError, SightlineError
from sightline.images import SUFFIXES, read_image
from sightline.records import Detections, Image, Predict
from sightline.storage import atomic_write, fetched, is_remote, local_path

READERS = 4
"""Threads that read and decode. Decoding a 12-megapixel JPEG takes about as long as a small detector on a GPU."""

DRAWN = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
"""How pictures are written, by suffix; others get `.png` added."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What became of one picture: either `image` and `detections`, or the `problem`."""

    path: Path
    image: Image | None = None
    detections: Detections | None = None
    problem: Problem | None = None

    def line(self, class_names: Sequence[str], name: str = "") -> dict[str, object]:
        """The wire's answer with `"image": PATH` before it, or `{"image": PATH, "error": {...}}`. name: instead of the path."""
        called = name or str(self.path)
        if self.detections is not None:
            return {"image": called, **wire.to_json(self.detections, class_names)}
        problem = self.problem or Problem(called, "has no answer", "Try it again.")
        where = called if problem.where == str(self.path) else problem.where
        return {"image": called, "error": {**problem.as_dict(), "where": where}}


def collect(paths: Iterable[str | Path]) -> dict[Path, str]:
    """{picture: how to call it} of what `paths` name: files as they are, folders with all below them, sorted; each once.

    Below a folder, names that begin with a dot are left out, and so is what is not named like a picture. Pictures on S3 are
    fetched and called by their addresses.

    Raises:
        ImageError: something does not exist, or a folder holds no picture; all such problems at once.
        RunError: S3 cannot be reached.
    """
    found: dict[Path, str] = {}
    problems: list[Problem] = []
    for given in paths:
        try:
            if is_remote(str(given)):
                found.update(fetched(str(given), is_picture))
                continue
            path = local_path(given, "Prediction")
        except RunError:
            raise
        except SightlineError as error:
            problems += error.problems
            continue
        pictures = pictures_below(path) if path.is_dir() else [path]
        if not pictures:
            problems.append(Problem(str(path), "holds no pictures", f"Pictures end in {', '.join(sorted(SUFFIXES))}."))
        found.update({picture: str(picture) for picture in pictures})
    if problems:
        raise ImageError.collected(problems)
    return found


def is_picture(name: str) -> bool:
    """Whether a key below a prefix is named like a picture, and nothing of it is hidden."""
    return Path(name).suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in name.split("/"))


def pictures_below(folder: Path) -> list[Path]:
    """The files below `folder` that are named like pictures, sorted; nothing hidden, no folder twice through a link."""
    pictures = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures += [Path(parent, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES]
    return sorted(pictures)


def predict_files(
    predict: Predict,
    class_names: Sequence[str],
    paths: Iterable[Path],
    *,
    batch_size: int = 1,
    threshold: float = 0.0,
) -> Iterator[dict[str, object]]:
    """One JSON line's worth per picture, in order; see `Found.line`."""
    for found in detect_files(predict, paths, batch_size=batch_size, threshold=threshold):
        yield found.line(class_names)


def detect_files(predict: Predict, paths: Iterable[Path], *, batch_size: int = 1, threshold: float = 0.0) -> Iterator[Found]:
    """What was found in each picture, in order. Pictures are read ahead in threads while the model works.

    threshold: least score that is kept

    Raises:
        RunError: `predict` cannot go on at all (a remote server is gone). Whatever else it raises concerns its pictures only.
    """
    reads = read_ahead(paths, window=batch_size + READERS)
    try:
        while batch := list(islice(reads, batch_size)):
            yield from detect_batch(predict, batch, threshold)
    finally:
        reads.close()


def read_ahead(paths: Iterable[Path], window: int) -> Generator[Found]:
    """Each path's picture or problem, in order; at most `window` pictures are in memory ahead of the caller."""
    remaining = iter(paths)
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as readers:
        ahead: deque[Future[Found]] = deque(readers.submit(read, path) for path in islice(remaining, window))
        try:
            while ahead:
                found = ahead.popleft().result()
                ahead.extend(readers.submit(read, path) for path in islice(remaining, 1))
                yield found
        finally:
            readers.shutdown(cancel_futures=True)


def read(path: Path) -> Found:
    try:
        return Found(path, image=read_image(path))
    except ImageError as error:
        return Found(path, problem=error.problems[0])


def detect_batch(predict: Predict, batch: Sequence[Found], threshold: float) -> list[Found]:
    """The same pictures with their detections, in order. Those of one shape are predicted together: they need no padding."""
    results = {index: found for index, found in enumerate(batch) if found.image is None}
    readable = [(index, found, found.image) for index, found in enumerate(batch) if found.image is not None]
    readable.sort(key=lambda entry: entry[2].shape)
    for _, group in groupby(readable, key=lambda entry: entry[2].shape):
        indices, founds, images = zip(*group, strict=True)
        for index, found, image, outcome in zip(indices, founds, images, predict_each(predict, images), strict=True):
            if isinstance(outcome, Detections):
                results[index] = Found(found.path, image=image, detections=outcome.above(threshold))
            else:
                results[index] = Found(found.path, problem=problem_of(found.path, outcome))
    return [results[index] for index in range(len(batch))]


def predict_each(predict: Predict, images: Sequence[Image]) -> list[Detections | Exception]:
    """One answer or error per picture; a failing batch is tried again one by one, so that a bad picture fails only itself."""
    try:
        answers = predict(images)
        if len(answers) != len(images):
            raise RunError("predict", f"gave {len(answers)} answers to {len(images)} pictures", "Report this model.")
    except RunError:
        raise
    except Exception as error:
        if len(images) == 1:
            return [error]
        return [outcome for image in images for outcome in predict_each(predict, [image])]
    return [*answers]


def problem_of(path: Path, error: Exception) -> Problem:
    if isinstance(error, SightlineError):
        return Problem(str(path), f"{error.where} {error.what}", error.fix)
    return Problem(str(path), f"could not be predicted ({error!r})", "Try another picture; if all fail, the model is broken.")


def write_lines(lines: Iterable[Mapping[str, object]], path: Path) -> None:
    """JSON lines at `path`, which appears when the last one is written, or not at all."""
    with atomic_write(path) as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")


def drawn_names(paths: Sequence[Path]) -> dict[Path, PurePath]:
    """Where each picture goes when drawn: its path below the folder that all share; no two the same. JPEG or PNG, by suffix.

    >>> drawn_names([Path("a/x/1.jpg"), Path("a/y/1.tif")])
    {PosixPath('a/x/1.jpg'): PurePosixPath('x/1.jpg'), PosixPath('a/y/1.tif'): PurePosixPath('y/1.tif.png')}
    """
    absolute = {path: PurePath(os.path.abspath(path)) for path in paths}  # noqa: PTH100 - resolve() would follow links
    shared = os.path.commonpath([path.parent for path in absolute.values()]) if absolute else ""
    names: dict[Path, PurePath] = {}
    taken = {whole.relative_to(shared) for whole in absolute.values()}
    for path, whole in absolute.items():
        name = whole.relative_to(shared)
        while name.suffix.lower() not in DRAWN or (name in taken and name != whole.relative_to(shared)):
            name = name.with_name(name.name + ".png")
        taken.add(name)
        names[path] = name
    return names


def write_picture(image: Image, path: Path) -> None:
    """`image` as JPEG or PNG, as the name says; whole, or not at all."""
    with atomic_write(path) as file:
        Pillow.fromarray(image).save(file, DRAWN[path.suffix.lower()], quality=92, compress_level=1)
