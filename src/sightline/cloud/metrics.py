"""What our training prints, read by the platform and by us: a regular expression for every figure of the console line.

` eta: 0:01:10  iter: 99  total_loss: 1.21  loss_cls: 0.41  ...  lr: 0.002  max_mem: 812M`
`evaluation after step 99: bbox/AP: 0.31  bbox/AP50: 0.6  best/bbox/AP: 0.34`
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

NUMBER = r"(-?[0-9.]+(?:e[-+]?[0-9]+)?)"
"""A number as %g writes it; nan is none, and the platform could not draw it."""

LOSSES = (
    "total_loss", "loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "loss_mask",
    "loss_cls_stage0", "loss_cls_stage1", "loss_cls_stage2",
    "loss_box_reg_stage0", "loss_box_reg_stage1", "loss_box_reg_stage2",
)  # fmt: skip
"""Of all detectors that there are; what a training does not print is not drawn."""

FIGURES = {"lr": "lr", "time": "seconds-per-step", "img/s": "images-per-second"}
SCORES = ("bbox/AP", "bbox/AP50", "segm/AP", "val_loss")
BEST = "best/"
"""Before the score that a training chooses its weights by: the best so far, which is that of the weights that are kept."""
FINISHED = tuple(f"model/{score}" for score in ("bbox/AP", "bbox/AP50", "segm/AP"))
"""Of the finished model on its test part, printed by the container's entry point after its evaluation: what a gate looks at."""


def figure(key: str) -> str:
    """The expression of `key: NUMBER` between blanks. The platform's engine takes the first group."""
    return rf"(?:^|\s){re.escape(key)}: {NUMBER}(?:\s|$)"


METRICS: Mapping[str, str] = {
    **{loss: figure(loss) for loss in LOSSES},
    **{name: figure(key) for key, name in FIGURES.items()},
    **{score.replace("/", "-"): figure(score) for score in (*SCORES, *(f"{BEST}{score}" for score in SCORES), *FINISHED)},
}
"""Metric -> expression, as the platform draws them. Names there hold no slash, so `bbox/AP` is `bbox-AP`."""

OBJECTIVES = {score: f"{BEST}{score}".replace("/", "-") for score in SCORES}
"""What a search can look for: our name -> the metric's. The platform takes the last value that a training prints."""

STEP = re.compile(r"(?:^|\s)eta: (?P<eta>\S+(?: days)?)\s+iter: (?P<step>\d+)\s+total_loss: (?P<loss>\S+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One progress line. eta: as printed; step: done, from 1; scores: none in a line of losses."""

    step: int
    eta: str
    loss: str

    def __str__(self) -> str:
        return f"step {self.step:,}, loss {self.loss}, {self.eta} to go"


def step_of(line: str) -> Step | None:
    """The progress that a line tells; None of any other line."""
    found = STEP.search(line)
    return Step(int(found["step"]) + 1, found["eta"], found["loss"]) if found else None


def values_of(line: str) -> dict[str, float]:
    """{metric: value} that the platform would read in a line."""
    found = {name: re.search(pattern, line) for name, pattern in METRICS.items()}
    return {name: float(match[1]) for name, match in found.items() if match}
