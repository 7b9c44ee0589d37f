import pytest
from builders import a_record, an_instance

from sightline.dataset.check.boxes import findings_of
from sightline.dataset.check.findings import Finding
from sightline.dataset.check.subject import Picture
from sightline.records import Box, Instance

NAMES = ("cat", "dog")


def found(*instances: Instance) -> list[Finding]:
    return list(findings_of(Picture("a.jpg", None, a_record(instances=instances)), NAMES))


@pytest.mark.parametrize(
    ("box", "kinds"),
    [
        ((10.0, 10.0, 14.0, 30.0), []),
        ((10.0, 10.0, 13.9, 30.0), ["tiny-box"]),
        ((0.0, 0.0, 100.0, 80.0), ["huge-box"]),
        ((0.0, 0.0, 100.0, 78.0), []),
    ],
)
def test_tiny_and_huge(box: Box, kinds: list[str]) -> None:
    assert [one.kind for one in found(an_instance(box=box))] == kinds
    assert found(an_instance(box=box, crowd=True)) == []


def test_the_same_box_twice_is_told_with_its_number() -> None:
    apart, one, again = (
        an_instance(box=(60.0, 10.0, 90.0, 70.0)),
        an_instance(box=(10.0, 10.0, 50.0, 50.0)),
        an_instance(box=(10.0, 10.0, 50.0, 52.0)),
    )
    (finding,) = found(apart, one, again)
    assert str(finding) == "a.jpg, box 3: cat: the same as box 2 (overlap 0.95 of 1)"
    assert [mark.box for mark in finding.marks] == [one.box, again.box]


def test_two_classes_must_lie_closer_than_one() -> None:
    box, near, nearer = (10.0, 10.0, 50.0, 50.0), (10.0, 10.0, 50.0, 56.0), (10.0, 10.0, 50.0, 51.0)
    assert [one.kind for one in found(an_instance(0, box), an_instance(0, near))] == ["duplicate-box"]
    assert found(an_instance(0, box), an_instance(1, near)) == []
    (finding,) = found(an_instance(0, box), an_instance(1, nearer))
    assert (finding.kind, finding.what) == ("two-classes", "dog: where box 1 is cat (overlap 0.98 of 1)")


def test_crowds_may_lie_on_anything() -> None:
    assert found(an_instance(crowd=True), an_instance()) == []
    assert found() == []
