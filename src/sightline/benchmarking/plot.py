"""A benchmark as one picture: where the time goes, and throughput against batch size or clients."""

from pathlib import Path
from typing import Any

from sightline.benchmarking.cost import caveat
from sightline.benchmarking.results import Result
from sightline.benchmarking.spread import seconds
from sightline.errors import ConfigError
from sightline.optional import require
from sightline.storage import atomic_write

FORMATS = (".png", ".svg")
DOTS_PER_IN = 150
HEADROOM = 1.2


def check_format(path: Path) -> None:
    """Nothing, if the name tells a format that can be written.

    Raises:
        ConfigError: it does not.
        MissingDependencyError: matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError("--plot", f"is {path.name!r}", f"Give a name that ends in {' or '.join(FORMATS)}.")
    require("matplotlib.figure", "report", "--plot")


def write_plot(result: Result, path: Path) -> None:
    """The picture at `path`, PNG or SVG by its name; errors as `check_format`."""
    check_format(path)
    figure = require("matplotlib.figure", "report", "--plot").Figure((11, 4.8), DOTS_PER_IN, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_stages(left, result)
    draw_throughput(right, result)
    figure.suptitle(
        literally(f"{Path(result.target).name or result.target}: {result.picture_px}, {result.date[:10]}"), fontsize="medium"
    )
    if warning := caveat(result, result.costs):
        figure.supxlabel(literally(warning), fontsize="x-small", wrap=True)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.lower()[1:])


def literally(text: str) -> str:
    """Text as matplotlib shows it: a dollar sign begins no formula."""
    return text.replace("$", r"\$")


def draw_stages(axes: Any, result: Result) -> None:
    """Mean milliseconds of each stage, the first on top."""
    names = [*result.stages, "all"]
    means = [1000 * one.mean for one in (*result.stages.values(), result.latency)]
    bars = axes.barh(names, means, color=["tab:blue"] * len(result.stages) + ["tab:gray"])
    axes.bar_label(bars, [seconds(mean / 1000) for mean in means], padding=3, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlim(0, max(means) * HEADROOM)
    of = "of the server, by its own clock" if result.kind == "remote" else "of one picture"
    axes.set(xlabel="ms, mean", title=f"Stages {of} ({result.latency.count} samples)")


def draw_throughput(axes: Any, result: Result) -> None:
    """Pictures a second, and the dollars of 1,000 on a second axis where there is a price by the hour."""
    batches = [batch for batch in result.batches if not batch.failed]
    sizes = [batch.size for batch in batches] or [one.count for one in result.clients]
    rates = [batch.pictures_per_s for batch in batches] or [one.answers_per_s for one in result.clients]
    if not sizes:
        axes.set_axis_off()
        return
    axes.plot(sizes, rates, marker="o", label="files to answers" if batches else "answers")
    if batches:
        axes.plot(sizes, [batch.predict_per_s for batch in batches], marker="s", linestyle="--", label="predict alone")
        axes.legend(loc="lower right", fontsize="small")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.minorticks_off()
    axes.set_ylim(0, max([*rates, *(batch.predict_per_s for batch in batches)]) * HEADROOM or 1)
    axes.set(xlabel="batch size" if batches else "clients", ylabel="pictures a second", title="Throughput")
    axes.grid(alpha=0.3)
    for cost in result.costs:
        if cost.at_throughput is not None:
            label = f"${cost.at_throughput:.3g} per 1,000 at best, ${cost.one_at_a_time:.3g} one at a time"
            axes.plot([], [], " ", label=literally(f"{cost.price.instance_type}: {label}"))
            axes.legend(loc="lower right", fontsize="small")
