"""The check of a data set in one call: configuration, labels, findings and the page together (`sightline.check`)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import sightline
from sightline import labels
from sightline.config.architecture import is_retinanet
from sightline.config.schema import Config
from sightline.config.sources import load as load_config
from sightline.dataset.check.anchors import Anchors
from sightline.dataset.check.findings import KINDS, Finding, Mark, by_gravity
from sightline.dataset.check.pictures import read_small
from sightline.dataset.check.report import Report
from sightline.dataset.check.run import run
from sightline.dataset.check.subject import Picture, Subject, read_subject
from sightline.dataset.folder import parts_of
from sightline.errors import ConfigError, DatasetError, ImageError, LabelError
from sightline.storage import write_json, write_text
from sightline.view.check_page import Numbers, Row, Shown, check_page
from sightline.view.pages import THUMBNAIL_SIDE_PX, Column, Outline, Table, picture_uri

PAGE, FINDINGS = "index.html", "findings.json"
"""What a report folder holds."""

PICTURES_PER_KIND, MAX_PICTURES = 6, 80
"""Findings that are shown with their pictures: some 2 MB a page, however large the data set."""

ROWS_PER_KIND = 200
"""Findings of each kind in the page's table."""

STAGE_STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


def check(
    folder: str | Path,
    *,
    config: str | Config | None = None,
    against: str | Path | Sequence[str | Path] = (),
    label_attribute: str | Sequence[str] | None = None,
    output: str | Path | None = None,
) -> Report:
    """Everything that is wrong or odd about a dataset folder, a COCO folder or a COCO file.

    config:  whose anchors are tried on the boxes: a preset, a zoo name, a file, or the configuration itself
    against: a second labelling of the same pictures: one or several label files of any format, or a dataset folder
    label_attribute: which labels of a manifest `against` to take, where it has several
    output:  a folder that gets the findings as a page (index.html) and as JSON (findings.json)

    Raises:
        DatasetError, LabelError, ConfigError: an argument cannot be read at all. What is wrong inside is in the report.
    """
    if output is not None and Path(output).is_file():
        raise DatasetError(output, "is a file, and a report is a folder", "Name another place for it.")
    others = [against] if isinstance(against, str | Path) else list(against)
    loaded = load_config(config) if isinstance(config, str) else config
    fit_to = anchors_of(loaded) if loaded is not None else None
    if label_attribute and not others:
        raise LabelError("--label-attribute", "is for a second labelling", "Name its files with --against, or leave it out.")
    subject = read_subject(Path(folder))
    other = second_labels(others, label_attribute) if others else None
    report = run(
        subject,
        fit_to=fit_to,
        config=config if isinstance(config, str) else "the configuration" if config else "",
        other=other.dataset if other else None,
        against=", ".join(map(str, others)),
        refused=other.report.skipped if other else (),
    )
    if output is not None:
        write_report(report, subject, Path(output))
    return report


def second_labels(sources: Sequence[str | Path], label_attribute: str | Sequence[str] | None) -> labels.Imported:
    """All pictures of label files of any format, or of dataset folders, that can be used."""
    files: list[str | Path] = []
    for source in sources:
        folder = Path(source)
        is_ours = folder.is_dir() and any(parts_of(folder))
        files.append(whole_of(folder) if is_ours else source)
    return labels.read(files, label_attribute=label_attribute, on_problem="skip")


def whole_of(folder: Path) -> Path:
    """The COCO file of all pictures of a dataset folder.

    Raises:
        DatasetError: it has several and none of them is the whole.
    """
    found = dict(reversed(list(parts_of(folder))))
    if "all" in found:
        return found["all"]
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    raise DatasetError(folder, f"has the parts {', '.join(found)}", "Name one of its annotation files.")


def anchors_of(config: Config) -> Anchors:
    """The anchors and training sizes of a configuration as plain numbers.

    Raises:
        ConfigError: it has as many anchor sizes or ratios as it has no feature levels for.
    """
    model = config.model
    stage = model.retinanet if is_retinanet(config) else model.rpn
    levels = len(stage.in_features)
    generator = model.anchor_generator
    for key, values in (("SIZES", generator.sizes), ("ASPECT_RATIOS", generator.aspect_ratios)):
        if len(values) not in (1, levels):
            what = f"has {len(values)} entries for {levels} feature levels"
            raise ConfigError(f"MODEL.ANCHOR_GENERATOR.{key}", what, "Give one for each level, or one for all.")
    return Anchors(
        sizes=generator.sizes * (levels if len(generator.sizes) == 1 else 1),
        ratios=generator.aspect_ratios * (levels if len(generator.aspect_ratios) == 1 else 1),
        strides=tuple(stride_of(name, model.resnets.res5_dilation) for name in stage.in_features),
        offset=generator.offset,
        foreground=stage.iou_thresholds[-1],
        background=stage.iou_thresholds[0],
        min_sizes=training_sizes(config),
        max_size=config.input.max_size_train,
    )


def stride_of(feature: str, res5_dilation: int) -> int:
    """Pixels between the cells of a feature: res2 to res5 of the ResNet, or p2, p3, ... of a pyramid."""
    if feature == "res5":
        return STAGE_STRIDES[feature] // res5_dilation
    if feature in STAGE_STRIDES:
        return STAGE_STRIDES[feature]
    if feature.startswith("p") and feature[1:].isdecimal():
        return int(2 ** int(feature[1:]))
    raise ConfigError("IN_FEATURES", f"unknown feature {feature!r}", "Known: res2 to res5, and p2, p3, ...")


def training_sizes(config: Config) -> tuple[int, ...]:
    """The shorter sides that pictures are resized to when training: those listed, or the ends and the middle of a range."""
    sizes = config.input.min_size_train
    if config.input.min_size_train_sampling == "range" and len(sizes) == 2:
        return (sizes[0], sum(sizes) // 2, sizes[1])
    return sizes


def write_report(report: Report, subject: Subject, output: Path) -> None:
    """findings.json with everything, index.html with what a page can hold."""
    write_json(output / FINDINGS, report.as_dict(), indent=1)
    write_text(output / PAGE, page_of(report, subject))


def page_of(report: Report, subject: Subject) -> str:
    """The report as a page."""
    figures = report.figures
    return check_page(
        rows_of(report.findings, {picture.name: picture for picture in subject.pictures}),
        Numbers(
            classes=figures.classes,
            box_sizes=figures.box_sizes,
            box_labels=figures.box_labels,
            positions=figures.positions,
            per_picture=figures.per_picture,
        ),
        title=f"Check of {report.folder.resolve().name}",
        subtitle=report.headline().splitlines()[0],
        counts={gravity.value: count for gravity, count in by_gravity(report.findings).items()},
        tables=[*anchor_tables(report), *agreement_tables(report)],
        footer=f"Made by sightline {sightline.__version__}: sightline dataset check {report.folder}",
    )


def rows_of(findings: Sequence[Finding], pictures: Mapping[str, Picture]) -> list[Row]:
    """The rows of the page's table; the worst few of each kind with their pictures."""
    shown: Counter[str] = Counter()
    rows = []
    of_kind: Counter[str] = Counter()
    for one in findings:
        of_kind[one.kind] += 1
        if of_kind[one.kind] > ROWS_PER_KIND:
            continue
        names = [name for name in (one.picture, one.beside) if name in pictures]
        thumbnails: tuple[Shown, ...] = ()
        if names and shown[one.kind] < PICTURES_PER_KIND and sum(shown.values()) < MAX_PICTURES:
            made = (thumbnail(pictures[name], one.marks if name == one.picture else ()) for name in names)
            thumbnails = tuple(each for each in made if each is not None)
            shown[one.kind] += bool(thumbnails)
        rows.append(Row(one.how_grave.value, KINDS[one.kind].title, one.place, one.what, one.remedy, thumbnails))
    return rows


def thumbnail(picture: Picture, marks: Sequence[Mark]) -> Shown | None:
    """The picture, small; None where it cannot be read."""
    if picture.path is None:
        return None
    try:
        image, size = read_small(picture.path, THUMBNAIL_SIDE_PX)
    except ImageError:
        return None
    outlines = tuple(Outline(mark.box, mark.label, mark.other) for mark in marks)
    return Shown(picture_uri(image), size, picture.name, outlines)


def anchor_tables(report: Report) -> list[tuple[str, str, Table]]:
    if not report.fits:
        return []
    columns = (
        Column("Class"),
        Column("Boxes tried", numeric=True),
        Column("With a fitting anchor", numeric=True, format=".1%"),
        Column("With their best one only", numeric=True, format=".1%"),
        Column("With none", numeric=True, format=".1%"),
    )
    rows = tuple((fit.name, fit.boxes, fit.matched, fit.hardly, fit.never) for fit in report.fits)
    sentence = f"How the anchors of {report.config} overlap the boxes, at every size that it trains at."
    return [("Anchors", sentence, Table("anchors", columns, rows))]


def agreement_tables(report: Report) -> list[tuple[str, str, Table]]:
    agreed = report.agreement
    if agreed is None:
        return []
    rows = (
        ("boxes here", agreed.boxes),
        ("boxes there", agreed.other_boxes),
        ("in both", agreed.matched),
        ("only here", agreed.missed),
        ("only there", agreed.added),
        *((f"{here} here, {there} there", count) for (here, there), count in agreed.confusion.items()),
    )
    table = Table("agreement", (Column("Boxes"), Column("Number", numeric=True)), rows)
    return [("Agreement", f"Against {report.against} (dashed in the pictures): {agreed}", table)]
