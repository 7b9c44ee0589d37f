"""`sightline dataset prelabel`: boxes that people shall correct, as the input manifest of an adjustment job."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import log_to_stderr, note, show

if TYPE_CHECKING:
    from sightline.dataset.folder import DatasetPart
    from sightline.records import Detections


def prelabel(
    source: Annotated[
        str, typer.Argument(metavar="PREDICTIONS|DIR", help="What `predict -o` wrote, COCO results, or a dataset folder.")
    ],
    *,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="The manifest to write; also s3://.")],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DIR", help="The dataset folder that was predicted: it knows the addresses."),
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="PART", help="all, or a part that a split made.")] = "all",
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="S3", help="Where pictures without an s3:// address of their own are.")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="DIR", help="A predicted picture DIR/a.jpg is S3/a.jpg for the job.")
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Least score of a detection that people get to see.")
    ] = 0.5,
    created: Annotated[
        str | None, typer.Option("--created", metavar="DATE", help="creation-date, ISO 8601 in UTC.  [now]")
    ] = None,
    label_attribute: Annotated[
        str, typer.Option("--label-attribute", metavar="NAME", help="What the job is told to adjust.")
    ] = "pre-labels",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write what a model found, or a data set, as the input manifest of a labelling job that corrects it."""
    from sightline.dataset.folder import open_part
    from sightline.labels import ground_truth, prelabels
    from sightline.storage import local_path, output_path

    log_to_stderr()
    found_in = local_path(source, "Reading predictions")
    if found_in.is_dir():
        part = open_part(found_in, split)
        names, notes = list(part.dataset.class_names), ground_truth.losses(part.dataset)
        pictures = prelabels.from_dataset(part.dataset, prefix=prefix)
    else:
        found, names, notes, sources = read_found(found_in, open_part(data, split) if data is not None else None)
        pictures = prelabels.from_detections(found, prefix=prefix, root=root, sources=sources, threshold=threshold)
    written = list(pictures)
    with output_path(output, "A manifest") as to:
        notes += prelabels.write(written, to, class_names=names, created=created or now(), attribute=label_attribute)
    for line in notes:
        note(f"note: {line}")
    boxes = sum(len(picture.boxes) for picture in written)
    counts = {"file": output, "images": len(written), "boxes": boxes, "label_attribute": label_attribute}
    show(f"{output}: {len(written):,} images, {boxes:,} boxes under {label_attribute!r}", as_json, counts | {"notes": notes})


def read_found(
    source: Path, part: "DatasetPart | None"
) -> "tuple[dict[str, Detections], list[str], list[str], dict[str, str]]":
    """({picture: its detections}, class names, notes, {picture: its s3:// address}) of a file of predictions.

    Raises:
        LabelError: everything that is wrong with the file, at once; or results whose data set is not named.
    """
    from sightline.errors import LabelError
    from sightline.labels import prelabels
    from sightline.storage import is_remote

    with source.open("rb") as file:
        is_list = file.read(64).lstrip()[:1] == b"["
    remote = [image for image in part.dataset.images if is_remote(image.source)] if part is not None else []
    if is_list:
        if part is None:
            raise LabelError(source, "is COCO results, which name pictures by ids", "Name their data set with --data.")
        found = prelabels.read_results(source, part.dataset)
        return found, list(part.dataset.class_names), [], {image.file_name: image.source for image in remote}
    found, names, notes = prelabels.read_predictions(source)
    if part is None:
        return found, names, notes, {}
    known = {absolute(part.pictures / image.file_name): image.source for image in remote}
    sources = {picture: known[path] for picture in found if (path := absolute(Path(picture))) in known}
    return found, names, notes, sources


def absolute(path: Path) -> Path:
    """The same path from the root, links as they are."""
    import os.path

    return Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow the links of a dataset folder


def now() -> str:
    """As Ground Truth writes times."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
