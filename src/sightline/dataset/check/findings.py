"""What a check says: findings, each with where, what, how to fix and how grave, and the table of their kinds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sightline.records import Box


class Gravity(StrEnum):
    """grave: training fails, or its scores mean nothing; warning: it costs quality; note: a fact to know."""

    GRAVE = "grave"
    WARNING = "warning"
    NOTE = "note"


class Kind(NamedTuple):
    """gravity: unless a finding has another one; title: of many such findings; fix: an imperative sentence."""

    gravity: Gravity
    title: str
    fix: str


GRAVE, WARNING, NOTE = Gravity.GRAVE, Gravity.WARNING, Gravity.NOTE

KINDS: dict[str, Kind] = {
    # pictures
    "missing-picture": Kind(GRAVE, "pictures that are not there", "Restore the picture, or import again without it."),
    "unreadable": Kind(GRAVE, "files that are no readable picture", "Replace the file, or import again without it."),
    "truncated": Kind(GRAVE, "damaged or cut-off pictures", "Copy the picture again from where it came, and compare sizes."),
    "wrong-size": Kind(
        GRAVE,
        "pictures whose size is not the recorded one",
        "Use the picture that was labelled, or scale its labels with it.",
    ),
    "labels-not-turned": Kind(
        GRAVE,
        "labels of unturned pixels in pictures that are shown turned",
        "Import the labels again with `sightline dataset import`, which turns them with the picture.",
    ),
    "turned": Kind(
        NOTE,
        "pictures turned by EXIF",
        "Nothing to do here. For other tools: save the picture with its pixels turned and the tag removed.",
    ),
    "large-picture": Kind(
        WARNING, "very large pictures", "Cut it into tiles or shrink it before labelling: it is read again in every epoch."
    ),
    "wrong-extension": Kind(NOTE, "names that say another format", "Rename it: other tools go by the extension."),
    "grey": Kind(NOTE, "grey pictures", "Nothing to do, if the camera in use gives grey pictures, too."),
    "cmyk": Kind(WARNING, "CMYK pictures", "Convert it to RGB with its colour profile: read without one, colours are off."),
    "alpha": Kind(NOTE, "pictures with transparency", "Look at it without transparency: what lies below is what is learned."),
    "animated": Kind(NOTE, "animated pictures", "Save the frame that was labelled: the first one is used."),
    "deep": Kind(NOTE, "pictures of 16 bit", "Nothing to do, if 8 bit show what matters: it is scaled down to them."),
    # boxes
    "broken-label": Kind(GRAVE, "labels that cannot be used", "Correct or remove the annotation."),
    "box-outside": Kind(GRAVE, "boxes outside their picture", "Correct the box, or check that it belongs to this picture."),
    "empty-box": Kind(GRAVE, "boxes of zero size", "Remove the annotation: it holds no pixel."),
    "tiny-box": Kind(WARNING, "tiny boxes", "Remove it, if it is a slip of the mouse; else train at a larger size."),
    "huge-box": Kind(NOTE, "boxes of (nearly) the whole picture", "Look whether it means an object and not the picture."),
    "duplicate-box": Kind(WARNING, "boxes that are there twice", "Remove one of the two."),
    "two-classes": Kind(WARNING, "one box with two classes", "Remove the wrong one."),
    "crowded-picture": Kind(NOTE, "pictures with unusually many boxes", "Look whether an object was boxed several times."),
    "sparse-picture": Kind(NOTE, "pictures with unusually few boxes", "Look whether objects were forgotten."),
    "no-objects": Kind(NOTE, "pictures without objects", "Look at some: are they truly without objects?"),
    # classes and parts
    "similar-names": Kind(GRAVE, "class names that differ by case or blanks only", "Rename one of them when importing."),
    "unused-class": Kind(WARNING, "classes without a single box", "Leave the class out, or label some."),
    "rare-class": Kind(WARNING, "classes with very few boxes", "Label more of it, leave it out, or join it with another."),
    "imbalance": Kind(WARNING, "classes of very unequal frequency", "Use repeat-factor sampling or class weights; label more."),
    "class-missing": Kind(WARNING, "classes missing from a part", "Split again with another seed, or label more of it."),
    "class-order": Kind(GRAVE, "parts with different class lists", "Write all parts from one data set: split it again."),
    "in-two-parts": Kind(GRAVE, "pictures in two parts", "Split again: scores on pictures that were trained on mean nothing."),
    "in-no-part": Kind(NOTE, "pictures in no part", "Split again, so that they are used."),
    "leak": Kind(
        GRAVE,
        "near-duplicate pictures across parts",
        "Split again with --group-by near-duplicates: scores on pictures that were trained on come out too high.",
    ),
    "near-duplicate": Kind(
        WARNING,
        "near-duplicate pictures",
        "Keep one, or split with --group-by near-duplicates.",
    ),
    # anchors
    "anchor-fit": Kind(WARNING, "classes that the anchors hardly match", "Change the anchors or the training size."),
    # agreement
    "not-in-other": Kind(WARNING, "boxes without a counterpart in the other labels", "Decide which labelling is right."),
    "only-in-other": Kind(WARNING, "boxes that only the other labels have", "Decide which labelling is right."),
    "other-class": Kind(WARNING, "boxes whose class the other labels tell differently", "Decide which class is right."),
    "loose-match": Kind(NOTE, "boxes that the other labels draw differently", "Draw the box tightly around all visible parts."),
    "other-broken": Kind(
        WARNING, "labels of the other labelling that cannot be used", "Correct them there; what they label is not compared."
    ),
    "unpaired": Kind(NOTE, "pictures that only one of the labellings has", "Nothing to do; they are not compared."),
}
"""Every kind of finding, in the order in which people meet it."""

ORDER = {gravity: rank for rank, gravity in enumerate(Gravity)}


MAX_NUMBERS = 8
"""Box numbers told of one finding; JSON has all."""


class Mark(NamedTuple):
    """A box to draw, in pixels of the picture as shown. other: it is of the other labelling."""

    box: Box
    label: str = ""
    other: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found.

    where:   file, class or part
    numbers: of the boxes meant, among the sound boxes of the picture, from 1; none: not about single boxes
    picture: the name of the picture it shows, a `Picture.name`; empty: none
    beside:  a second picture to show with it
    marks:   boxes to draw on the picture
    weight:  how bad among its kind; the worst come first
    """

    kind: str
    where: str
    what: str
    numbers: tuple[int, ...] = ()
    fix: str = ""
    gravity: Gravity | None = None
    picture: str = ""
    beside: str = ""
    marks: tuple[Mark, ...] = ()
    weight: float = 0.0

    @property
    def place(self) -> str:
        """Where it is, for people."""
        if not self.numbers:
            return self.where
        shown = ", ".join(map(str, self.numbers[:MAX_NUMBERS])) + (", ..." if len(self.numbers) > MAX_NUMBERS else "")
        return f"{self.where}, box{'es' if len(self.numbers) > 1 else ''} {shown}"

    @property
    def how_grave(self) -> Gravity:
        return self.gravity or KINDS[self.kind].gravity

    @property
    def remedy(self) -> str:
        return self.fix or KINDS[self.kind].fix

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"

    def as_dict(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "gravity": self.how_grave.value,
            "where": self.where,
            "box_numbers": list(self.numbers),
            "what": self.what,
            "fix": self.remedy,
            "picture": self.picture or None,
            "beside": self.beside or None,
            "boxes": [list(mark.box) for mark in self.marks if not mark.other],
        }


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """The gravest first, kind by kind, of each kind the worst first."""
    ranks = {name: rank for rank, name in enumerate(KINDS)}
    return sorted(findings, key=lambda one: (ORDER[one.how_grave], ranks[one.kind], -one.weight, one.where, one.numbers))


def by_gravity(findings: Sequence[Finding]) -> dict[Gravity, int]:
    counts = Counter(one.how_grave for one in findings)
    return {gravity: counts[gravity] for gravity in Gravity}


def by_kind(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Every kind that was found with its findings, in the order of `in_order`."""
    kinds: dict[str, list[Finding]] = {}
    for one in in_order(findings):
        kinds.setdefault(one.kind, []).append(one)
    return kinds


def counted(number: int, noun: str) -> str:
    """`1 picture`, `2 pictures`, `2 boxes`."""
    plural = f"{noun}es" if noun.endswith(("x", "ss")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
