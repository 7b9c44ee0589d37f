"""Detectron2's YAML in and out: nothing is lost, nothing is guessed, and every problem is named with its file."""

import ast
import contextlib
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sightline.config.schema import Config
from sightline.config.yaml_dialect import (
    TYPES,
    dump,
    flat,
    flatten,
    load_file,
    load_values,
    looks_like_key,
    override,
    parse_yaml,
    with_values,
)
from sightline.errors import ConfigError


def a_file(folder: Path, text: str, name: str = "config.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


LIKE_LITERALS = ["12", "1e-3", "None", "true", "'", "'a'", '"', "(1, 2)", " 7", "[]", "{[]: 1}", "~", "!!x", "a: b", "#"]
"""Texts that YAML, Python or yacs might take for something else."""

KEYS = sorted(set(TYPES) - {"VERSION"})  # there is one


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a key of this type may have."""
    if isinstance(kind, UnionType):
        return st.one_of([values_of(option) for option in get_args(kind)])
    if get_origin(kind) is tuple:
        return st.lists(values_of(get_args(kind)[0]), max_size=3).map(tuple)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-(10**9), 10**9),
        float: st.floats(allow_nan=False),
        str: st.one_of(st.text(st.characters(codec="utf-8"), max_size=20), st.sampled_from(LIKE_LITERALS)),
        NoneType: st.none(),
        object: st.one_of(st.text("abc", min_size=1), st.integers(), st.tuples(st.just("bbox"), st.floats(0, 1))),
    }
    return simple[kind]


def test_detectron2s_own_defaults_are_ours(shared: Path) -> None:
    path = shared / "facts" / "detectron2_defaults.yaml"
    assert load_file(path) == Config()
    assert yaml.safe_load(dump(Config())) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_dump_of_every_golden_config_says_the_same(shared: Path) -> None:
    paths = sorted((shared / "golden").glob("*/config.yaml"))
    assert paths
    for path in paths:
        assert yaml.safe_load(dump(load_file(path))) == yaml.safe_load(path.read_text(encoding="utf-8")), path.parent.name


def reread(text: str) -> Config:
    return load_values(dict(flatten(parse_yaml(text.encode(), "dump"), "")), "dump")


@pytest.mark.parametrize("text", ["\x85", "one\x85two", "\u2028", "a\u2029", "one\ntwo", "tab\t", " ", "Bäume", "\ufeffx"])
def test_unusual_text_comes_back(text: str) -> None:
    config = with_values(Config(), {"OUTPUT_DIR": text})
    assert reread(dump(config)) == config


@given(st.data())
def test_load_of_dump_is_the_same_config(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(KEYS), max_size=8, unique=True))
    config = with_values(Config(), {key: data.draw(values_of(TYPES[key]), label=key) for key in keys})
    text = dump(config)
    again = reread(text)
    assert again == config
    assert dump(again) == text


def accepted_by_yacs(value: object, default: object) -> bool:
    """yacs' rule for a value of a file over a default: text is read as a Python literal where it is one; then the types are
    the same, or one is a list and the other a tuple, or one is None."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    kinds = {type(value), type(default)}
    return len(kinds) == 1 or kinds == {list, tuple} or NoneType in kinds


@given(st.data())
def test_yacs_takes_every_dump(data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(KEYS), max_size=8, unique=True))
    config = with_values(Config(), {key: data.draw(values_of(TYPES[key]), label=key) for key in keys})
    written = dict(flatten(yaml.safe_load(dump(config)), ""))
    assert {key for key, default in flat(Config()).items() if not accepted_by_yacs(written[key], default)} == set()


def test_yacs_takes_a_dump_over_detectron2s_own_defaults(shared: Path) -> None:
    """Whole numbers where Detectron2 has floats, as Python code may set them, and text that looks like a number."""
    changes = {key: 3 for key, kind in TYPES.items() if kind in (float, float | None)}
    config = with_values(Config(), {**changes, "OUTPUT_DIR": "12", "MODEL.WEIGHTS": "None"})
    written = dict(flatten(yaml.safe_load(dump(config)), ""))
    defaults = yaml.safe_load((shared / "facts" / "detectron2_defaults.yaml").read_text(encoding="utf-8"))
    for key, default in flatten(defaults, ""):
        assert accepted_by_yacs(written.pop(key), default), key
    assert not written


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        pytest.param("SOLVER.BASE_LR", 1, "BASE_LR: 1.0", id="a whole number for a float"),
        pytest.param("SOLVER.WEIGHT_DECAY_BIAS", 0, "WEIGHT_DECAY_BIAS: 0.0", id="for a float or null"),
        pytest.param("SOLVER.WEIGHT_DECAY_BIAS", None, "WEIGHT_DECAY_BIAS: null", id="null"),
        pytest.param("MODEL.PIXEL_STD", (1, 2.5, 3), "PIXEL_STD: [1, 2.5, 3]", id="in a list as it is"),
        pytest.param("OUTPUT_DIR", "12", """OUTPUT_DIR: '''12'''""", id="text that is a literal"),
        pytest.param("OUTPUT_DIR", "runs/12", "OUTPUT_DIR: runs/12", id="text that is none"),
        pytest.param("OUTPUT_DIR", "it's", "OUTPUT_DIR: it's", id="a quote inside"),
        pytest.param("DATASETS.TRAIN", ("12",), "TRAIN: ['12']", id="text in a list"),
    ],
)
def test_what_a_dump_writes(key: str, value: object, line: str) -> None:
    assert line in [text.strip() for text in dump(with_values(Config(), {key: value})).splitlines()]


def test_every_key_can_be_given_as_text() -> None:
    """What `KEY VALUE` on a command line has to do for every value of the defaults."""
    for key, value in flat(Config()).items():
        text = value if isinstance(value, str) else repr(value)
        assert flat(override(Config(), [key, text]))[key] == value


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        pytest.param("SOLVER.MAX_ITER", "90", 90, id="a whole number"),
        pytest.param("SOLVER.BASE_LR", "1", 1.0, id="a whole number for a number"),
        pytest.param("SOLVER.BASE_LR", "1e-3", 0.001, id="an exponent, which YAML would take for text"),
        pytest.param("INPUT.MIN_SIZE_TRAIN", "(640, 672)", (640, 672), id="a tuple in text"),
        pytest.param("INPUT.MIN_SIZE_TRAIN", "[640,672]", (640, 672), id="a list in text"),
        pytest.param("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64]]", ((32,), (64,)), id="lists of lists"),
        pytest.param("MODEL.MASK_ON", "True", True, id="Python's True"),
        pytest.param("MODEL.MASK_ON", "true", True, id="YAML's true"),
        pytest.param("SOLVER.WEIGHT_DECAY_BIAS", "None", None, id="Python's None"),
        pytest.param("SOLVER.WEIGHT_DECAY_BIAS", "null", None, id="YAML's null"),
        pytest.param("SOLVER.WEIGHT_DECAY_BIAS", "0", 0.0, id="a number where None is allowed"),
        pytest.param("MODEL.WEIGHTS", "", "", id="empty text"),
        pytest.param("MODEL.RESNETS.NORM", "''", "", id="empty text in quotes"),
        pytest.param("MODEL.WEIGHTS", '"a b.pth"', "a b.pth", id="text in quotes"),
        pytest.param("OUTPUT_DIR", "12", "12", id="text that looks like a number"),
        pytest.param("SEED", " 7 ", 7, id="spaces around"),
    ],
)
def test_overrides(key: str, text: str, expected: object) -> None:
    value = flat(override(Config(), [key, text]))[key]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        pytest.param("SIZES", "[32, 64]", ((32, 64),), id="flat sizes"),
        pytest.param("ASPECT_RATIOS", "[0.5, 1.0]", ((0.5, 1.0),), id="flat ratios"),
        pytest.param("SIZES", "'(32, 64)'", ((32, 64),), id="as text"),
        pytest.param("SIZES", "[[32], [64]]", ((32,), (64,)), id="one for each level"),
        pytest.param("SIZES", "[]", (), id="none"),
    ],
)
def test_flat_anchors_count_for_every_level(tmp_path: Path, key: str, text: str, expected: object) -> None:
    name = f"MODEL.ANCHOR_GENERATOR.{key}"
    assert flat(load_file(a_file(tmp_path, f"MODEL: {{ANCHOR_GENERATOR: {{{key}: {text}}}}}")))[name] == expected
    assert flat(override(Config(), [name, text.strip("'")]))[name] == expected


def test_an_override_leaves_all_other_keys_alone() -> None:
    changed = flat(override(Config(), ["MODEL.RPN.NMS_THRESH", "0.6"]))
    assert changed == flat(Config()) | {"MODEL.RPN.NMS_THRESH": 0.6}


def test_a_file_may_write_lists_as_text_as_detectron2s_do(tmp_path: Path) -> None:
    path = a_file(tmp_path, 'INPUT: {MIN_SIZE_TRAIN: "(640, 800)"}\nSOLVER: {BASE_LR: 1e-3, STEPS: [10, 20]}\n')
    config = load_file(path, ["SOLVER.STEPS", "(30,)"])
    assert (config.input.min_size_train, config.solver.base_lr, config.solver.steps) == ((640, 800), 0.001, (30,))


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_file(a_file(tmp_path, "")) == Config()


def test_base_chains_relative_to_each_file(tmp_path: Path) -> None:
    a_file(tmp_path, "SEED: 1\nVERSION: 2\nOUTPUT_DIR: root\nMODEL: {MASK_ON: true}\n", "bases/root.yaml")
    a_file(tmp_path, "_BASE_: root.yaml\nSEED: 2\nOUTPUT_DIR: middle\n", "bases/middle.yaml")
    config = load_file(a_file(tmp_path, "_BASE_: ../bases/middle.yaml\nSEED: 3\n", "mine/config.yaml"), ["VIS_PERIOD", "5"])
    assert (config.seed, config.output_dir, config.model.mask_on, config.vis_period) == (3, "middle", True, 5)


@pytest.mark.parametrize("home", [False, True], ids=["absolute", "under ~"])
def test_base_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: bool) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    base = a_file(tmp_path, "SEED: 5\n", "base.yaml")
    path = a_file(tmp_path, f"_BASE_: {'~/base.yaml' if home else base}\n", "deep/er/config.yaml")
    assert load_file(path).seed == 5


def test_a_circle_of_bases_is_told_whole(tmp_path: Path) -> None:
    a_file(tmp_path, "_BASE_: b.yaml\n", "a.yaml")
    a_file(tmp_path, "_BASE_: a.yaml\n", "b.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml -> .*b\.yaml -> .*a\.yaml\. Break the _BASE_ circle"):
        load_file(tmp_path / "a.yaml")


@pytest.mark.parametrize("base", ["https://host/base.yaml", "[a.yaml]"])
def test_a_base_is_a_local_file(tmp_path: Path, base: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: _BASE_ is .*\. Name a local YAML file\."):
        load_file(a_file(tmp_path, f"_BASE_: {base}\n"))


def test_a_base_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read \(No such file or directory\)\. Check the path\."):
        load_file(a_file(tmp_path, "_BASE_: gone.yaml\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "SOLVER: {MAX_ITERS: 5}", r"unknown key 'SOLVER\.MAX_ITERS'\. Did you mean 'SOLVER\.MAX_ITER'\?", id="key"
        ),
        pytest.param("MODLE: {MASK_ON: true}", r"unknown key 'MODLE'\. Did you mean 'MODEL'\?", id="section"),
        pytest.param("MODEL: {RPNN: {X: 1}}", r"unknown key 'MODEL\.RPNN'\. Did you mean 'MODEL\.RPN'\?", id="inner section"),
        pytest.param("FOO: 1", r"unknown key 'FOO'\. Remove it\.", id="nothing near"),
        pytest.param("SOLVER: {MAX_ITER: 1.5}", r"SOLVER\.MAX_ITER is 1\.5\. Give a whole number\.", id="float for int"),
        pytest.param("SOLVER: {MAX_ITER: true}", r"SOLVER\.MAX_ITER is True\. Give a whole number\.", id="bool for int"),
        pytest.param("SOLVER: {MAX_ITER: 10k}", r"SOLVER\.MAX_ITER is '10k'\. Give a whole number\.", id="no literal"),
        pytest.param("SOLVER: {BASE_LR: true}", r"SOLVER\.BASE_LR is True\. Give a number\.", id="bool for float"),
        pytest.param("SOLVER: {BASE_LR: fast}", r"SOLVER\.BASE_LR is 'fast'\. Give a number\.", id="word for float"),
        pytest.param("SOLVER: {WEIGHT_DECAY_BIAS: x}", r"Give a number or null\.", id="word for a number or null"),
        pytest.param("MODEL: {MASK_ON: 1}", r"MODEL\.MASK_ON is 1\. Give true or false\.", id="int for bool"),
        pytest.param("OUTPUT_DIR: 5", r"OUTPUT_DIR is 5\. Give text\.", id="int for text"),
        pytest.param("OUTPUT_DIR: null", r"OUTPUT_DIR is None\. Give text\.", id="null for text"),
        pytest.param("SOLVER: {STEPS: 5}", r"SOLVER\.STEPS is 5\. Give a list of whole numbers\.", id="int for list"),
        pytest.param("SOLVER: {STEPS: [5, x]}", r"Give a list of whole numbers\.", id="word in a list"),
        pytest.param("DATASETS: {TRAIN: coco}", r"DATASETS\.TRAIN is 'coco'\. Give a list of texts\.", id="word for texts"),
        pytest.param("MODEL: {PIXEL_STD: [a]}", r"Give a list of numbers\.", id="word for numbers"),
        pytest.param("MODEL: {ANCHOR_GENERATOR: {SIZES: [a]}}", r"Give a list of lists of numbers\.", id="flat words"),
        pytest.param("MODEL: {ANCHOR_GENERATOR: {SIZES: [1, [2]]}}", r"Give a list of lists of numbers\.", id="half flat"),
        pytest.param("MODEL: {PIXEL_STD: [[1]]}", r"Give a list of numbers\.", id="lists for numbers"),
        pytest.param("MODEL: 5", r"MODEL is 5\. It is a section: give the keys in it", id="number for a section"),
        pytest.param("MODEL: {RPN: }", r"MODEL\.RPN is None\. It is a section", id="empty section"),
    ],
)
def test_what_is_wrong_with_a_value(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"config\.yaml: .*{message}"):
        load_file(a_file(tmp_path, text))


def test_a_long_value_is_not_repeated_whole(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"x\.\.\.\. Give a number\.") as caught:
        load_file(a_file(tmp_path, f"SOLVER: {{BASE_LR: {'x' * 10_000}}}"))
    assert len(str(caught.value)) < 600


def test_all_problems_at_once_each_with_its_own_file(tmp_path: Path) -> None:
    a_file(tmp_path, "SEED: one\nSOLVER: {GAMMA: []}\n", "base.yaml")
    path = a_file(tmp_path, "_BASE_: base.yaml\nMODEL: {MASK: true, RPN: {NMS_THRESH: much}}\n")
    with pytest.raises(ConfigError) as caught:
        load_file(path, ["SOLVER.GAMA", "1"])
    where = [(Path(problem.where).name, problem.what) for problem in caught.value.problems]
    assert where == [
        ("base.yaml", "SEED is 'one'"),
        ("base.yaml", "SOLVER.GAMMA is []"),
        ("config.yaml", "unknown key 'MODEL.MASK'"),
        ("config.yaml", "MODEL.RPN.NMS_THRESH is 'much'"),
        ("override", "unknown key 'SOLVER.GAMA'"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"MODEL: [", "is no YAML that can be read safely", id="not YAML"),
        pytest.param(b"OUTPUT_DIR: \xff\xfe", "is no YAML that can be read safely .*utf-8", id="not UTF-8"),
        pytest.param(b"OUTPUT_DIR: 2024-13-01", "is no YAML that can be read safely .*month", id="a date that is none"),
        pytest.param(b"[" * 20_000, "is no YAML that can be read safely", id="too deep"),
        pytest.param(b"- a\n- b\n", "holds a list, not keys", id="a list"),
        pytest.param(b"just words", "holds a str, not keys", id="text"),
    ],
)
def test_what_is_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"config\.yaml: {message}"):
        load_file(path)


def test_code_in_yaml_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = a_file(tmp_path, f'OUTPUT_DIR: !!python/object/apply:os.system ["touch {marker}"]\n')
    with pytest.raises(ConfigError, match=r"is no YAML that can be read safely .*python/object/apply"):
        load_file(path)
    assert not marker.exists()


def test_overrides_come_in_pairs() -> None:
    with pytest.raises(ConfigError, match=r"3 words are no KEY VALUE pairs: SEED 1 SOLVER\.GAMMA\. Give every key one value"):
        override(Config(), ["SEED", "1", "SOLVER.GAMMA"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("SOLVER.MAX_ITER", True),
        ("SOLVER.MAX_ITERS", True),
        ("SEED", True),
        ("output.manifest", False),
        ("./output.manifest", False),
        ("../SOLVER.MAX_ITER", False),
        ("MODEL", False),
        ("s3://bucket/output.manifest", False),
    ],
)
def test_what_looks_like_a_key(word: str, expected: bool) -> None:
    assert looks_like_key(word) is expected
