"""What Typer finds wrong with the words of a command, told as every other error is: where, what, how to fix it."""

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any, get_args, get_type_hints

import typer

from sightline.errors import ConfigError, Problem, nearest

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The base of what Typer raises for wrong words; some of its versions have Click inside, others beside."""

NUMBERS: dict[type, tuple[str, str]] = {int: ("a whole number", "whole numbers"), float: ("a number", "numbers")}

Bounds = tuple[float | None, float | None]
"""(least, greatest) that a number may be; None: no such."""


class UnknownOptionError(ConfigError):
    """An option that a command with KEY VALUE pairs has taken for a key. `problem_of` knows what it was meant to be."""

    def __init__(self, word: str) -> None:
        fix = "See --help; KEY VALUE pairs come without dashes."
        super().__init__(word.partition("=")[0], "is no option of this command", fix)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.where,)


def problem_of(error: Exception, root: Any, words: Sequence[str]) -> Problem:
    """What is wrong with `words`, the words behind `sightline`. root: the command of all commands."""
    typed, path, rest = walk(root, words)
    context = getattr(error, "ctx", None)
    read = [typed] if context is None else [typed, context.command]  # `cloud train` reads the options of `train` by itself
    known = options_of(read)
    option = error.where if isinstance(error, UnknownOptionError) else getattr(error, "option_name", None)
    if option is not None and option not in known:
        return unknown_option(option, known, path)
    if option is not None:
        return misused(option, str(error), read, path)
    if isinstance(error, typer.BadParameter) and error.param is not None:
        is_missing = type(error).__name__ == "MissingParameter"
        return missing(error.param, known, path, words) if is_missing else wrong_value(error, error.param, path)
    return wrong_words(error, typed, path, rest)


def wrong_words(error: Exception, typed: Any, path: str, rest: Sequence[str]) -> Problem:
    """A command that there is not, or a word too many."""
    if hasattr(typed, "commands") and rest:
        return Problem(rest[0], f"is no command of `{path}`", nearest(rest[0], list(typed.commands)))
    if many := re.search(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", str(error)):
        return Problem(many[1], f"is more than `{path}` takes", f"See `{path} --help`; put names with spaces into quotes.")
    return Problem(path, str(error).rstrip("."), f"See `{path} --help`.")


def walk(root: Any, words: Sequence[str]) -> tuple[Any, str, list[str]]:
    """(the command that `words` begin with, its name with `sightline`, the words behind it)."""
    command, path, rest = root, ["sightline"], list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    return command, " ".join(path), rest


def options_of(commands: Iterable[Any]) -> list[str]:
    """The long options: `--epochs`, `--no-optimize`."""
    names = [name for one in commands for parameter in one.params for name in (*parameter.opts, *parameter.secondary_opts)]
    return list(dict.fromkeys([*(name for name in names if name.startswith("--")), "--help"]))


def unknown_option(option: str, known: Sequence[str], path: str) -> Problem:
    near = closest(option, known)
    fix = f"Did you mean {near}?" if near else f"See `{path} --help`."
    return Problem(option, "is no option of this command", fix)


def closest(option: str, known: Sequence[str]) -> str:
    """The known option that is written most like `option`, empty if none is; the dashes that all share do not count."""
    near = get_close_matches(option.lstrip("-"), [name.removeprefix("--") for name in known], n=1)
    return f"--{near[0]}" if near else ""


def misused(option: str, text: str, commands: Iterable[Any], path: str) -> Problem:
    """An option without its value, or one with a value that takes none."""
    parameter = next(one for command in commands for one in command.params if option in (*one.opts, *one.secondary_opts))
    if "does not take" in text:
        return Problem(option, "takes no value", f"Give {option} alone.")
    if "requires" in text:
        return Problem(option, "has no value", f"Give {option} {metavar_of(parameter)}.")
    return Problem(option, text.rstrip("."), f"See `{path} --help`.")


def missing(parameter: Any, known: Sequence[str], path: str, words: Sequence[str]) -> Problem:
    """A parameter that is needed and was not given; or was, with a slip in its name."""
    where = name_of(parameter)
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    for option in given:
        if option not in known and where == closest(option, known):
            return unknown_option(option, known, path)
    if parameter.param_type_name == "argument":
        return Problem(where, "is missing", f"Give it; `{path} --help` says what it is.")
    return Problem(where, "is missing", f"Give {where} {metavar_of(parameter)}.")


def wrong_value(error: typer.BadParameter, parameter: Any, path: str) -> Problem:
    """A value that is not of the parameter's type, or not within its bounds."""
    kind, bounds = declared(error.ctx, parameter)
    values = given_values(error)
    wrong = next((value for value in values if not fits(value, kind, bounds)), values[0] if values else None)
    what = error.message.rstrip(".") if wrong is None else f"is {wrong!r}"
    return Problem(where_given(error.ctx, parameter), what, demand(kind, bounds, max(len(values), parameter.nargs), path))


def declared(context: Any, parameter: Any) -> tuple[type | None, Bounds]:
    """(type of one value, (least, greatest)) as the command's function declares the parameter."""
    function = getattr(context, "command", None) and context.command.callback
    hint = get_type_hints(function, include_extras=True).get(parameter.name) if function else None
    bounds: Bounds = (getattr(parameter, "min", None), getattr(parameter, "max", None))
    for info in getattr(hint, "__metadata__", ()):
        bounds = (getattr(info, "min", None), getattr(info, "max", None))
    kinds = [kind for kind in leaves(hint) if kind in NUMBERS or issubclass(kind, Enum)]
    return (kinds[0] if kinds else None), bounds


def leaves(hint: Any) -> list[type]:
    """The types that an annotation is made of, without None."""
    if isinstance(hint, type) and not get_args(hint):
        return [] if hint is type(None) else [hint]
    return [kind for inner in get_args(hint) for kind in leaves(inner)]


def given_values(error: typer.BadParameter) -> list[object]:
    """The value or values that were refused; nothing where Typer does not hand them on."""
    errors = getattr(error.__cause__, "errors", None)
    if errors is None:
        quoted = re.match(r"'(.*?)' ", error.message)
        return [quoted[1]] if quoted else []
    value = errors()[0]["input"]
    return list(value) if isinstance(value, list | tuple) else [value]


def fits(value: Any, kind: type | None, bounds: Bounds) -> bool:
    if kind is not int and kind is not float:
        return False
    try:
        number = float(kind(value))
    except (TypeError, ValueError):
        return False
    least, greatest = bounds
    return (least is None or number >= least) and (greatest is None or number <= greatest)


def demand(kind: type | None, bounds: Bounds, values: int, path: str) -> str:
    """Give a whole number of at least 1."""
    if kind is None:
        return f"See `{path} --help`."
    if issubclass(kind, Enum):
        choices = [str(one.value) for one in kind]
        return f"Give {' or '.join([', '.join(choices[:-1]), choices[-1]] if choices[1:] else choices)}."
    one, several = NUMBERS[kind]
    number = one if values < 2 else several
    least, greatest = bounds
    if least is not None and greatest is not None:
        return f"Give {number} from {least:g} to {greatest:g}."
    if least is not None:
        return f"Give {number} of at least {least:g}."
    return f"Give {number}{'' if greatest is None else f' of at most {greatest:g}'}."


def name_of(parameter: Any) -> str:
    """`--output` of `-o`, `--output`; an argument is called what --help calls it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return str(max(parameter.opts, key=len))


def where_given(context: Any, parameter: Any) -> str:
    """The parameter's name, with the environment variable that its value came from."""
    source = getattr(context.get_parameter_source(parameter.name), "name", "") if context is not None else ""
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else list(parameter.envvar or [])
    found = [name for name in variables if name in os.environ]
    return f"{name_of(parameter)} ({found[0]})" if source == "ENVIRONMENT" and found else name_of(parameter)


def metavar_of(parameter: Any) -> str:
    """What --help calls the value of an option."""
    return str(parameter.metavar or "VALUE").rstrip(". ")
