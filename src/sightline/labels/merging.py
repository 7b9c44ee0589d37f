"""Several datasets as one, their classes joined by name: own jobs with public pictures, last year's labels with this year's."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sightline.errors import LabelError, Problem, nearest
from sightline.labels.pictures import nfc
from sightline.names import file_names
from sightline.records import Category, Dataset, ImageRecord

OnDuplicate = Literal["error", "first", "last", "merge"]
"""What becomes of a picture that several datasets have: ask, keep the first or the last one's labels, or join their objects."""

RULES = ("error", "first", "last", "merge")

SamePicture = Literal["address", "name"]
"""How a picture is known again: by its whole address, or by its name alone (a copy in another bucket)."""

SAME = ("address", "name")

DONE = {"first": "the first labels count", "last": "the last labels count", "merge": "their objects were joined"}
"""What a rule did, for people."""

Origin = tuple[int, str]
"""(number of the dataset that a picture is from, its file name there)"""


@dataclass(slots=True)
class Album:
    """The pictures so far, each one once.

    origins:   where each picture is from: one place, or several where it came more than once, the one that counts first
    same:      how a picture is known again
    by_source: source -> its place in `images`
    by_name:   file name -> its place, of pictures without a source
    any_name:  file name -> its first place, of all pictures
    by_last:   last part of the source -> its place, where this is how a picture is known again
    """

    same: SamePicture = "address"
    images: list[ImageRecord] = field(default_factory=list)
    origins: list[list[Origin]] = field(default_factory=list)
    by_source: dict[str, int] = field(default_factory=dict)
    by_name: dict[str, int] = field(default_factory=dict)
    any_name: dict[str, int] = field(default_factory=dict)
    by_last: dict[str, int] = field(default_factory=dict)

    def place(self, image: ImageRecord) -> int | None:
        """Where the same picture is: by source, and by file name where one of the two has no source."""
        if self.same == "name":
            return self.by_last.get(last_name(image))
        if not image.source:
            return self.any_name.get(image.file_name)
        return self.by_source.get(image.source, self.by_name.get(image.file_name))

    def add(self, image: ImageRecord, part: int) -> None:
        number = len(self.images)
        self.images.append(image)
        self.origins.append([(part, image.file_name)])
        self.any_name.setdefault(image.file_name, number)
        if self.same == "name":
            self.by_last.setdefault(last_name(image), number)
        if image.source:
            self.by_source[image.source] = number
        else:
            self.by_name[image.file_name] = number


@dataclass(frozen=True, slots=True)
class Combined:
    """Several datasets as one. origins: where each of its pictures is from; problems: of pictures that came more than once."""

    dataset: Dataset
    origins: list[list[Origin]]
    notes: list[str]
    problems: list[Problem]


def merge(
    parts: Sequence[Dataset],
    *,
    rename: Mapping[str, str] | None = None,
    drop: Collection[str] = (),
    on_duplicate: OnDuplicate = "error",
    same_picture: SamePicture = "address",
    places: Sequence[str] = (),
) -> tuple[Dataset, list[str]]:
    """(all pictures of `parts` under one list of classes, what to know about it).

    rename:       {class: new name}, all at once; classes that get one name become one class
    drop:         classes whose objects go; their pictures stay, as negatives where nothing else is on them
    on_duplicate: what to do with a picture that several parts have; "merge" keeps identical objects once
    same_picture: "name": pictures of two parts are the same where their file names are, wherever they lie
    places:       where each part is from, for messages

    Classes keep the order of their ids where all parts agree on these, else they are in the order of their names. Image ids and
    file names stay, unless two pictures share one.

    Raises:
        LabelError: everything that was asked wrongly; or pictures are in several parts, and no rule was chosen.
    """
    merged = combine(parts, rename or {}, drop, on_duplicate, places, same_picture)
    if merged.problems:
        raise LabelError.collected(merged.problems)
    return merged.dataset, merged.notes


def combine(
    parts: Sequence[Dataset],
    rename: Mapping[str, str],
    drop: Collection[str],
    on_duplicate: OnDuplicate,
    places: Sequence[str],
    same_picture: SamePicture = "address",
) -> Combined:
    """As `merge`; a picture that comes again and could not be resolved keeps its first labels, and is among the problems.

    Raises:
        LabelError: everything that was asked wrongly.
    """
    names = sorted({name for part in parts for name in part.class_names})
    rename = {one: new for name, new in rename.items() for one in written_as(name, names)}
    drop = [one for name in drop for one in written_as(name, names)]
    check(names, rename, drop, on_duplicate, same_picture)
    shown = [*places, *(f"dataset {number}" for number in range(len(places) + 1, len(parts) + 1))]
    renamed = {name: rename.get(name, name) for name in names if name not in drop}
    plain = {name: trimmed for trimmed, name in spellings(renamed.values())}
    renamed = {name: plain.get(new, new) for name, new in renamed.items()}
    categories = join_categories(parts, renamed)
    labels = {category.name: label for label, category in enumerate(categories)}
    sources = [[image.source or image.file_name for image in part.images] for part in parts]
    problems = (
        [wrong for where, own in zip(shown, sources, strict=False) for wrong in namesakes(own, where)]
        if same_picture == "name"
        else []
    )
    album, twice = Album(same_picture), Counter[tuple[str, str]]()
    for number, part in enumerate(parts):
        own = [labels[renamed[name]] if name in renamed else None for name in part.class_names]
        for image in part.images:
            found = relabelled(image, own)
            before = album.place(found)
            if before is None:
                album.add(found, number)
                continue
            where = (shown[album.origins[before][0][0]], shown[number])
            wrong = resolve(album, before, found, on_duplicate, where)
            if wrong:
                problems.append(wrong)
                continue
            twice[where] += 1
            album.origins[before].insert(0 if on_duplicate == "last" else len(album.origins[before]), (number, found.file_name))
    merged = Dataset(categories, tuple(numbered(named(album.images))))
    notes = [
        *(spelling_note(name, trimmed) for name, trimmed in plain.items()),
        *(line for part, where in zip(parts, shown, strict=False) for line in told(part, where, renamed, drop)),
        *(f"{where}: {count:,} pictures are in {first}, too; {DONE[on_duplicate]}." for (first, where), count in twice.items()),
        *(names_note(list(zip(shown, sources, strict=False))) if same_picture == "address" else ()),
    ]
    return Combined(merged, album.origins, notes, problems)


def last_name(image: ImageRecord) -> str:
    """What a picture is called, without its folders."""
    return last_part(image.source or image.file_name)


def last_part(source: str) -> str:
    return source.rpartition("/")[2]


def written_as(name: str, names: Sequence[str]) -> list[str]:
    """The classes that `name` means: macOS decomposes accents, keyboards do not. Itself where there is none."""
    return [one for one in names if one == name or nfc(one) == nfc(name)] or [name]


def check(
    names: Sequence[str], rename: Mapping[str, str], drop: Collection[str], on_duplicate: str, same_picture: str = "address"
) -> None:
    """Whether the rules fit the classes.

    Raises:
        LabelError: all that does not.
    """
    problems: list[Problem] = []
    for name in [*rename, *drop]:
        if name not in names:
            option = "--rename" if name in rename else "--drop"
            problems.append(Problem(option, f"there is no class {name!r}", nearest(name, names)))
    for old, new in rename.items():
        if old in drop:
            problems.append(Problem("--rename", f"{old!r} is dropped, too", "Rename it or drop it."))
        if new in drop and new not in rename:
            kept = nearest(new, [name for name in names if name not in drop])
            problems.append(Problem("--rename", f"{old!r} becomes {new!r}, which is dropped", kept))
        if not new.strip():
            problems.append(Problem("--rename", f"{old!r} gets an empty name", "Give it a name, or drop it."))
    if on_duplicate not in RULES:
        problems.append(Problem("--on-duplicate", f"unknown rule {on_duplicate!r}", nearest(on_duplicate, RULES)))
    if same_picture not in SAME:
        problems.append(Problem("--same-picture", f"unknown rule {same_picture!r}", nearest(same_picture, SAME)))
    if problems:
        raise LabelError.collected(problems)


def spellings(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(the plain name, the name) of names that differ from others only in blanks at their ends or in Unicode's form.

    The plain name has no such blanks and composed accents (NFC), as keyboards write them.
    """
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(nfc(name.strip()), set()).add(name)
    yield from (
        (plain, name) for plain, written in sorted(found.items()) if len(written) > 1 for name in sorted(written - {plain})
    )


def spelling_note(name: str, plain: str) -> str:
    """What became of a name that is another one's in all but its spelling."""
    differ = "blanks" if nfc(name) == name else "the encoding of their accents (Unicode NFC)"
    return f"The classes {name!r} and {plain!r} differ only in {differ}; they are one class."


def namesakes(sources: Sequence[str], where: str) -> Iterator[Problem]:
    """The pictures of one part that cannot be told apart by their names."""
    found: dict[str, list[str]] = {}
    for source in sources:
        found.setdefault(last_part(source), []).append(source)
    for name, own in found.items():
        if len(own) > 1:
            what = f"has {len(own)} pictures called {name}: {', '.join(own[:3])}"
            yield Problem(where, what, "Names do not tell them apart: leave --same-picture name out.")


def names_note(parts: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """The note on pictures of several parts that share a name and no address: they may be copies. parts: (where, sources)"""
    if len(parts) < 2:
        return
    first: dict[str, tuple[int, str]] = {}
    alike: list[tuple[str, str]] = []
    for number, (_, sources) in enumerate(parts):
        for source in sources:
            part, other = first.setdefault(last_part(source), (number, source))
            if part != number and source != other:
                alike.append((other, source))
    if alike:
        yield (
            f"{len(alike):,} pictures share their names, not their addresses, with pictures of another file ({alike[0][0]} and "
            f"{alike[0][1]}): they count as different ones. If they are copies, --same-picture name makes them one."
        )


def join_categories(parts: Sequence[Dataset], renamed: Mapping[str, str]) -> tuple[Category, ...]:
    """The union by new name: in the order of their ids if all parts agree on these, else by name and numbered from 1."""
    pairs = {(one.id, renamed[one.name]) for part in parts for one in part.categories if one.name in renamed}
    names = sorted({name for _, name in pairs})
    if len(pairs) == len(names) == len({number for number, _ in pairs}):
        return tuple(Category(number, name) for number, name in sorted(pairs))
    return tuple(Category(number, name) for number, name in enumerate(names, 1))


def relabelled(image: ImageRecord, own: Sequence[int | None]) -> ImageRecord:
    """The same picture with labels of the joined classes. own: label -> new label; None: the class is dropped."""
    if all(new == label for label, new in enumerate(own)):
        return image
    kept = ((instance, own[instance.label]) for instance in image.instances)
    return replace(image, instances=tuple(replace(instance, label=new) for instance, new in kept if new is not None))


def resolve(album: Album, before: int, image: ImageRecord, rule: OnDuplicate, where: tuple[str, str]) -> Problem | None:
    """The picture at `before` and `image` are the same: what `rule` makes of them goes to `before`."""
    first = album.images[before]
    name = image.source or image.file_name
    if rule == "error":
        what = f"{name} is in {where[0]}, too" if where[0] != where[1] else f"{name} is in it twice"
        return Problem(where[1], what, "Choose whose labels count with --on-duplicate first, last or merge.")
    if rule == "merge" and first.size != image.size:
        what = f"{name} is {image.size}, and {first.size} in {where[0]}: their boxes cannot be joined"
        return Problem(where[1], what, "Correct one of the two, or choose --on-duplicate first or last.")
    source, group = first.source or image.source, first.group or image.group
    size, instances = first.size, first.instances
    if rule == "last":
        size, instances, group = image.size, image.instances, image.group or first.group
    elif rule == "merge":
        instances = tuple(dict.fromkeys([*first.instances, *image.instances]))  # in their order
    album.images[before] = replace(first, size=size, instances=instances, source=source, group=group)
    if image.source:
        album.by_source[image.source] = before
    return None


def named(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The same pictures, with new file names where two that are not the same share one: by their sources, with folders."""
    if len({image.file_name for image in images}) == len(images):
        return list(images)
    references = [image.source or image.file_name for image in images]
    if len(set(references)) < len(references):  # a source that is another picture's file name
        references = [f"{number}/{reference}" for number, reference in enumerate(references, 1)]
    names = file_names(references)
    return [
        image if name == image.file_name else replace(image, file_name=name, source=image.source or image.file_name)
        for image, name in zip(images, names, strict=True)
    ]


def numbered(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The same pictures, with ids from 1 if two share one."""
    if len({image.id for image in images}) == len(images):
        return list(images)
    return [replace(image, id=number) for number, image in enumerate(images, 1)]


def told(part: Dataset, where: str, renamed: Mapping[str, str], drop: Collection[str]) -> Iterator[str]:
    """What became of the classes of one dataset."""
    counts = Counter(part.class_names[one.label] for image in part.images for one in image.instances)
    for name in part.class_names:
        if name in drop:
            left = sum(
                bool(image.instances) and all(part.class_names[one.label] in drop for one in image.instances)
                for image in part.images
            )
            yield f"{where}: the class {name!r} ({counts[name]:,} objects) was dropped; {left:,} pictures lost all objects."
        elif renamed[name] != name and renamed[name] != nfc(name.strip()):
            yield f"{where}: the class {name!r} ({counts[name]:,} objects) is now {renamed[name]!r}."


def twice_note(pictures: int, rule: str) -> str:
    """What the rule did with pictures that came more than once."""
    return f"Pictures that came more than once: {pictures:,}; {DONE[rule]}."
