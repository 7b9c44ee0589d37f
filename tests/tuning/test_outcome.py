"""Trials as rows."""

import csv
from pathlib import Path

from builders import a_config

from sightline.tuning.options import Recipe
from sightline.tuning.outcome import MOST_SHOWN, Trial, Tuned, ranked, table, write_trials

TRIALS = (
    Trial(0, "finished", 0.25, {"SOLVER.BASE_LR": 0.1, "rotate": True}, Path("s/trials/0000"), 12.34),
    Trial(1, "failed", None, {"SOLVER.BASE_LR": 1 / 3, "rotate": True}, Path("s/trials/0001"), 1.0, "losses, no numbers"),
    Trial(2, "pruned", 0.9, {"SOLVER.BASE_LR": 0.5, "rotate": False}, Path("s/trials/0002")),
    Trial(3, "finished", 0.5, {"SOLVER.BASE_LR": 0.05, "rotate": False}, Path("s/trials/0003")),
)


def test_ranks() -> None:
    assert [trial.number for trial in ranked(TRIALS, "bbox/AP")] == [3, 0, 2, 1]
    assert [trial.number for trial in ranked(TRIALS, "val_loss")] == [0, 3, 2, 1]


def test_the_table() -> None:
    text = table(Tuned(Path("s"), "bbox/AP", TRIALS[3], TRIALS, Recipe(a_config())))
    assert text.splitlines() == [
        "trial  bbox/AP     state  SOLVER.BASE_LR  rotate",
        " 0003   0.5000  finished            0.05   false",
        " 0000   0.2500  finished             0.1    true",
        " 0002   0.9000    pruned             0.5   false",
        " 0001        -    failed        0.333333    true",
    ]


def test_a_long_table_names_the_rest() -> None:
    many = tuple(Trial(number, "finished", 0.1, {}, Path("s")) for number in range(MOST_SHOWN + 3))
    text = table(Tuned(Path("s"), "bbox/AP", many[0], many, Recipe(a_config())))
    assert text.endswith("... and 3 more in s/trials.csv")


def test_the_csv_keeps_all_digits(tmp_path: Path) -> None:
    write_trials(tmp_path, TRIALS)
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "failed", "pruned", "finished"]
    assert float(rows[1]["SOLVER.BASE_LR"]) == 1 / 3
    assert rows[1] == {
        "trial": "1", "state": "failed", "value": "", "SOLVER.BASE_LR": repr(1 / 3), "rotate": "true",
        "seconds": "1.0", "folder": "s/trials/0001", "reason": "losses, no numbers",
    }  # fmt: skip
