"""Two Python tags are read, all others refused, and nothing is ever run."""

from pathlib import Path

import pytest
import yaml

from sightline.config.sources import load
from sightline.config.tags import load_yaml
from sightline.config.yaml_dialect import load_file
from sightline.errors import ConfigError

EVAL = "!!python/object/apply:eval"


def test_the_anchors_of_a_retinanet_file_as_detectron2_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "Base-RetinaNet.yaml"
    text = "[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"
    path.write_text(f'MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: {EVAL} ["{text}"]\n', encoding="utf-8")
    sizes = load_file(path).model.anchor_generator.sizes
    assert sizes == load("COCO-Detection/retinanet_R_50_FPN_1x").model.anchor_generator.sizes
    assert sizes[0] == pytest.approx((32, 40.3175, 50.7968), abs=1e-4)


def test_a_list_over_two_lines() -> None:
    assert load_yaml(f'SIZES:\n  {EVAL} [\n    "[x * 2 for x in [1, 2]]",\n  ]\n', "here") == {"SIZES": [2, 4]}


def test_tuples() -> None:
    text = "STEPS: !!python/tuple [1, 2]\nSIZES: !!python/tuple\n- !!python/tuple [3]\n- [4]\n"
    assert load_yaml(text, "here") == {"STEPS": (1, 2), "SIZES": ((3,), [4])}


def test_an_old_dump_with_tuples(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "SOLVER:\n  STEPS: !!python/tuple\n  - 60000\n  - 80000\nMODEL:\n  ANCHOR_GENERATOR:\n    SIZES:\n"
        "    - !!python/tuple [32]\n    - !!python/tuple [64]\nTEST:\n  EXPECTED_RESULTS: [!!python/tuple [bbox, [AP, 1.5]]]\n",
        encoding="utf-8",
    )
    config = load_file(path)
    assert (config.solver.steps, config.model.anchor_generator.sizes) == ((60000, 80000), ((32,), (64,)))
    assert config.test.expected_results == (("bbox", ("AP", 1.5)),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f'A: {EVAL} ["open(1)"]', r"x\.yaml, line 1: 'open\(1\)' is not read as arithmetic", id="a call"),
        pytest.param(f'A: 1\nB:\n  {EVAL} ["9**9**9"]', r"x\.yaml, line 3: .* too large", id="a huge power"),
    ],
)
def test_what_is_no_arithmetic(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_yaml(text, "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(f'A: {EVAL} ["1", {{}}]', "takes one text", id="two arguments"),
        pytest.param(f"A: {EVAL} [1]", "takes one text", id="a number"),
        pytest.param(f"A: {EVAL} '1'", "takes one text", id="text alone"),
        pytest.param(f'A: {EVAL} {{args: ["1"]}}', "takes one text", id="arguments by name"),
        pytest.param("A: !!python/tuple 5", "takes a list", id="a tuple of nothing"),
        pytest.param('A: !!python/object/apply:os.system ["true"]', "could not determine a constructor", id="another call"),
        pytest.param("A: !!python/name:os.system", "could not determine a constructor", id="a name"),
        pytest.param("A: !!python/object/new:eval ['1']", "could not determine a constructor", id="another form of eval"),
        pytest.param("A: !!python/complex 1j", "could not determine a constructor", id="a complex number"),
    ],
)
def test_what_stays_refused(text: str, message: str) -> None:
    with pytest.raises(yaml.YAMLError, match=message) as caught:
        load_yaml(text, "x.yaml")
    assert 'in "x.yaml", line 1' in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "a0: &a0 [1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
            id="aliases of aliases",
        ),
        pytest.param("a: &a [*a]", id="an alias within itself"),
        pytest.param(f'a: {EVAL} ["{"[[x, x, x, x] for x in " * 30}[1]{"]" * 30}"]', id="lists that share their parts"),
    ],
)
def test_what_unfolds_to_too_much(text: str) -> None:
    with pytest.raises(ValueError, match="more than 100,000 values"):
        load_yaml(text, "x.yaml")
