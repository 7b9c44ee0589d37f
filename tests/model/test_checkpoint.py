"""Weights from files: all shapes of files that people have, a report of what fitted, and nothing ever executed."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from builders import a_detector
from torch import Tensor, nn
from torch.testing import assert_close

from sightline.config.sources import load
from sightline.errors import CheckpointError
from sightline.model.build import build_detector
from sightline.model.checkpoint import (
    LoadReport,
    Unfilled,
    load_exactly,
    load_weights,
    read_checkpoint,
    read_weights,
    state_dict_of,
)


def a_model() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def some_tensors(**changes: Tensor) -> dict[str, Tensor]:
    """All that `a_model` needs, every value 1. Keyword names write `_` where the tensor's name has a dot."""
    tensors = {name: torch.ones_like(value) for name, value in a_model().state_dict().items()}
    return tensors | {name.replace("__", "."): value for name, value in changes.items()}


def saved(folder: Path, content: object) -> Path:
    path = folder / "model.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"model": some_tensors(), "iteration": 0}, id="Detectron2's"),
        pytest.param(some_tensors(), id="a bare state dict"),
        pytest.param({f"module.{name}": value for name, value in some_tensors().items()}, id="DistributedDataParallel's"),
        pytest.param({"model": some_tensors() | {"note": "text"}}, id="with a value that is no tensor"),
    ],
)
def test_files_that_load(tmp_path: Path, content: object) -> None:
    path = saved(tmp_path, content)
    model = a_model()
    load_exactly(model, state_dict_of(read_checkpoint(path), path), path)
    assert_close(dict(model.state_dict()), some_tensors())


def test_what_else_a_checkpoint_holds_is_kept(tmp_path: Path) -> None:
    content = read_checkpoint(saved(tmp_path, {"model": some_tensors(), "iteration": 41, "optimizer": {"state": {}}}))
    assert (content["iteration"], content["optimizer"]) == (41, {"state": {}})


def test_a_report_names_everything() -> None:
    tensors = some_tensors(extra=torch.ones(1))
    del tensors["0.bias"]
    tensors["0.weight"] = torch.ones(3, 5)
    model = a_model()
    report = load_weights(model, tensors)
    assert report.loaded == ("1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert (report.missing, report.unexpected, report.reshaped) == (("0.bias",), ("extra",), {"0.weight": ((3, 5), (3, 2))})
    assert not report.complete
    assert report.lines() == [
        "5 tensors loaded",
        "1 of another shape, left as initialised: 0.weight [3, 5] instead of [3, 2]",
        "1 not in the file, left as initialised: 0.bias",
        "1 in the file that the model has no place for: extra",
    ]
    assert_close(model.state_dict()["1.weight"], torch.ones(3))
    assert_close(model.state_dict()["0.weight"], torch.zeros(3, 2))


def test_a_perfect_fit_is_complete() -> None:
    report = load_weights(a_model(), some_tensors())
    assert report.complete
    assert report.lines() == ["7 tensors loaded"]


def test_buffers_that_follow_from_the_configuration_are_not_missed() -> None:
    tensors = some_tensors(
        pixel_mean=torch.ones(3, 1, 1),
        pixel_std=torch.ones(3, 1, 1),
        proposal_generator__anchor_generator__cell_anchors__0=torch.ones(3, 4),
    )
    del tensors["1.num_batches_tracked"]
    assert load_weights(a_model(), tensors).complete


def test_half_precision_weights_are_widened() -> None:
    model = a_model()
    load_exactly(model, {name: value.half() for name, value in some_tensors().items()}, "weights")
    assert model.state_dict()["0.weight"].dtype == torch.float32


def test_taken_tensors_are_the_models_own_where_their_type_allows_it() -> None:
    tensors = some_tensors()
    tensors["1.weight"] = tensors["1.weight"].half()
    copied, taking = a_model(), a_model()
    load_exactly(copied, tensors, "weights")
    load_exactly(taking, tensors, "weights", take=True)
    assert_close(dict(taking.state_dict()), dict(copied.state_dict()))
    assert taking.state_dict()["1.weight"].dtype == torch.float32
    assert taking.state_dict()["0.weight"].data_ptr() == tensors["0.weight"].data_ptr()
    assert copied.state_dict()["0.weight"].data_ptr() != tensors["0.weight"].data_ptr()
    assert all(isinstance(parameter, nn.Parameter) and parameter.requires_grad for parameter in taking.parameters())


def test_unfilled_draws_no_random_numbers() -> None:
    before = torch.random.get_rng_state()
    with Unfilled():
        layer = nn.Linear(50, 50)
        nn.init.normal_(layer.weight)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_close(layer.bias.detach(), torch.zeros(50))
    assert not torch.equal(nn.Linear(50, 50).weight, nn.Linear(50, 50).weight)


def test_load_exactly_lists_every_tensor_that_does_not_fit() -> None:
    tensors = some_tensors(extra=torch.ones(1))
    del tensors["0.bias"]
    tensors["0.weight"] = torch.ones(3, 5)
    with pytest.raises(CheckpointError, match=r"m\.pth: tensor '0\.bias' is missing\. Give the configuration") as caught:
        load_exactly(a_model(), tensors, "m.pth")
    assert [problem.what for problem in caught.value.problems] == [
        "tensor '0.bias' is missing",
        "tensor '0.weight' has shape [3, 5], the model needs [3, 2]",
        "tensor 'extra' has no place in the model",
    ]


def test_load_exactly_names_ten_tensors_and_counts_the_others() -> None:
    tensors = some_tensors() | {f"extra{number}": torch.ones(1) for number in range(50)}
    with pytest.raises(CheckpointError) as caught:
        load_exactly(a_model(), tensors, "m.pth")
    assert len(caught.value.problems) == 11
    assert caught.value.problems[-1].what == "and 40 more tensors do not fit"


def test_another_architecture_is_told_in_one_sentence() -> None:
    retinanet = {"backbone.fpn_lateral3.weight": torch.ones(1), "head.cls_subnet.0.weight": torch.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        load_exactly(a_detector(), retinanet, "m.pth")
    assert [str(problem) for problem in caught.value.problems] == [
        "m.pth: looks like a RetinaNet, the configuration describes a Faster R-CNN with FPN. "
        "Give the configuration that this checkpoint was trained with."
    ]


SEVEN = ("MODEL.ROI_HEADS.NUM_CLASSES", "7")
HEAD = tuple(
    f"roi_heads.box_predictor.{part}" for part in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")
)


def test_another_number_of_classes_is_told_in_one_sentence() -> None:
    with pytest.raises(CheckpointError) as caught:
        load_exactly(a_detector(), a_detector(*SEVEN).state_dict(), "m.pth")
    assert [str(problem) for problem in caught.value.problems] == [
        "m.pth: was trained for 7 classes, the configuration says 2. Set MODEL.ROI_HEADS.NUM_CLASSES to 7."
    ]


@pytest.mark.parametrize(
    ("options", "fresh"),
    [
        pytest.param((), HEAD, id="boxes of every class"),
        pytest.param(("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"), HEAD[:2], id="one box for all classes"),
    ],
)
def test_fine_tuning_begins_anew_exactly_where_the_number_of_classes_shows(
    options: tuple[str, ...], fresh: tuple[str, ...]
) -> None:
    given = a_detector(*SEVEN, *options, seed=1).state_dict()
    model = a_detector(*options)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = load_weights(model, given)
    assert (tuple(report.fresh), report.reshaped, report.missing, report.unexpected) == (fresh, {}, (), ())
    assert report.lines() == [
        f"{len(before) - len(fresh)} tensors loaded",
        f"trained for 7 classes, this data set has 2: {', '.join(fresh)} start fresh",
    ]
    for name, value in model.state_dict().items():
        assert_close(value, before[name] if name in fresh else given[name])


SMALLER = (
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8", "MODEL.FPN.OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.ROI_BOX_HEAD.FC_DIM", "16", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8"),
)


@pytest.mark.parametrize(
    ("zoo_name", "options", "depending"),
    [
        pytest.param("COCO-Detection/retinanet_R_50_FPN_1x", (), ("head.cls_score.",), id="RetinaNet"),
        pytest.param(
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
            (),
            ("roi_heads.box_predictor.", "roi_heads.mask_head.predictor."),
            id="Mask R-CNN",
        ),
        pytest.param(
            "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x",
            ("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", "True"),
            ("roi_heads.box_predictor.",),
            id="one mask for all classes",
        ),
        pytest.param(
            "Misc/cascade_mask_rcnn_R_50_FPN_3x",
            (),
            (*(f"roi_heads.box_predictor.{stage}.cls_score." for stage in range(3)), "roi_heads.mask_head.predictor."),
            id="Cascade Mask R-CNN",
        ),
        pytest.param("COCO-Detection/rpn_R_50_FPN_1x", (), (), id="proposals know no classes"),
    ],
)
def test_what_depends_on_the_classes_of_each_architecture(
    zoo_name: str, options: tuple[str, ...], depending: tuple[str, ...]
) -> None:
    def detector(classes: int) -> nn.Module:
        numbers = ["MODEL.ROI_HEADS.NUM_CLASSES", str(classes), "MODEL.RETINANET.NUM_CLASSES", str(classes)]
        return build_detector(load(zoo_name, [*SMALLER, *options, *numbers]))

    given = detector(5).state_dict()
    model = detector(2)
    report = load_weights(model, given)
    expected = [name for name in given if name.startswith(depending)] if depending else []
    assert list(report.fresh) == expected
    assert (report.reshaped, report.missing, report.unexpected) == ({}, (), ())
    assert len(report.loaded) == len(given) - len(expected)
    if depending:
        key = "MODEL.RETINANET.NUM_CLASSES" if "retinanet" in zoo_name else "MODEL.ROI_HEADS.NUM_CLASSES"
        with pytest.raises(CheckpointError, match=rf"^m\.pth: was trained for 5 classes, .* says 2\. Set {key} to 5\.$"):
            load_exactly(model, given, "m.pth")


def test_a_head_of_another_width_is_no_matter_of_classes() -> None:
    report = load_weights(a_detector(), a_detector(*SEVEN, "MODEL.ROI_BOX_HEAD.FC_DIM", "24").state_dict())
    assert set(report.fresh) == {HEAD[1], HEAD[3]}
    assert {HEAD[0], HEAD[2], "roi_heads.box_head.fc1.weight"} < set(report.reshaped)
    assert not set(report.fresh) & set(report.reshaped)


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True], ids=["torch.save", "a bare pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    content = {"model": some_tensors(), "surprise": Malicious(tmp_path / "ran")}
    path = tmp_path / "model.pth"
    if legacy:
        path.write_bytes(pickle.dumps(Malicious(tmp_path / "ran"), protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"model\.pth: is no checkpoint that loads safely .*Give a \.pth file of tensors"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


class Command:
    """Unpickling it would leave a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("name", ["model.pth", "model.pkl"])
def test_a_shell_command_in_a_file_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / name
    if name == "model.pth":
        torch.save({"model": some_tensors(), "hook": Command(marker)}, path)
    else:
        path.write_bytes(pickle.dumps({"model": {"0.weight": Command(marker)}, "__author__": "x"}))
    with pytest.raises(CheckpointError, match=r"(loads safely|does not load safely) \(.*system"):
        read_weights(path, {})
    assert not marker.exists()
    pickle.loads(pickle.dumps(Command(marker)))  # the attack is a real one
    assert marker.exists()


def test_half_a_download_of_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model_final.pkl"
    whole = pickle.dumps({"model": {"0.weight": torch.ones(300).numpy()}, "__author__": "x"})
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model_final\.pkl: (is damaged|does not load safely) .*truncated"):
        read_weights(path, {})


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.95], ids=str)
def test_a_truncated_file(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path, {"model": some_tensors()})
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(CheckpointError, match=r"model\.pth: is (damaged or no checkpoint|no checkpoint that loads safely)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param([1, 2], r"holds a list\. Give a \.pth file with a state dict", id="a list"),
        pytest.param(torch.zeros(2), r"holds a Tensor\.", id="a tensor"),
        pytest.param({"model": {}}, r"holds no tensors\. Give a model's checkpoint", id="no tensors"),
        pytest.param({"iteration": 3}, r"holds no tensors", id="no model"),
        pytest.param({0: torch.zeros(1)}, r"holds no tensors", id="tensors without names"),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: object, message: str) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(CheckpointError, match=rf"model\.pth: {message}"):
        state_dict_of(read_checkpoint(path), path)


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"does not exist\. Check the path\."):
        read_checkpoint(tmp_path / name)


def test_text_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model\.pth: is "):
        read_checkpoint(path)


def test_an_empty_report_is_complete() -> None:
    assert LoadReport((), (), ()).complete
