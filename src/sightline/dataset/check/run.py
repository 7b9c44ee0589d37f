"""All checks of one data set, in one call with plain values: what `sightline.checking` fills in from a configuration."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from sightline.dataset import alike
from sightline.dataset.check import agreement, anchors, boxes, classes, copies, pictures, report
from sightline.dataset.check.findings import Finding, in_order
from sightline.dataset.check.subject import Subject
from sightline.errors import Problem
from sightline.records import Dataset

LOG = logging.getLogger(__name__)
LOG_EVERY = 5_000  # pictures


def run(
    subject: Subject,
    *,
    fit_to: anchors.Anchors | None = None,
    config: str = "",
    other: Dataset | None = None,
    against: str = "",
    refused: Sequence[Problem] = (),
) -> report.Report:
    """Everything that is found in `subject`.

    fit_to: the anchors to try on the boxes, of `config`
    other:  a second labelling of the same pictures, from `against`; refused: what of it could not be used
    """
    names = subject.class_names
    found = [*subject.findings, *classes.findings_of(subject), *of_pictures(subject)]
    for picture in subject.pictures:
        found += boxes.findings_of(picture, names)
    fits: list[anchors.Fit] = []
    if fit_to is not None:
        fits, unfit = anchors.findings_of(subject.pictures, names, fit_to)
        found += unfit
    agreed = None
    if other is not None:
        agreed, differing = agreement.compare(subject, other)
        found += differing
        found += [Finding(kind="other-broken", where=one.where, what=one.what, fix=one.fix) for one in refused]
    return report.Report(
        folder=subject.folder,
        pictures=len(subject.pictures),
        boxes=subject.dataset.instance_count,
        class_names=names,
        parts={part: sum(picture.part == part for picture in subject.pictures) for part in subject.parts},
        findings=tuple(in_order(found)),
        figures=report.figures_of(subject.pictures, names, subject.parts),
        with_pictures=any(picture.path is not None for picture in subject.pictures),
        config=config,
        fits=tuple(fits),
        against=against,
        agreement=agreed,
    )


def of_pictures(subject: Subject) -> Iterator[Finding]:
    """What is wrong with picture files, and which of them show the same."""
    total = len(subject.pictures)

    def progress(done: int) -> None:
        if done // LOG_EVERY > max(done - pictures.AT_ONCE, 0) // LOG_EVERY:
            LOG.info("looked at %d of %d pictures", done, total)

    fingerprints = np.zeros((total, alike.WORDS), dtype=np.uint64)
    places = {picture.name: index for index, picture in enumerate(subject.pictures)}
    for picture, seen in pictures.look_at_all(subject.pictures, alike.fingerprint, progress):
        yield from pictures.findings_of(picture, seen)
        if seen.fingerprint is not None:
            fingerprints[places[picture.name]] = seen.fingerprint
    yield from copies.findings_of(subject.pictures, fingerprints)
