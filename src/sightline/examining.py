"""A model measured on a part of a dataset folder: what it finds, its scores, and where they are kept. No torch of its own."""

from dataclasses import replace
from pathlib import Path

from sightline.coco import to_json
from sightline.dataset.folder import DatasetPart
from sightline.evaluation.analysis import Evaluation
from sightline.evaluation.analysis import examine as examine_results
from sightline.evaluation.analysis import write as write_evaluation
from sightline.evaluation.asked import USUAL, Measuring
from sightline.evaluation.coco import Scores
from sightline.evaluation.listing import LISTED
from sightline.evaluation.predicting import detect_all, notes_of
from sightline.evaluation.proposals import evaluate_proposals
from sightline.evaluation.results import check_results, check_truth, results_from
from sightline.records import Model
from sightline.storage import write_json

INFERENCE = "inference"
REPORT = "report"
RESULTS = "coco_instances_results.json"
"""What evaluation leaves in a run's folder: `inference` by Detectron2's name, and in `report` the page."""


def evaluate(model: Model, part: DatasetPart, output: Path | None = None) -> dict[str, Scores]:
    """The scores of `model` on a part of a dataset folder: {"bbox": ...}, with masks {"bbox": ..., "segm": ...}.

    Of a model that proposes regions without classes, {"box_proposals": ...}.

    output: the folder that gets what `examine` writes
    """
    return dict(examine(model, part, output).scores)


def examine(
    model: Model,
    part: DatasetPart,
    output: Path | None = None,
    measuring: Measuring = USUAL,
    listed: int = LISTED,
) -> Evaluation:
    """`evaluate` with all that can be told: per class, thresholds, kinds of error, intervals; scores alone of proposals.

    output: the folder that gets scores.json and, unless the model only proposes, analysis.json and coco_instances_results.json
    listed: how many false detections and misses analysis.json tells one by one
    """
    found = detect_all(model, part.dataset, part.pictures)
    if model.proposes:
        evaluation = Evaluation(model.origin, evaluate_proposals(part.dataset, found), {})
    else:
        truth = check_truth(to_json(part.dataset), "ground truth")
        results = results_from(found, [category.id for category in part.dataset.categories])
        checked = replace(check_results(results, truth, model.origin), notes=notes_of(model, part.dataset))
        evaluation = examine_results(truth, checked, measuring)
        if output is not None:
            write_json(output / RESULTS, results)
    if output is not None:
        write_evaluation(evaluation, output, listed)
    return evaluation
