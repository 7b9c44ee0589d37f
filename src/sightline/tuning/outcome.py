"""What a search has found: its trials as rows, for a table, a CSV file and JSON."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.storage import write_text
from sightline.tuning.options import Recipe, as_words, text_of

TRIALS, BEST = "trials.csv", "best.yaml"

MOST_SHOWN = 20
"""Rows of the table; trials.csv has them all."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a study.

    state:  "finished", "pruned" (it was hopeless), "failed" (it diverged, or memory ran out), or "running"
    value:  the best that the metric was in its evaluations; None without any
    values: {key or option: value}
    seconds: of its last process, without what was done before a resume
    reason: why it was pruned or failed
    """

    number: int
    state: str
    value: float | None
    values: Mapping[str, object]
    folder: Path
    seconds: float = 0.0
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.number:04d}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "trial": self.number, "state": self.state, "value": self.value, "values": dict(self.values),
            "folder": str(self.folder), "seconds": round(self.seconds, 1), "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `tune` leaves in `folder`. recipe: of the best trial, whose configuration is best.yaml."""

    folder: Path
    metric: str
    best: Trial
    trials: tuple[Trial, ...]
    recipe: Recipe

    @property
    def config(self) -> Path:
        return self.folder / BEST

    def words(self) -> list[str]:
        """The words for `sightline train` that train like the best trial: ["--config", "STUDY/best.yaml", ...]."""
        return ["--config", str(self.config), *as_words(self.recipe.settings)]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "study": str(self.folder),
            "metric": self.metric,
            "best": self.best.as_dict(),
            "config": str(self.config),
            "train": self.words(),
            "trials": [trial.as_dict() for trial in self.trials],
        }


def lower_is_better(metric: str) -> bool:
    return metric.startswith("val_loss")


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Finished trials first, the best at the top, then the pruned ones; failed ones last."""
    order = {"finished": 0, "pruned": 1}
    sign = 1 if lower_is_better(metric) else -1

    def place(trial: Trial) -> tuple[int, float, int]:
        return (order.get(trial.state, 2), float("inf") if trial.value is None else sign * trial.value, trial.number)

    return sorted(trials, key=place)


def table(tuned: Tuned) -> str:
    """The best trials for people, one a line below the names of what was varied."""
    names = names_of(tuned.trials)
    rows = [["trial", tuned.metric, "state", *names]]
    best_first = ranked(tuned.trials, tuned.metric)
    for trial in best_first[:MOST_SHOWN]:
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        values = [text_of(trial.values[name]) if name in trial.values else "" for name in names]
        rows.append([trial.name, value, trial.state, *values])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = len(best_first) - MOST_SHOWN
    return "\n".join([*lines, *([f"... and {more} more in {tuned.folder / TRIALS}"] if more > 0 else [])])


def write_trials(folder: Path, trials: Sequence[Trial]) -> None:
    """trials.csv: a row a trial in the order of their numbers, a column for everything that was varied."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = names_of(trials)
    writer.writerow(["trial", "state", "value", *names, "seconds", "folder", "reason"])
    for trial in trials:
        values = [full_text(trial.values[name]) if name in trial.values else "" for name in names]
        value = "" if trial.value is None else repr(trial.value)
        place = trial.folder.relative_to(folder) if trial.folder.is_relative_to(folder) else trial.folder
        writer.writerow([trial.number, trial.state, value, *values, f"{trial.seconds:.1f}", place, trial.reason])
    write_text(folder / TRIALS, text.getvalue())


def full_text(value: object) -> str:
    """As `text_of`, but numbers keep all their digits."""
    return repr(value) if isinstance(value, float) else text_of(value)


def names_of(trials: Sequence[Trial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.values))
