import os
from pathlib import Path

import pytest

from sightline import labels, memory
from sightline.errors import LabelError


def test_the_containers_limit_counts(tmp_path: Path) -> None:
    limit, used, stat = (tmp_path / name for name in ("max", "current", "stat"))
    limit.write_text("1000\n")
    used.write_text("600\n")
    stat.write_text("anon 500\ninactive_file 100\n")
    assert memory.container_free((limit, used, stat)) == 500
    limit.write_text("max\n")
    assert memory.container_free((limit, used, stat)) is None
    assert (memory.machine_free() or 0) > 0


@pytest.mark.parametrize("format", ["coco", "via", "labelme", "label-studio", "voc", "cvat"])
def test_what_would_not_fit_into_memory_is_not_read(tmp_path: Path, format: str) -> None:
    path = tmp_path / "labels"
    path.touch()
    os.truncate(path, 2**40)  # a hole: it takes no room on the disk
    with pytest.raises(LabelError, match=r"labels: has 1,099,511,627,776 bytes, which take .* to parse, and .* are free"):
        labels.read(path, format=format)
