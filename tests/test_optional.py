"""Libraries that not everyone needs: imported when used, or an error that says how to get them."""

from pathlib import Path

import pytest

from sightline.errors import MissingDependencyError
from sightline.optional import require


def test_what_is_installed_is_imported() -> None:
    assert require("json", "serve", "sightline serve").loads("1") == 1
    assert require("xml.dom", "report", "a report").__name__ == "xml.dom"


@pytest.mark.parametrize("module", ["not_installed_anywhere", "not_installed_anywhere.inner"])
def test_what_is_missing_says_how_to_get_it(module: str) -> None:
    message = rf"^sightline serve: needs '{module}', which is not installed\. Run: pip install 'sightline\[serve\]'$"
    with pytest.raises(MissingDependencyError, match=message) as caught:
        require(module, "serve", "sightline serve")
    assert caught.value.exit_code == 2


def test_what_is_missing_inside_of_an_installed_library_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("import something_it_needs\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs"):
        require("broken_library", "serve", "sightline serve")
