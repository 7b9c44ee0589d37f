"""Every error that a user's input can cause, each with where, what and how to fix it.

SightlineError                 exit code 2: asked wrongly, or given something broken
├── LabelError                 an annotation file, one of its lines or fields
├── ImageError                 a picture that is missing, damaged, too large, or no picture
├── DatasetError               a dataset folder or a split
├── ConfigError                a configuration key, its type or value, or an unsupported combination
├── CheckpointError            weights that do not fit the model, or are no weights
├── BundleError                a bundle, run folder or model argument that cannot be loaded
├── RequestError               an HTTP request (carries its status) or a remote answer
├── ShapeError                 arrays whose shapes contradict each other
├── MissingDependencyError     an optional library that is not installed
└── RunError                   exit code 1: the work itself failed (training diverged, a port is taken)
    └── Interrupted            exit code 143: SIGTERM came, and the work is saved so that it can go on

Readers collect every problem of a file and raise once: `raise LabelError.collected(problems)`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import ClassVar, Literal, Self

MAX_LISTED = 50
"""Problems printed of one error; all of them stay in `.problems`. 100,000 bad lines must not fill a terminal."""

OnProblem = Literal["error", "skip"]
"""What a reader does with a broken item: fail with everything that is wrong, or leave the item out, counted and listed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    where: file, line, field or parameter
    what:  the fact, with the value
    fix:   an imperative sentence
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class SightlineError(Exception):
    """One or many problems in what a user gave. The base of all errors that are shown without a stack trace."""

    exit_code: ClassVar[int] = 2

    def __init__(self, where: object, what: str, fix: str) -> None:
        self.problems: tuple[Problem, ...] = (Problem(str(where), what, fix),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def collected(cls, problems: Sequence[Problem]) -> Self:
        """One error that holds all `problems` (at least one), shown together."""
        first = problems[0]
        error = cls(first.where, first.what, first.fix)
        error.problems = tuple(problems)
        shown = [str(problem) for problem in problems[:MAX_LISTED]]
        if len(problems) > MAX_LISTED:
            shown.append(f"... and {len(problems) - MAX_LISTED} more problems.")
        error.args = ("\n".join(shown),)
        return error

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes (from the workers that read pictures) with all their problems."""
        return type(self).collected, (self.problems,), self.__dict__

    @property
    def where(self) -> str:
        return self.problems[0].where

    @property
    def what(self) -> str:
        return self.problems[0].what

    @property
    def fix(self) -> str:
        return self.problems[0].fix


class LabelError(SightlineError): ...


class ImageError(SightlineError): ...


class DatasetError(SightlineError): ...


class ConfigError(SightlineError): ...


class CheckpointError(SightlineError): ...


class BundleError(SightlineError): ...


class ShapeError(SightlineError): ...


class MissingDependencyError(SightlineError): ...


class RequestError(SightlineError):
    """An HTTP request that cannot be answered, with the status it gets."""

    def __init__(self, where: object, what: str, fix: str, status: int = 400) -> None:
        super().__init__(where, what, fix)
        self.status = status


class RunError(SightlineError):
    """The request was right, the work failed."""

    exit_code: ClassVar[int] = 1


class Interrupted(RunError):  # noqa: N818  # no failure of anything
    """SIGTERM came in the middle of work that is saved and can go on. The exit code is that of a process that it ended."""

    exit_code: ClassVar[int] = 143


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that suggests what `name` was meant to be, or lists what there is."""
    near = get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
