"""What a user asks for of the runtime and its arithmetic, checked before anything is read or started. No torch is needed."""

from dataclasses import asdict, dataclass
from typing import Any, get_args

from sightline.errors import ConfigError, Problem, nearest
from sightline.runtimes.choice import Asked

PRECISIONS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True, slots=True)
class Execution:
    """What runs a model, and how.

    runtime:   "auto", "torch", "onnx" or "openvino"
    optimize:  in torch, rebuild the detector for speed, where that gives the same answers; nothing to the others
    precision: "fp32", "fp16" or "bf16" of the rebuilt detector; other than "fp32" it is torch that runs it
    """

    runtime: str = "auto"
    optimize: bool = True
    precision: str = "fp32"

    def __post_init__(self) -> None:
        """Raises ConfigError with everything that is wrong."""
        problems = []
        if self.runtime not in get_args(Asked):
            problems.append(Problem("runtime", f"is {self.runtime!r}", nearest(self.runtime, get_args(Asked))))
        if self.precision not in PRECISIONS:
            problems.append(Problem("precision", f"is {self.precision!r}", f"Use one of {', '.join(PRECISIONS)}."))
        elif self.precision != "fp32" and self.runtime in ("onnx", "openvino"):
            fix = "Use --runtime torch: the precision of a graph is chosen at its export."
            problems.append(Problem("precision", f"is for torch, not for {self.runtime}", fix))
        elif self.precision != "fp32" and not self.optimize:
            fix = "Leave one of them out: what is not optimised computes in fp32."
            problems.append(Problem("precision", f"is {self.precision} beside --no-optimize (optimize=False)", fix))
        if problems:
            raise ConfigError.collected(problems)

    @property
    def asked(self) -> Asked:
        """The runtime; "auto" only where there is a choice."""
        asked: Asked = "torch" if self.precision != "fp32" else self.runtime  # type: ignore[assignment]
        return asked

    def options(self) -> dict[str, Any]:
        """As keyword arguments of `load_model`, of JSON's types."""
        return asdict(self)
