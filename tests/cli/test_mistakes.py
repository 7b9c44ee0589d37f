"""Wrong words on the command line: where, what and how to fix it, in one line, exit code 2."""

import sys

import pytest

from sightline.cli.main import main

ASKED = [
    ("train --epoch 2 --data x", "--epoch: is no option of this command. Did you mean --epochs?"),
    ("train --dat x", "--dat: is no option of this command. Did you mean --data?"),
    ("train --data x --epoch=2", "--epoch: is no option of this command. Did you mean --epochs?"),
    ("run x -o y --configg small", "--configg: is no option of this command. Did you mean --config?"),
    ("evaluate x --zzz", "--zzz: is no option of this command. See `sightline evaluate --help`."),
    ("cloud deploy m --instance-typ t", "--instance-typ: is no option of this command. Did you mean --instance-type?"),
    ("predict m p --no-optimise", "--no-optimise: is no option of this command. Did you mean --no-optimize?"),
    ("evalate", "evalate: is no command of `sightline`. Did you mean 'evaluate'?"),
    ("cloud imag", "imag: is no command of `sightline cloud`. Did you mean 'image'?"),
    ("train", "--data: is missing. Give --data DIR."),
    ("predict", "MODEL: is missing. Give it; `sightline predict --help` says what it is."),
    ("train --data", "--data: has no value. Give --data DIR."),
    ("train --data x --rotate=5", "--rotate: takes no value. Give --rotate alone."),
    ("train --data x --epochs foo", "--epochs: is 'foo'. Give a number."),
    ("train --data x --seed -1", "--seed: is '-1'. Give a whole number of at least 0."),
    ("train --data x --scale-jitter 1 b", "--scale-jitter: is 'b'. Give numbers."),
    ("train --data x --precision bf17", "--precision: is 'bf17'. Give fp32, bf16 or fp16."),
    ("predict m p --draw-threshold 2", "--draw-threshold: is '2'. Give a number from 0 to 1."),
    ("evaluate m --data x --max-detections 1.5", "--max-detections: is '1.5'. Give a whole number."),
    ("cloud template --format yml", "--format: is 'yml'. Give yaml or json."),
    ("bundle pack a b", "b: is more than `sightline bundle pack` takes. See `sightline bundle pack --help`"),
]


def told(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["sightline", *words.split()])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("words", "expected"), ASKED, ids=[words for words, _ in ASKED])
def test_one_line_says_what_was_meant(words: str, expected: str, monkeypatch, capsys) -> None:
    err = told(words, monkeypatch, capsys)
    assert err.startswith(f"error: {expected}")
    assert err.count("\n") == 1


def test_a_value_from_the_environment_is_told_with_its_variable(monkeypatch, capsys) -> None:
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "http")
    err = told("serve m", monkeypatch, capsys)
    assert err == "error: --port (SAGEMAKER_BIND_TO_PORT): is 'http'. Give a whole number from 0 to 65535.\n"


def test_no_words_show_the_help(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["sightline", "cloud"])
    with pytest.raises(SystemExit) as ending:
        main()
    assert ending.value.code == 2
    shown = capsys.readouterr()
    assert "Usage: sightline cloud" in shown.out + shown.err
    assert "error:" not in shown.err
