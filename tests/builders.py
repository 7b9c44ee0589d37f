"""Builders with defaults: every test says only what it is about."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from sightline.config.schema import Config
from sightline.config.sources import load as load_config
from sightline.records import Box, Category, Dataset, Image, ImageRecord, ImageSize, Instance, Rle

if TYPE_CHECKING:
    from sightline.model.detector import Detector
    from sightline.training.run import Run

SIZE = ImageSize(80, 100)
BOX_JOB = "groundtruth/object-detection"


def an_instance(label: int = 0, box: Box = (10.0, 20.0, 40.0, 60.0), **facts: object) -> Instance:
    return Instance(box=box, label=label, **facts)  # type: ignore[arg-type]


def a_record(number: int = 1, labels: Sequence[int] = (0,), **facts: object) -> ImageRecord:
    """A picture of 100 x 80 px with one box for each of `labels`."""
    defaults = {"id": number, "file_name": f"{number:03d}.jpg", "size": SIZE}
    instances = tuple(an_instance(label) for label in labels)
    return ImageRecord(**(defaults | {"instances": instances} | facts))  # type: ignore[arg-type]


def a_dataset(images: Sequence[ImageRecord] | None = None, names: Sequence[str] = ("cat", "dog")) -> Dataset:
    categories = tuple(Category(number, name) for number, name in enumerate(names, 1))
    return Dataset(categories, tuple([a_record()] if images is None else images))


def a_picture(path: Path, size: ImageSize = SIZE, *, orientation: int = 1, format: str = "JPEG") -> Path:
    """A picture file of `size` as stored; its top left quarter is white."""
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    pixels[: size.height // 2, : size.width // 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Pillow.fromarray(pixels)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    picture.save(path, format=format, exif=exif)
    return path


def a_box(class_id: object = 0, left: float = 10, top: float = 20, width: float = 30, height: float = 40) -> dict[str, object]:
    """One box as a Ground Truth manifest holds it."""
    return {"class_id": class_id, "left": left, "top": top, "width": width, "height": height}


def a_line(
    source: str = "s3://bucket/images/1.jpg",
    boxes: Sequence[dict[str, object]] | None = None,
    class_map: dict[str, str] | None = None,
    *,
    attribute: str = "job",
    size: tuple[float, float] = (80, 100),
    kind: str = BOX_JOB,
) -> dict[str, object]:
    """One line of a bounding-box job's output: a cat in a picture of 100 x 80 px."""
    boxes = [a_box()] if boxes is None else boxes
    class_map = ({"0": "cat"} if boxes else {}) if class_map is None else class_map
    return {
        "source-ref": source,
        attribute: {"image_size": [{"width": size[1], "height": size[0], "depth": 3}], "annotations": list(boxes)},
        f"{attribute}-metadata": {
            "objects": [{"confidence": 0.09} for _ in boxes],
            "class-map": class_map,
            "type": kind,
            "human-annotated": "yes",
            "creation-date": "2024-05-16T00:15:58.914553",
            "job-name": "labeling-job/job",
        },
    }


def a_manifest(path: Path, lines: Sequence[dict[str, object] | str]) -> Path:
    """A manifest file; lines given as text are written as they are."""
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def a_coco(**changes: object) -> dict[str, object]:
    """COCO instances: a cat in one picture of 100 x 80 px, nothing in another."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
            {"id": 9, "file_name": "b.jpg", "width": 100, "height": 80},
        ],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
    } | changes


TINY = """
    MODEL.RESNETS.STEM_OUT_CHANNELS 8  MODEL.RESNETS.RES2_OUT_CHANNELS 8  MODEL.FPN.OUT_CHANNELS 16
    MODEL.ROI_BOX_HEAD.FC_DIM 16  MODEL.ANCHOR_GENERATOR.SIZES ((12,),(24,),(48,))  MODEL.ROI_HEADS.NUM_CLASSES 2
    MODEL.RPN.BATCH_SIZE_PER_IMAGE 32  MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE 16  MODEL.DEVICE cpu
    INPUT.MIN_SIZE_TRAIN (48,64)  INPUT.MAX_SIZE_TRAIN 96  INPUT.MIN_SIZE_TEST 64  INPUT.MAX_SIZE_TEST 96
    SOLVER.IMS_PER_BATCH 2  SOLVER.MAX_ITER 4  SOLVER.WARMUP_ITERS 2  SOLVER.BASE_LR 0.01  SOLVER.CHECKPOINT_PERIOD 2
"""
"""A detector of 0.2 million numbers for two classes and 64 px pictures; a training step takes some 30 ms."""


def overrides(text: str) -> tuple[str, ...]:
    """KEY, VALUE, ... for `a_config` and `a_detector`, on top of the tiny detector."""
    return tuple(text.split())


BOTTLENECKS = overrides("MODEL.RESNETS.DEPTH 50  MODEL.RESNETS.RES2_OUT_CHANNELS 16  MODEL.RESNETS.WIDTH_PER_GROUP 4")
"""ResNet-50's shape, narrow."""

MASKS = overrides(
    """
    MODEL.MASK_ON True  MODEL.ROI_MASK_HEAD.NUM_CONV 1  MODEL.ROI_MASK_HEAD.CONV_DIM 8
    MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION 5
    """
)
CASCADE = overrides("MODEL.ROI_HEADS.NAME CascadeROIHeads  MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True")
PROPOSALS_ONLY = overrides("MODEL.META_ARCHITECTURE ProposalNetwork")
COUNTING = PROPOSALS_ONLY + overrides(
    """
    MODEL.RPN.BATCH_SIZE_PER_IMAGE 100000  MODEL.RPN.LOSS_WEIGHT 300.0  MODEL.RPN.POSITIVE_FRACTION 1.0
    INPUT.MIN_SIZE_TRAIN (48,)  SOLVER.IMS_PER_BATCH 4  TEST.EVAL_PERIOD 2  INPUT.RANDOM_FLIP horizontal
    MODEL.RESNETS.NORM FrozenBN  MODEL.FPN.NORM ""  SOLVER.BASE_LR 0.1
    """
)
"""A detector whose losses are means over pictures: every anchor is in the sample, all pictures of a batch have
one size, and no norm sees the batch."""
C4 = BOTTLENECKS + overrides(
    """
    MODEL.BACKBONE.NAME build_resnet_backbone  MODEL.RESNETS.OUT_FEATURES ('res4',)  MODEL.RPN.IN_FEATURES ('res4',)
    MODEL.ROI_HEADS.NAME Res5ROIHeads  MODEL.ROI_HEADS.IN_FEATURES ('res4',)  MODEL.ROI_BOX_HEAD.NAME ''
    MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION 4  MODEL.ANCHOR_GENERATOR.SIZES ((12,24,48),)
    """
)
DC5 = BOTTLENECKS + overrides(
    """
    MODEL.BACKBONE.NAME build_resnet_backbone  MODEL.RESNETS.OUT_FEATURES ('res5',)  MODEL.RESNETS.RES5_DILATION 2
    MODEL.RPN.IN_FEATURES ('res5',)  MODEL.ROI_HEADS.IN_FEATURES ('res5',)  MODEL.ANCHOR_GENERATOR.SIZES ((12,24,48),)
    """
)
RETINANET = overrides(
    """
    MODEL.META_ARCHITECTURE RetinaNet  MODEL.BACKBONE.NAME build_retinanet_resnet_fpn_backbone
    MODEL.RETINANET.NUM_CLASSES 2  MODEL.RETINANET.NUM_CONVS 1
    MODEL.ANCHOR_GENERATOR.SIZES ((12,16),(24,32),(48,64),(96,128),(192,256))
    """
)


def a_config(*overrides: str) -> Config:
    """The preset `small`, made tiny; `overrides` as KEY, VALUE, ..."""
    return load_config("small", [*TINY.split(), *overrides])


def a_detector(*overrides: str, seed: int = 0) -> "Detector":
    """A tiny detector in evaluation mode with random weights that depend on `seed` alone."""
    import torch

    from sightline.model.build import build_detector

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_detector(a_config(*overrides)).eval()


def a_painting(size: ImageSize, boxes: Sequence[Box], seed: int = 0) -> Image:
    """Grey noise with a bright rectangle in every box."""
    pixels = np.random.default_rng(seed).integers(0, 90, (*size, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[int(y1) : int(y2), int(x1) : int(x2)] = 220
    return pixels


def a_mask(box: Box = (10.0, 20.0, 40.0, 60.0), size: ImageSize = SIZE) -> Rle:
    """The mask of the whole pixels in `box`, in a picture of `size`."""
    from sightline.geometry.masks import encode

    x1, y1, x2, y2 = (max(0, round(edge)) for edge in box)
    bitmap = np.zeros(size, dtype=bool)
    bitmap[y1:y2, x1:x2] = True
    return encode(bitmap)


def a_data_folder(
    folder: Path, count: int = 6, *, empty: int = 0, names: Sequence[str] = ("cat", "dog"), masks: bool = False
) -> Dataset:
    """`count` small pictures in `folder`, wide and tall in turn, one painted box each; the first `empty` have none.

    masks: each object's outline is labelled, too
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(1, count + 1):
        size = ImageSize(48, 64) if number % 2 else ImageSize(64, 48)
        box = (8.0 + number, 10.0, 30.0 + number, 34.0)
        x1, y1, x2, y2 = box
        outline = ((x1, y1, x2, y1, x2, y2, x1, y2),) if masks else None
        instances = () if number <= empty else (an_instance(number % len(names), box, segmentation=outline),)
        pixels = a_painting(size, [instance.box for instance in instances], seed=number)
        Pillow.fromarray(pixels).save(folder / f"{number:03d}.png")
        records.append(ImageRecord(number, f"{number:03d}.png", size, instances))
    return a_dataset(records, names)


def a_run(folder: Path, *overrides: str, count: int = 6, **options: Any) -> "Run":
    """A training of a few steps on a small data folder beside it."""
    from sightline.training.run import run_training

    dataset = a_data_folder(folder.parent / f"{folder.name}-images", count)
    defaults = {"images": folder.parent / f"{folder.name}-images", "output": folder, "workers": 0}
    return run_training(a_config(*overrides), dataset=dataset, **(defaults | options))


def a_learner(model: Any, optimizer: Any, **options: Any) -> Any:
    """Any module and its optimizer as what the loop trains: constant rate, float32, one process."""
    import torch

    from sightline.training.learner import Learner
    from sightline.training.optimizer import leave
    from sightline.training.precision import Precision
    from sightline.training.processes import Processes

    defaults = {
        "factor": lambda step: 1.0,
        "clip": leave,
        "precision": Precision(enabled=False, kind="auto", device=torch.device("cpu")),
        "processes": Processes(),
    }
    return Learner(model, optimizer, **(defaults | options))


def a_dataset_folder(folder: Path, **parts: int) -> Path:
    """A dataset folder with parts of so many pictures: `a_dataset_folder(path, train=6, val=3)`."""
    from dataclasses import replace

    from sightline.coco import to_json

    whole = a_data_folder(folder / "images", sum(parts.values()))
    (folder / "annotations").mkdir()
    start = 0
    for name, count in {"all": sum(parts.values()), **parts}.items():
        images = whole.images if name == "all" else whole.images[start : start + count]
        start += 0 if name == "all" else count
        text = json.dumps(to_json(replace(whole, images=images)))
        (folder / "annotations" / f"{name}.json").write_text(text, encoding="utf-8")
    return folder


def a_measure(*values: float) -> Any:
    """What stands in for `Validation`: gives {"bbox/AP": value}, one value an evaluation, the last one again and again."""
    left = list(values)
    return lambda: {"bbox/AP": left.pop(0) if len(left) > 1 else left[0]}


PATIENCE_S = 280
"""After which hanging processes of a test are ended, before pytest ends the test; it decides no test that does not fail."""

IMPORTED_ONCE = ("sightline.training.run", "torch._dynamo", "torch.testing", "matplotlib.backends.backend_agg", "pytest")
"""What every training process imports, most of it late: torch's first optimizer brings torch._dynamo, the curves matplotlib."""


def in_processes(count: int, function: Any, *arguments: Any) -> list[Any]:
    """What `function(*arguments)` gives in each of `count` processes that find each other as torchrun's do.

    An error is given, not raised, and so is the exit code of a process that ended without a word (-9: killed).
    `function` is one of a test module's own; IMPORTED_ONCE is imported once for all that this is called with.
    """
    import inspect
    import multiprocessing
    import socket

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED_ONCE])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        receiver, sender = context.Pipe(duplex=False)
        told = (inspect.getfile(function), function.__name__, arguments)
        process = context.Process(target=one_of_several, args=(rank, count, port, sender, *told))
        process.start()
        sender.close()
        started.append((process, receiver))
    results = []
    for process, receiver in started:
        try:
            results.append(receiver.recv() if receiver.poll(PATIENCE_S) else TimeoutError("hangs"))
        except EOFError:
            process.join(PATIENCE_S)
            results.append(process.exitcode)
    for process, _ in started:
        process.join(10)
        process.kill()
    return results


def one_of_several(rank: int, count: int, port: int, sender: Any, file: str, name: str, arguments: tuple[Any, ...]) -> None:
    """In a process of its own: announce it as torchrun does, call the function, and send what it gives."""
    import importlib.util
    import os

    if count > 1:
        facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ |= {key: str(value) for key, value in facts.items()}
    spec = importlib.util.spec_from_file_location("test_of_several", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        result = getattr(module, name)(*arguments)
    except Exception as error:
        result = error
    sender.send(result)
    sender.close()


Placed = tuple[int, int, tuple[float, float, float, float]]
"""(image, class from 0, (left, top, width, height))"""


def a_scene(
    objects: Sequence[Placed], found: Sequence[tuple[*Placed, float]], *, images: int = 1, crowd: int = -1, **changed: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO's (ground truth, results): cats, dogs and bees in pictures of 200 x 100 px; the object at place `crowd` is one."""
    truth = {
        "images": [{"id": 10 + n, "width": 200, "height": 100, "file_name": f"{n}.jpg"} for n in range(images)],
        "categories": [{"id": 3 + n, "name": name} for n, name in enumerate(("cat", "dog", "bee"))],
        "annotations": [
            {"id": 1 + n, "image_id": 10 + image, "category_id": 3 + label, "bbox": list(box), "iscrowd": int(n == crowd)}
            for n, (image, label, box) in enumerate(objects)
        ],
    }
    results = [
        {"image_id": 10 + image, "category_id": 3 + label, "bbox": list(box), "score": score}
        for image, label, box, score in found
    ]
    return truth | changed, results


def a_random_scene(
    seed: int, *, images: int = 6, skill: float = 0.15, crowds: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects of every class, and detections near them or anywhere, some of the wrong class. skill: 0 finds all perfectly."""
    rng = np.random.default_rng(seed)
    objects: list[Placed] = []
    found: list[tuple[*Placed, float]] = []
    for number in range(images * 5):
        box = (*rng.uniform(0, 60, 2).tolist(), *rng.uniform(10, 40, 2).tolist())
        objects.append((int(rng.integers(images)), number % 3, box))
        for _ in range(rng.integers(0, 4)):
            moved = tuple(np.abs(np.array(box) * rng.normal(1, skill, 4)).tolist())
            label = number % 3 if rng.random() > skill else int(rng.integers(3))
            found.append((objects[-1][0], label, moved, float(rng.random())))
        if rng.random() < skill:
            found.append(
                (int(rng.integers(images)), int(rng.integers(3)), (*rng.uniform(0, 60, 2), 9.0, 9.0), float(rng.random()))
            )
    truth, results = a_scene(objects, found, images=images)
    if crowds:
        for annotation in truth["annotations"]:
            annotation["iscrowd"] = int(rng.random() < 0.2)
    return truth, results


def matches_of(truth: dict[str, Any], results: list[dict[str, Any]], kind: str = "bbox", overlap: float = 0.5) -> Any:
    """The one matching pass over COCO's JSON."""
    from sightline.evaluation.matching import match
    from sightline.evaluation.results import check_results, check_truth

    checked = check_truth(truth, "truth")
    return match(checked, check_results(results, checked, "results"), kind, overlap)
