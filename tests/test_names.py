import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.names import file_names, fold


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        pytest.param(["s3://b/x/1.jpg"], ["1.jpg"], id="one"),
        pytest.param(["s3://b/x/1.jpg", "s3://b/x/2.jpg"], ["1.jpg", "2.jpg"], id="common folder goes"),
        pytest.param(["s3://b/x/1.jpg", "s3://b/y/1.jpg"], ["x/1.jpg", "y/1.jpg"], id="folders that differ stay"),
        pytest.param(["s3://b/x/1.jpg", "s3://c/x/1.jpg"], ["b/x/1.jpg", "c/x/1.jpg"], id="buckets that differ stay"),
        pytest.param(["s3://b/1.jpg", "s3://b/1.jpg/2.jpg"], ["1~2.jpg", "1.jpg/2.jpg"], id="a file that is a folder too"),
        pytest.param(["s3://b/a b+c%20(d)é.jpg"], ["a b+c%20(d)é.jpg"], id="keys are literal"),
        pytest.param(["s3://b/a//1.jpg", "s3://b/a/_/1.jpg"], ["_/1~2.jpg", "_/1.jpg"], id="empty folder"),
        pytest.param(["s3://b/../1.jpg", "s3://b/./1.jpg"], ["__/1.jpg", "_/1.jpg"], id="dots"),
        pytest.param(["s3://b/a:1.jpg", "s3://b/a_1.jpg"], ["a_1~2.jpg", "a_1.jpg"], id="a colon"),
        pytest.param(["s3://b/con.jpg", "s3://b/x. "], ["_con.jpg", "x__"], id="Windows"),
        pytest.param(["s3://b/A.jpg", "s3://b/a.jpg"], ["A.jpg", "a~2.jpg"], id="one file on macOS"),
        pytest.param(["/data/x/1.jpg", "C:\\y\\2.jpg"], ["_/data/x/1.jpg", "C_/y/2.jpg"], id="absolute paths"),
        pytest.param([], [], id="none"),
    ],
)
def test_file_names(references: list[str], expected: list[str]) -> None:
    assert file_names(references) == expected


def test_a_name_that_is_too_long_is_cut_and_marked() -> None:
    one, other = file_names([f"s3://b/{'é' * 200}{number}.jpg" for number in (1, 2)])
    assert len(one.encode()) <= 255 and one.endswith(".jpg")
    assert one != other


KEYS = st.text(alphabet="aA./ :_~2", min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(KEYS, unique=True, max_size=8))
def test_names_are_safe_distinct_and_independent_of_order(keys: list[str]) -> None:
    references = [f"s3://b/{key}" for key in keys]
    names = file_names(references)
    assert len({fold(name) for name in names}) == len(names)
    folders = {fold(name)[:position] for name in names for position, character in enumerate(name) if character == "/"}
    assert folders.isdisjoint({fold(name) for name in names})
    for name in names:
        assert all(part and part.rstrip(". ") == part for part in name.split("/"))
    assert dict(zip(references[::-1], file_names(references[::-1]), strict=True)) == dict(zip(references, names, strict=True))
