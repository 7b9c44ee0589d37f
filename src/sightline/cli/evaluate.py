"""`sightline evaluate`: how good models, or files of results, are; where they are wrong; and whether one is better."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli.console import log_to_stderr, show
from sightline.cli.models import RUNTIME_HELP, RUNTIMES, Compile, CompileFor, Optimize, Precision
from sightline.cli.slices import (
    Slice,
    SliceMax,
    SliceMeasure,
    SliceMerge,
    SliceOverlap,
    SliceThreshold,
    SliceWhole,
    slices_asked,
)
from sightline.runtimes.asked import Execution

if TYPE_CHECKING:
    from sightline.evaluation.analysis import Evaluation
    from sightline.evaluation.asked import Measuring
    from sightline.evaluation.results import Truth
    from sightline.slicing import Slices

HOW = "What thresholds are chosen for, per class: f1, precision=0.9 or recall=0.8."


def evaluate(
    subjects: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|RESULTS.json [ANOTHER]",
            help="A run, bundle, address, or COCO results file; two are compared.",
        ),
    ],
    data: Annotated[str, typer.Option("--data", metavar="DIR|TRUTH.json", help="A dataset folder or a COCO instances file.")],
    split: Annotated[str, typer.Option("--split", help="Which part of a dataset folder.")] = "test",
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="REPORT_DIR", help="Where index.html and scores.json go. A run keeps its own."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option("--images", metavar="DIR", help="The pictures, where they are not with the data; for the page."),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Also plots as PNG and SVG, in plots/.")] = False,
    iou: Annotated[float, typer.Option("--iou", help="Overlap from which on an object is found; COCO's AP has its own.")] = 0.5,
    wish: Annotated[str | None, typer.Option("--choose", metavar="f1|precision=P|recall=R", help=HOW)] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Keep the thresholds of --choose in the run or bundle: serve and predict use them.")
    ] = False,
    resamples: Annotated[int, typer.Option("--resamples", min=0, help="For the intervals; 0: none.")] = 1000,
    most: Annotated[
        int,
        typer.Option("--max-detections", metavar="N", help="Of a class in a picture that count; COCO has 100, SKU-110K 300."),
    ] = 100,
    listed: Annotated[int, typer.Option("--listed", min=0, help="False detections and misses in the JSON, at most.")] = 2000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    runtime: Annotated[str, typer.Option(metavar=RUNTIMES, help=RUNTIME_HELP)] = "auto",
    optimize: Optimize = True,
    precision: Precision = "fp32",
    compile: Compile = False,
    compile_for: CompileFor = None,
    slice_size: Slice = None,
    slice_overlap: SliceOverlap = None,
    slice_whole: SliceWhole = None,
    slice_merge: SliceMerge = None,
    slice_measure: SliceMeasure = None,
    slice_threshold: SliceThreshold = None,
    slice_max: SliceMax = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Print COCO's scores with intervals, a table per class, the kinds of error, and thresholds; compare two models.

    In all and per class, for boxes and masks; recall alone for proposals. -o makes a page with curves and pictures.
    """
    from sightline.evaluation.asked import Measuring
    from sightline.storage import copied_here, output_path

    log_to_stderr()
    check_store(store, wish, subjects)
    slices = slices_asked(
        slice_size,
        overlap=slice_overlap,
        whole=slice_whole,
        merge=slice_merge,
        measure=slice_measure,
        threshold=slice_threshold,
        most=slice_max,
    )
    check_plots(plots, output, subjects, slices)
    check_slices(slices, subjects)
    execution = Execution(runtime, optimize, precision, compile, tuple(compile_for or ()))
    measuring = Measuring.asked(overlap=iou, wish=wish, resamples=resamples, most=most)
    with output_path(output, "A report") if output else nullcontext() as report:
        truth = copied_here(data, "The ground truth")
        if len(subjects) > 1:
            values, text, page = compare_subjects(
                subjects, truth, split, report, device, execution, measuring, listed, images, slices
            )
        else:
            evaluation = evaluated(subjects[0], truth, split, report, device, execution, measuring, listed, slices)
            values, text = dict(evaluation.to_dict(listed)), evaluation.text()
            if store:
                how = "" if slices is None else f", {slices}"
                chosen_for = f"{wish} at an overlap of {iou:g}, on {data} {split}{how}"
                text += f"\n\n  {store_chosen(evaluation, subjects[0], chosen_for)}"
            page = report_on(subjects[0], evaluation, report, truth, split, images, plots, keeps=slices is None)
    if page is not None:
        text += f"\n\n  The page: {f'{output}/{page.name}' if output else page}"
    show(text, as_json, values)


def check_store(store: bool, wish: str | None, subjects: list[str]) -> None:
    """Nothing, if there is one model to keep thresholds in, and a wish that chooses them."""
    from sightline.errors import ConfigError
    from sightline.storage import is_remote

    if store and wish is None:
        raise ConfigError("--store", "needs --choose", "Say what thresholds are chosen for, as --choose f1.")
    if store and (len(subjects) > 1 or subjects[0].endswith(".json")):
        raise ConfigError("--store", "needs one run or bundle", "Evaluate the model whose thresholds are to be kept.")
    if store and (is_remote(subjects[0]) or subjects[0].startswith(("http://", "https://"))):
        fix = "Evaluate the run or bundle here with --store, and deploy that."
        raise ConfigError("--store", f"cannot write to {subjects[0]}", fix)


def check_slices(slices: "Slices | None", subjects: list[str]) -> None:
    """Nothing, if there is a model that can be asked to predict in slices."""
    from sightline.errors import ConfigError

    if slices is not None and all(subject.endswith(".json") for subject in subjects):
        raise ConfigError("--slice", "is for models, and a results file is predicted already", "Leave out --slice.")


def check_plots(plots: bool, output: str | None, subjects: list[str], slices: "Slices | None") -> None:
    """Nothing, if plots are not asked for, or have a place."""
    from sightline.errors import ConfigError

    if plots and len(subjects) > 1:
        raise ConfigError("--plots", "are of one model", "Evaluate each alone with --plots.")
    if plots and output is None and (slices is not None or not (Path(subjects[0]) / "run.json").is_file()):
        raise ConfigError("--plots", "has no folder to write to", "Say where: -o REPORT_DIR.")


def store_chosen(evaluation: "Evaluation", model: str, chosen_for: str) -> str:
    """Keeps the chosen thresholds in the model; what to tell of it. Classes for which there is none keep all detections."""
    from sightline.bundle.thresholds import store_thresholds

    kind = "segm" if "segm" in evaluation.analyses else "bbox"
    chosen = evaluation.analyses[kind].chosen or {}
    thresholds = {name: one.threshold for name, one in chosen.items() if one.threshold is not None}
    store_thresholds(model, thresholds, chosen_for)
    without = [name for name in chosen if name not in thresholds]
    rest = f"; none for {', '.join(without)}, which keep all detections" if without else ""
    return f"Kept in {model}: thresholds of {len(thresholds)} {'class' if len(thresholds) == 1 else 'classes'}{rest}."


def report_on(
    subject: str,
    evaluation: "Evaluation",
    output: Path | None,
    data: Path,
    split: str,
    images: str | None,
    plots: bool,
    *,
    keeps: bool = True,
) -> Path | None:
    """The page, in `output` or, of a run folder that `keeps` it, in its own `report`; None where there is no place for one."""
    from sightline.examining import REPORT
    from sightline.reporting.plots import write_plots
    from sightline.reporting.write import write_report

    run = Path(subject) if (Path(subject) / "run.json").is_file() else None
    folder = output or (run / REPORT if run and keeps else None)
    if folder is None or not evaluation.analyses:
        return None
    page = write_report(evaluation, folder, pictures=pictures_of(evaluation, data, split, images), run=run)
    if plots:
        write_plots(evaluation, folder / "plots", run)
    return page


def pictures_of(evaluation: "Evaluation", data: Path, split: str, images: str | None) -> Path | None:
    """The folder of the pictures: given, that of the dataset folder, or one beside a COCO file; None: there is none."""
    from sightline.dataset.folder import open_part
    from sightline.dataset.pictures import beside
    from sightline.storage import local_path

    if images is not None:
        return local_path(images, "Looking for pictures")
    if data.is_dir():
        return open_part(data, split).images_dir
    return beside(data, next(iter(evaluation.analyses.values())).matches.truth.file_names)


def evaluated(
    subject: str,
    data: Path,
    split: str,
    output: Path | None,
    device: str,
    execution: Execution,
    measuring: "Measuring",
    listed: int,
    slices: "Slices | None",
) -> "Evaluation":
    """What was measured of a COCO results file or a model."""
    if not subject.endswith(".json"):
        from sightline.cli.models import evaluate_model

        return evaluate_model(subject, data, split, output, device, measuring, listed, execution, slices)
    from sightline.evaluation.analysis import write

    evaluation = evaluate_file(subject, open_truth(data, split), measuring)
    if output:
        write(evaluation, output, listed)
    return evaluation


def evaluate_file(results: str, truth: "Truth", measuring: "Measuring") -> "Evaluation":
    from sightline.evaluation.analysis import examine
    from sightline.evaluation.results import read_results_file
    from sightline.storage import copied_here

    return examine(truth, read_results_file(copied_here(results, "Evaluation"), truth), measuring)


def open_truth(data: Path, split: str) -> "Truth":
    """A COCO instances file, or a part of a dataset folder."""
    from sightline.dataset.folder import open_part
    from sightline.evaluation.results import read_truth_file

    return read_truth_file(open_part(data, split).annotations if data.is_dir() else data)


def compare_subjects(
    subjects: list[str],
    data: Path,
    split: str,
    output: Path | None,
    device: str,
    execution: Execution,
    measuring: "Measuring",
    listed: int,
    images: str | None,
    slices: "Slices | None",
) -> tuple[dict[str, object], str, Path | None]:
    """(all values, text, the page in `output`): the second and all further subjects against the first, on one truth."""
    from sightline.cli.models import model_results
    from sightline.evaluation.analysis import examine
    from sightline.evaluation.comparing import compare
    from sightline.reporting.write import write_comparison
    from sightline.storage import write_json

    truth = open_truth(data, split)
    evaluations = []
    for subject in subjects:
        if subject.endswith(".json"):
            evaluations.append(evaluate_file(subject, truth, measuring))
        else:
            results = model_results(subject, data, split, truth, device, execution, slices)
            evaluations.append(examine(truth, results, measuring))
    compared = [compare(evaluations[0], other) for other in evaluations[1:]]
    values: dict[str, object] = {
        "models": {one.name: one.to_dict(listed) for one in evaluations},
        "compared": [{kind: one.to_dict() for kind, one in pair.items()} for pair in compared],
    }
    parts = [one.lines() for pair in compared for one in pair.values()]
    parts += [
        [f"{one.name}, {kind}", *of.threshold_lines()] for one in evaluations for kind, of in one.analyses.items() if of.chosen
    ]
    text = "\n\n".join("\n".join(lines) for lines in parts)
    if output is None:
        return values, text, None
    write_json(output / "comparison.json", values, indent=1)
    page = write_comparison(evaluations, compared, output, pictures_of(evaluations[0], data, split, images))
    return values, text, page
