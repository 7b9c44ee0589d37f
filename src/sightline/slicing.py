"""Sliced prediction: a large picture cut into tiles that overlap, a model run on each, and what it found put together again.

`sliced(predict, Slices.square(640))` is a `Predict` around any other. Small objects of a large picture are shrunk to nothing
when the whole of it is resized for a model; in tiles they keep their pixels (slicing aided inference: Akyon et al. 2022,
arXiv:2202.06934). An object on the border of two tiles is seen twice, or in pieces. Their borders tell which: a side of a box
that lies on an inner border of its tile is cut, and the object goes on in the next tile.

N: sightings in all tiles of a picture. P: pairs of them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from sightline.errors import ConfigError, Problem
from sightline.geometry.boxes import area
from sightline.geometry.masks import moved, union
from sightline.records import Detections, Image, ImageSize, Model, Predict, Rle

Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]
Flags = NDArray[np.bool_]

Merge = Literal["seams", "nms", "nmm"]
Measure = Literal["iou", "ios"]

MIN_SIDE = 32
"""Pixels of a tile: the coarsest features that all detectors here have are 32 px apart, so less shows nothing."""

EDGE_SHARE = 0.01
"""Of a tile's side: a box that ends so near to an inner border is cut by it; those of cut objects do, within some pixels."""

OVERLAP = 0.2


class Tile(NamedTuple):
    """A part of a picture in pixels: its first row and column, and its size."""

    top: int
    left: int
    size: ImageSize


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """How a picture is cut, and what is found put together.

    height, width:  pixels of a tile; one that is not larger than that is predicted as it is
    overlap:        of neighbours, as a share of their side, from 0 to below 1. Objects up to that size are whole in a tile
    whole:          also look at the whole picture, for objects that are larger than a tile
    merge:          "seams": of those seen whole twice the best stays, pieces of a whole one are dropped, and pieces that
                    continue each other become one; "nms": the best of those that overlap stays; "nmm": they are joined to one
    measure:        how overlap is measured where both are whole: "iou", intersection over union, or "ios", over the smaller
    threshold:      overlap from which on two sightings are one object, above 0 and up to 1
    per_class:      only sightings of one class are put together
    max_detections: at most so many of a picture, the best; None: all. A model's own limit holds for each tile

    Raises:
        ConfigError: everything that is wrong with these.
    """

    height: int
    width: int
    overlap: float = OVERLAP
    whole: bool = True
    merge: Merge = "seams"
    measure: Measure = "iou"
    threshold: float = 0.5
    per_class: bool = True
    max_detections: int | None = None

    def __post_init__(self) -> None:
        problems = [
            Problem("slices", f"have a {name} of {side} px", f"Give at least {MIN_SIDE}; 640 is usual.")
            for name, side in (("height", self.height), ("width", self.width))
            if side < MIN_SIDE
        ]
        if not 0 <= self.overlap < 1:
            problems.append(Problem("slices", f"overlap by {self.overlap:g}", "Give a share from 0 to below 1; 0.2 is usual."))
        if not 0 < self.threshold <= 1:
            fix = "Give an overlap above 0, up to 1; 0.5 is usual."
            problems.append(Problem("slices", f"are merged from an overlap of {self.threshold:g} on", fix))
        for name, value, known in (("merged by", self.merge, Merge), ("measured by", self.measure, Measure)):
            if value not in get_args(known):
                problems.append(Problem("slices", f"are {name} {value!r}", f"Choose {' or '.join(get_args(known))}."))
        if self.max_detections is not None and self.max_detections < 1:
            problems.append(Problem("slices", f"keep at most {self.max_detections} detections", "Give at least 1."))
        if problems:
            raise ConfigError.collected(problems)

    @classmethod
    def square(cls, side: int, **options: object) -> "Slices":
        """Tiles of `side` x `side` px; others as the fields."""
        return cls(height=side, width=side, **options)  # type: ignore[arg-type]

    @classmethod
    def asked(cls, size: str, **options: object) -> "Slices":
        """From people's words: "640", or "480x640" (height x width).

        Raises:
            ConfigError: all that is wrong.
        """
        sides = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", size.strip())
        if sides is None:
            raise ConfigError("slices", f"are of {size!r} px", "Give a side as 640, or height and width as 480x640.")
        height, width = int(sides[1]), int(sides[2] or sides[1])
        return cls(height=height, width=width, **options)  # type: ignore[arg-type]

    def fit(self, size: ImageSize) -> bool:
        """Whether a picture of `size` is not cut."""
        return size.height <= self.height and size.width <= self.width

    def tiles(self, size: ImageSize) -> list[Tile]:
        """The parts that a picture of `size` is cut into, row after row, all of one size.

        The last of a row or column is shifted inwards, and overlaps more.
        """
        height, width = min(self.height, size.height), min(self.width, size.width)
        tops = starts(size.height, self.height, self.overlap)
        return [
            Tile(top, left, ImageSize(height, width)) for top in tops for left in starts(size.width, self.width, self.overlap)
        ]

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        whole = " and as a whole" if self.whole else ""
        by = f"merged by {self.merge} from {self.measure} {self.threshold:g} on"
        agnostic = "" if self.per_class else ", whatever the class"
        most = "" if self.max_detections is None else f", at most {self.max_detections}"
        size = ImageSize(self.height, self.width)
        return f"in slices of {size}, overlapping by {self.overlap:g}{whole}, {by}{agnostic}{most}"


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """What all tiles of one picture show, in pixels of the picture, best first; equal ones by their places.

    boxes: (N, 4); scores: (N,); labels: (N,)
    tiles: (N, 4) where each was seen, as x1, y1, x2, y2
    cut:   (N, 4) which of a box's sides lie on an inner border of its tile
    masks: in pixels of its tile; None: the model finds boxes only
    """

    boxes: Numbers
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    tiles: Numbers
    cut: Flags
    masks: tuple[Rle, ...] | None

    def __len__(self) -> int:
        return len(self.scores)


def sliced(predict: Predict, slices: Slices, *, batch_size: int = 1) -> Predict:
    """`predict` for pictures of any size, cut as `slices` say; a picture that is not larger than a tile gets the plain answer.

    A batch of tiles is copied at a time, never all of them. The result does not depend on the batch size, as far as that of
    `predict` does not.

    batch_size: tiles that are predicted together; all of a picture are of one size
    """

    def predict_sliced(images: Sequence[Image]) -> list[Detections]:
        small = [number for number, image in enumerate(images) if slices.fit(ImageSize(*image.shape[:2]))]
        plain = predict([images[number] for number in small]) if small else []
        answers = dict(zip(small, plain, strict=True))
        return [
            best(answers[number], slices.max_detections)
            if number in answers
            else put_together(seen_in_tiles(predict, image, slices, batch_size), ImageSize(*image.shape[:2]), slices)
            for number, image in enumerate(images)
        ]

    return predict_sliced


def in_slices(model: Model, slices: Slices, *, batch_size: int = 1) -> Model:
    """`model` with sliced prediction; its facts tell how (`slices`), so that what is measured can say so."""
    return replace(
        model, predict=sliced(model.predict, slices, batch_size=batch_size), facts={**model.facts, "slices": str(slices)}
    )


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of `side` begin along a picture's side of `length` px; the last one ends with it."""
    if length <= side:
        return [0]
    step = max(side - round(side * overlap), 1)
    return [*range(0, length - side, step), length - side]


def seen_in_tiles(predict: Predict, image: Image, slices: Slices, batch_size: int) -> list[tuple[Tile, Detections]]:
    """What `predict` finds in each tile of a picture, in pixels of the tile; the whole picture is the last."""
    size = ImageSize(*image.shape[:2])
    found: list[tuple[Tile, Detections]] = []
    for batch in batches(slices.tiles(size), batch_size):
        # a copy: not every predictor takes pixels that do not lie side by side
        pixels = [np.ascontiguousarray(image[top : top + height, left : left + width]) for top, left, (height, width) in batch]
        found += zip(batch, predict(pixels), strict=True)
    if slices.whole:
        found += zip([Tile(0, 0, size)], predict([image]), strict=True)
    return found


def batches(tiles: Sequence[Tile], size: int) -> Iterator[list[Tile]]:
    rest = iter(tiles)
    while batch := list(islice(rest, size)):
        yield batch


def put_together(found: Sequence[tuple[Tile, Detections]], size: ImageSize, slices: Slices) -> Detections:
    """Each object once, in a picture of `size`, from what its tiles show; their order does not matter."""
    seen = sightings(found, size, slices)
    if not len(seen):
        return Detections(size, seen.boxes.astype(np.float32), seen.scores, seen.labels, seen.masks)
    groups = sorted(MERGES[slices.merge](seen, slices), key=lambda group: group[0])[: slices.max_detections]
    first = np.array([group[0] for group in groups], dtype=np.intp)
    boxes = [seen.boxes[group[0]] if len(group) == 1 else around(seen.boxes[group]) for group in groups]
    return Detections(
        size,
        np.array(boxes, dtype=np.float32),
        seen.scores[first],
        seen.labels[first],
        None if seen.masks is None else tuple(mask_of(seen, group, size) for group in groups),
    )


def best(detections: Detections, most: int | None) -> Detections:
    return detections if most is None or len(detections) <= most else detections.take(np.arange(most))


def sightings(found: Sequence[tuple[Tile, Detections]], size: ImageSize, slices: Slices) -> Sightings:
    """All of them, moved to the picture, in an order that follows from their numbers alone."""
    counts = [len(detections) for _, detections in found]
    corners = np.array([corners_of(tile) for tile, _ in found], dtype=np.float64).reshape(-1, 4)
    tiles = np.repeat(corners, counts, axis=0)
    boxes = (
        np.concatenate([detections.boxes.astype(np.float64).reshape(-1, 4) for _, detections in found]) + tiles[:, [0, 1, 0, 1]]
    )
    scores = np.concatenate([detections.scores for _, detections in found])
    labels = np.concatenate([detections.labels for _, detections in found])
    masked = any(detections.masks is not None for _, detections in found)
    masks = [mask for _, detections in found for mask in detections.masks or ()]
    order = np.lexsort((*tiles.T, *boxes.T, labels, -scores.astype(np.float64)))
    boxes, tiles = boxes[order], tiles[order]
    inner = tiles != np.array([0, 0, size.width, size.height])
    edges = np.tile([edge_px(slices.width, slices.overlap), edge_px(slices.height, slices.overlap)], 2)
    cut = inner & (np.abs(boxes - tiles) <= edges)
    ordered = tuple(masks[row] for row in order.tolist()) if masked else None
    return Sightings(boxes, scores[order], labels[order], tiles, cut, ordered)


def corners_of(tile: Tile) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2."""
    return tile.left, tile.top, tile.left + tile.size.width, tile.top + tile.size.height


def edge_px(side: int, overlap: float) -> float:
    """How near to an inner border a box ends that is cut by it. Less where tiles hardly overlap: neighbours would be one."""
    return max(1.0, min(EDGE_SHARE * side, overlap * side / 4))


Groups = list[list[int]]
"""Sightings that are one object, each group with its best first."""


def by_seams(seen: Sightings, slices: Slices) -> Groups:
    """Whole ones once, without their pieces; pieces of one that is whole nowhere, together."""
    pieces: Flags = np.any(seen.cut, axis=1)
    pairs = touching(seen, slices.per_class)
    of_whole = pairs[~pieces[pairs].any(axis=1)]
    leaders = led(len(seen), of_whole[overlap_of(seen, of_whole, slices.measure) >= slices.threshold])
    kept = ~pieces & (leaders == np.arange(len(seen)))
    mixed = pairs[pieces[pairs].sum(axis=1) == 1]
    covered = np.zeros(len(seen), dtype=bool)
    covered[covered_pieces(seen, np.where(pieces[mixed[:, :1]], mixed, mixed[:, ::-1]), slices.threshold)] = True
    left = pieces & ~covered
    return [[row] for row in np.flatnonzero(kept).tolist()] + continued(
        seen, pairs[left[pairs].all(axis=1)], left, slices.threshold
    )


def by_suppression(seen: Sightings, slices: Slices) -> Groups:
    """The best of those that overlap: non-maximum suppression."""
    return [group[:1] for group in by_joining(seen, slices)]


def by_joining(seen: Sightings, slices: Slices) -> Groups:
    """The best takes all that overlap it: greedy non-maximum merging."""
    pairs = touching(seen, slices.per_class)
    leaders = led(len(seen), pairs[overlap_of(seen, pairs, slices.measure) >= slices.threshold])
    groups: dict[int, list[int]] = {}
    for row, leader in enumerate(leaders.tolist()):
        groups.setdefault(leader, []).append(row)
    return list(groups.values())


MERGES: dict[str, Callable[[Sightings, Slices], Groups]] = {"seams": by_seams, "nms": by_suppression, "nmm": by_joining}


def touching(seen: Sightings, per_class: bool) -> Rows:
    """(P, 2) rows, the better first, of boxes that touch or overlap and were seen in different tiles: of one tile, the model
    itself has decided what is one object. Not all N² pairs are looked at, only those that meet from left to right."""
    order = np.argsort(seen.boxes[:, 0], kind="stable")
    x1, y1, x2, y2 = seen.boxes[order].T + np.array([[-1.0], [-1.0], [1.0], [1.0]])  # tiles without overlap share a border only
    labels, tiles = seen.labels[order], seen.tiles[order]
    found: list[Rows] = []
    for row, end in enumerate(np.searchsorted(x1, x2, side="right").tolist()):
        ahead = slice(row + 1, end)
        near = (y1[ahead] <= y2[row]) & (y2[ahead] >= y1[row]) & (tiles[ahead] != tiles[row]).any(axis=1)
        if per_class:
            near &= labels[ahead] == labels[row]
        found.append(order[ahead][near])
    firsts = np.repeat(order, [len(others) for others in found])
    pairs: Rows = np.sort(np.column_stack((firsts, np.concatenate(found))), axis=1)
    return pairs


def overlap_of(seen: Sightings, pairs: Rows, measure: Measure) -> Numbers:
    """(P,) in [0, 1]."""
    return overlaps(seen.boxes[pairs[:, 0]], seen.boxes[pairs[:, 1]], measure)


def overlaps(a: Numbers, b: Numbers, measure: Measure) -> Numbers:
    """(P,) of each of (P, 4) boxes with the one beside it; 0 where one is empty."""
    shared = area(common(a, b))
    whole = area(a) + area(b) - shared if measure == "iou" else np.minimum(area(a), area(b))
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)


def common(a: Numbers, b: Numbers) -> Numbers:
    """(P, 4) what each of two boxes shares; of negative size where that is nothing."""
    return np.concatenate((np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])), axis=1)


def led(count: int, pairs: Rows) -> Rows:
    """(count,) the row that each follows: itself, or the best before it that leads and is paired with it."""
    leaders = np.arange(count)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    bounds = np.searchsorted(pairs[:, 0], np.arange(count + 1))
    for row in np.unique(pairs[:, 0]).tolist():
        if leaders[row] == row:
            others = pairs[bounds[row] : bounds[row + 1], 1]
            leaders[others[leaders[others] == others]] = row
    return leaders


def covered_pieces(seen: Sightings, pairs: Rows, threshold: float) -> Rows:
    """The pieces, first of each pair, of which so much lies in the whole one beside it, whose tile shows what is cut off."""
    pieces, others = seen.boxes[pairs[:, 0]], seen.boxes[pairs[:, 1]]
    own, tiles = seen.tiles[pairs[:, 0]], seen.tiles[pairs[:, 1]]
    signs = np.array([1, 1, -1, -1])
    beyond = (seen.cut[pairs[:, 0]] & ((own - tiles) * signs > 0)).any(axis=1)  # the other tile begins before, or ends after
    shared, areas = area(common(pieces, others)), area(pieces)
    covered: Rows = pairs[beyond & (shared >= threshold * areas), 0]
    return covered


def continued(seen: Sightings, pairs: Rows, left: Flags, threshold: float) -> Groups:
    """The pieces that are `left`, in groups of those that continue each other.

    Two do where, in what both tiles show, they are the same: IoU there. The best fits first; of one tile a group has one piece.
    """
    grown = seen.tiles + np.array([-1, -1, 1, 1])  # so that tiles which do not overlap share their border's neighbourhood
    reaching = np.where(seen.cut, grown, seen.boxes)
    one, other = pairs.T
    both = common(grown[one], grown[other])
    fit = overlaps(common(reaching[one], both), common(reaching[other], both), "iou")
    order = np.lexsort((other, one, -fit))
    groups = {row: [row] for row in np.flatnonzero(left).tolist()}
    tiles = {row: {tuple(seen.tiles[row].tolist())} for row in groups}
    group_of = {row: row for row in groups}
    for place in order[fit[order] >= threshold].tolist():
        a, b = sorted((group_of[int(one[place])], group_of[int(other[place])]))
        if a == b or tiles[a] & tiles[b]:
            continue
        tiles[a] |= tiles.pop(b)
        for row in groups[b]:
            group_of[row] = a
        groups[a] = sorted(groups[a] + groups.pop(b))
    return list(groups.values())


def around(boxes: Numbers) -> Numbers:
    """(4,) the smallest box around (M, 4)."""
    return np.concatenate((boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)))


def mask_of(seen: Sightings, group: Sequence[int], size: ImageSize) -> Rle:
    """The pixels of any of a group, in a picture of `size`. Bitmaps are made of a tile's size only."""
    assert seen.masks is not None
    corners = seen.tiles.astype(int)
    return union([moved(seen.masks[row], int(corners[row, 1]), int(corners[row, 0]), size) for row in group])
