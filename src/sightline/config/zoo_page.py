"""The model zoo as it is shown: a table, the sheet of one model, both as plain data, and docs/zoo.md."""

import sys
from typing import Any

from sightline.config.schema import Config
from sightline.config.support import require_supported
from sightline.config.yaml_dialect import dump, load_values
from sightline.config.zoo import ZOO
from sightline.config.zoo_models import LICENSE, MEASURED, MODELS, ZooModel
from sightline.errors import ConfigError

HEADER = ("name", "box AP", "mask AP", "s/picture", "train GB", "weights")


def configuration(model: ZooModel) -> Config:
    return load_values(ZOO[model.name], model.name)


def full_yaml(model: ZooModel) -> str:
    """Every key of the model's configuration, as Detectron2 loads it."""
    return dump(configuration(model))


def refused(model: ZooModel) -> list[str]:
    """What of the configuration is not supported here; empty where all is."""
    try:
        require_supported(configuration(model), model.name)
    except ConfigError as error:
        return [problem.what for problem in error.problems]
    return []


def remark(model: ZooModel) -> str:
    """What to know before choosing the model; most have nothing to tell."""
    return model.note or "; ".join(refused(model))


def number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def cells(model: ZooModel) -> tuple[str, ...]:
    """The model's row under HEADER. Models that only propose have an average recall instead of an AP."""
    recall = "" if model.proposal_ar is None else f"AR {model.proposal_ar}"
    return (
        model.name,
        number(model.box_ap),
        number(model.mask_ap) or recall,
        number(model.infer_s_per_im, digits=3),
        number(model.train_mem_gb),
        "yes" if model.checkpoint else "no",
    )


def table() -> str:
    """All models, for a terminal; numbers on the right of their columns, remarks after them."""
    rows = [(HEADER, ""), *((cells(model), remark(model)) for model in MODELS.values())]
    widths = [max(len(row[column]) for row, _ in rows) for column in range(len(HEADER))]
    lines = []
    for (name, *numbers), note in rows:
        aligned = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))]
        lines.append("  ".join([*aligned, note]).rstrip())
    return "\n".join([*lines, "", f"measured: {MEASURED}", f"weights: {LICENSE}"])


def commands(model: ZooModel) -> list[str]:
    """How to train from the model's weights, if there are any, and from ImageNet's; empty if it cannot be trained here."""
    if refused(model):
        return []
    plain = f"sightline train --data DIR --config {model.name.removesuffix('.yaml')} -o RUN"
    return [plain] if model.checkpoint is None else [f"{plain} --weights {model.checkpoint}", plain]


def as_dict(model: ZooModel) -> dict[str, Any]:
    """The record, its addresses and its command lines, for machines."""
    return {
        "name": model.name,
        "schedule": model.schedule,
        "box_ap": model.box_ap,
        "mask_ap": model.mask_ap,
        "proposal_ar": model.proposal_ar,
        "train_s_per_iter": model.train_s_per_iter,
        "infer_s_per_im": model.infer_s_per_im,
        "train_mem_gb": model.train_mem_gb,
        "weights": model.checkpoint,
        "url": model.url,
        "md5_prefix": model.md5_prefix,
        "starts_from": configuration(model).model.weights,
        "supported": not refused(model),
        "note": remark(model),
        "commands": commands(model),
    }


def all_as_dict() -> dict[str, Any]:
    """The whole zoo for machines."""
    return {"models": [as_dict(model) for model in MODELS.values()], "measured": MEASURED, "weights_license": LICENSE}


def sheet(model: ZooModel) -> str:
    """One model for a terminal: what is known of it, its addresses, and how to train from it."""
    config = configuration(model)
    solver = config.solver
    facts = {
        "box AP": number(model.box_ap),
        "mask AP": number(model.mask_ap),
        "proposal AR": number(model.proposal_ar),
        "s/picture": number(model.infer_s_per_im, digits=3),
        "s/step in training": number(model.train_s_per_iter, digits=3),
        "train GB": number(model.train_mem_gb),
        "schedule": f"{model.schedule}: {solver.max_iter:,} steps of {solver.ims_per_batch} pictures, rate {solver.base_lr}",
        "weights": model.checkpoint or "none published",
        "": model.url or "",
        "starts from": config.model.weights,
        "note": remark(model),
    }
    width = max(map(len, facts))
    lines = [model.name, *(f"  {name.ljust(width)}  {fact}" for name, fact in facts.items() if fact)]
    if found := commands(model):
        lines += ["", "Train from it, for all its steps:", *(f"  {line}" for line in found), "", one_gpu(config)]
    return "\n".join([*lines, "", f"measured: {MEASURED}", f"weights: {LICENSE}"])


def one_gpu(config: Config) -> str:
    """The rate belongs to its batch (half the pictures, half the rate), and COCO's steps are many for a small set."""
    rate = config.solver.base_lr * 2 / config.solver.ims_per_batch
    keys = f"SOLVER.IMS_PER_BATCH 2 SOLVER.BASE_LR {rate:g} SOLVER.MAX_ITER 6000 SOLVER.STEPS '(4000, 5400)'"
    return f"On one GPU and a small set, add for instance:\n  {keys}"


def page() -> str:
    """docs/zoo.md."""
    return "\n".join(
        [
            "# The model zoo",
            "",
            "Written by `python -m sightline.config.zoo_page > docs/zoo.md` from the code's own tables.",
            "",
            "`--config NAME` takes each of these names, with or without `.yaml`. `sightline zoo` prints the list with what is",
            "supported, `sightline zoo NAME` one model with the command lines that train from it, and `sightline zoo NAME",
            "--config` its whole configuration. In Python: `sightline.config.zoo_models.checkpoint_address(NAME)`.",
            "",
            f"Measured: {MEASURED}.",
            "",
            f"The weights are Detectron2's own, licensed **{LICENSE}** by its authors: name the source, and share alike what",
            "you make of them. They are downloaded once, when `--weights` names them, and checked against the six digits of",
            "their md5 that stand below and in their names.",
            "",
            f"| {' | '.join(HEADER)} |",
            "|---|--:|--:|--:|--:|---|",
            *(markdown_row(model) for model in MODELS.values()),
            "",
            "`AR` is the average recall of 1,000 proposals, of models that only propose. 1x is 90,000 steps of 16 pictures, 3x",
            "270,000. Detectron2's `.py` configurations (LazyConfig) are not read; where a YAML file has the same name, it is",
            "the same model with the same weights.",
            "",
        ]
    )


def markdown_row(model: ZooModel) -> str:
    name, *numbers, _ = cells(model)
    weights = f"[{model.md5_prefix}]({model.url})" if model.checkpoint else "none"
    note = f"; {model.note}" if model.note and model.checkpoint else ""
    return f"| {' | '.join([f'`{name}`', *numbers, weights + note])} |"


if __name__ == "__main__":
    sys.stdout.write(page())
