"""Pictures with more objects of a class than COCO's hundred detections: the limit is an option, as pycocotools has it."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from typer.testing import CliRunner

from sightline.cli.evaluate import evaluate
from sightline.errors import ConfigError
from sightline.evaluation.analysis import examine
from sightline.evaluation.asked import Measuring
from sightline.evaluation.results import check_results, check_truth

COLUMNS, ROWS = 20, 8


def shelf() -> tuple[dict[str, object], list[dict[str, object]]]:
    """160 objects of one class in each of two pictures; 150 of them found, some of them badly, with ties among the scores."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, object]] = []
    results: list[dict[str, object]] = []
    for image in (1, 2):
        for place in range(COLUMNS * ROWS):
            box = [30.0 * (place % COLUMNS), 40.0 * (place // COLUMNS), 28.0, 38.0]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "bbox": box, "area": 28 * 38, "iscrowd": 0}
            )
            if place < 150:
                moved = [box[0] + float(rng.integers(0, 12)), *box[1:]]
                score = float(rng.integers(1, 60)) / 60
                results.append({"image_id": image, "category_id": 1, "bbox": moved, "score": score})
    images = [{"id": image, "width": 600, "height": 320, "file_name": f"{image}.jpg"} for image in (1, 2)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}, results


@pytest.mark.parametrize("most", [100, 140, 300])
def test_as_pycocotools_with_that_limit(most: int, tmp_path: Path) -> None:
    truth, results = shelf()
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    labelled = COCO(str(tmp_path / "truth.json"))
    reference = COCOeval(labelled, labelled.loadRes([dict(result) for result in results]), "bbox")
    reference.params.maxDets = [1, 10, most]
    reference.evaluate()
    reference.accumulate()
    checked = check_truth(truth, "truth")
    evaluation = examine(checked, check_results(results, checked, "results"), Measuring.asked(most=most, resamples=0))
    numbers = evaluation.scores["bbox"].numbers()
    assert numbers["AP"] == reference.eval["precision"][:, :, :, 0, 2].mean()
    assert numbers["AP50"] == reference.eval["precision"][0, :, :, 0, 2].mean()
    assert numbers[f"AR{most}"] == reference.eval["recall"][:, :, 0, 2].mean()
    assert list(numbers)[-1] == f"AR{most}"
    analysis = evaluation.analyses["bbox"]
    assert analysis.counts()[f"beyond_{most}"] == 2 * max(150 - most, 0)
    assert len(analysis.matches) == 2 * min(150, most)


def test_asked_of_the_command(tmp_path: Path) -> None:
    truth, results = shelf()
    for name, content in {"truth": truth, "results": results}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    app = typer.Typer()
    app.command()(evaluate)
    asked = [str(tmp_path / "results.json"), "--data", str(tmp_path / "truth.json"), "--resamples", "0"]
    usual, more = CliRunner().invoke(app, asked).stdout, CliRunner().invoke(app, [*asked, "--max-detections", "300"]).stdout
    assert "note: 100 detections do not count: they are beyond 100 of a class in a picture" in usual
    assert "AR100" in usual
    assert "do not count" not in more
    assert "AR300" in more
    error = CliRunner().invoke(app, [*asked, "--max-detections", "10"]).exception
    assert isinstance(error, ConfigError)
    assert "--max-detections: is 10, and average recall with 10 is told anyway. Give more than 10; 100 is COCO's." in str(error)
