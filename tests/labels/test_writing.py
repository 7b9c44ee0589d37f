from collections import Counter

import pytest
from builders import a_dataset, a_record

from sightline.errors import LabelError
from sightline.labels.writing import label_names, lost, require_safe_names, unused_classes


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a/../b.jpg", "a//b.jpg", "C:/a.jpg", "a\\..\\b.jpg", "a\0.jpg", ".."])
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(LabelError, match="leads out of the folder"):
        require_safe_names(a_dataset([a_record(file_name=name)]))


def test_label_names() -> None:
    records = [a_record(1, file_name="a/b.tar.jpg"), a_record(2, file_name="b"), a_record(3, file_name=".c.jpg")]
    assert label_names(a_dataset(records), ".txt") == ["a/b.tar.txt", "b.txt", ".c.txt"]
    with pytest.raises(LabelError) as caught:
        label_names(a_dataset([a_record(1, file_name="a.jpg"), a_record(2, file_name="a.png")]), ".txt")
    assert [problem.where for problem in caught.value.problems] == ["a.jpg", "a.png"]


def test_losses() -> None:
    assert lost(Counter({"crowds": 2, "masks": 0, "boxes": 1000})) == ["2 crowds", "1,000 boxes"]
    assert unused_classes(a_dataset([a_record(labels=[1])])) == ["classes without objects are forgotten: cat"]
    assert unused_classes(a_dataset([a_record(labels=[1, 0])])) == []
