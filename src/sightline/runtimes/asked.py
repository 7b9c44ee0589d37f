"""What a user asks for of the runtime and its arithmetic, checked before anything is read or started. No torch is needed."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_args

from sightline.errors import ConfigError, Problem, nearest
from sightline.records import ImageSize
from sightline.runtimes.choice import Asked

PRECISIONS = ("fp32", "fp16", "bf16")

USUAL_SHAPES = ("640x480", "480x640")
"""What is compiled for where nobody says: single pictures of 4:3, lying and standing, whatever their size in pixels."""

MOST_SHAPES = 8
"""Each takes a minute or more of compiling, and some 10 MB of memory and disk."""

SHAPE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})(?:x([1-9]\d{0,2}))?")


@dataclass(frozen=True, slots=True)
class Execution:
    """What runs a model, and how.

    runtime:     "auto", "torch", "onnx" or "openvino"
    optimize:    in torch, rebuild the detector for speed, where that gives the same answers; nothing to the others
    precision:   "fp32", "fp16" or "bf16" of the rebuilt detector; other than "fp32" it is torch that runs it
    compile:     the rebuilt detector also as compiled programs; it is torch that runs it
    compile_for: for pictures of these sizes, "1920x1080", or "1920x1080x8" for eight together; empty: USUAL_SHAPES
    """

    runtime: str = "auto"
    optimize: bool = True
    precision: str = "fp32"
    compile: bool = False
    compile_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ConfigError with everything that is wrong."""
        object.__setattr__(self, "compile_for", tuple(self.compile_for))  # a list, where it comes from JSON
        problems = [*self.wrong_runtime(), *self.wrong_precision(), *self.wrong_compile()]
        if problems:
            raise ConfigError.collected(problems)

    def wrong_runtime(self) -> Iterator[Problem]:
        if self.runtime not in get_args(Asked):
            yield Problem("runtime", f"is {self.runtime!r}", nearest(self.runtime, get_args(Asked)))

    def wrong_precision(self) -> Iterator[Problem]:
        if self.precision not in PRECISIONS:
            yield Problem("precision", f"is {self.precision!r}", f"Use one of {', '.join(PRECISIONS)}.")
        elif self.precision != "fp32" and self.runtime in ("onnx", "openvino"):
            fix = "Use --runtime torch: the precision of a graph is chosen at its export."
            yield Problem("precision", f"is for torch, not for {self.runtime}", fix)
        elif self.precision != "fp32" and not self.optimize:
            fix = "Leave one of them out: what is not optimised computes in fp32."
            yield Problem("precision", f"is {self.precision} beside --no-optimize (optimize=False)", fix)

    def wrong_compile(self) -> Iterator[Problem]:
        if self.compile and self.runtime in ("onnx", "openvino"):
            yield Problem("compile", f"is for torch, not for {self.runtime}", "Use --runtime torch, or leave it out.")
        elif self.compile and not self.optimize:
            what = "is for the optimised model, beside --no-optimize (optimize=False)"
            yield Problem("compile", what, "Leave one of them out.")
        if self.compile_for and not self.compile:
            yield Problem("compile_for", "is given without compile", "Give --compile (compile=True), too, or leave it out.")
        for shape in self.compile_for:
            if SHAPE.fullmatch(shape) is None:
                fix = "Give WIDTHxHEIGHT of your pictures in pixels, as 1920x1080, or 1920x1080x8 for eight together."
                yield Problem("compile_for", f"has {shape!r}", fix)
        if len(self.compile_for) > MOST_SHAPES:
            yield Problem("compile_for", f"has {len(self.compile_for)} shapes", f"Give {MOST_SHAPES} at most.")

    @property
    def asked(self) -> Asked:
        """The runtime; "auto" only where there is a choice."""
        only_torch = self.precision != "fp32" or self.compile
        asked: Asked = "torch" if only_torch else self.runtime  # type: ignore[assignment]
        return asked

    @property
    def shapes(self) -> list[tuple[int, ImageSize]]:
        """(pictures together, their size before they are resized) of what is to be compiled."""
        found = [SHAPE.fullmatch(shape) for shape in self.compile_for or USUAL_SHAPES]
        return [(int(match[3] or 1), ImageSize(int(match[2]), int(match[1]))) for match in found if match is not None]

    def options(self) -> dict[str, Any]:
        """As keyword arguments of `load_model`, of JSON's types."""
        return asdict(self)
