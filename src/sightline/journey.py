"""Labels to bundle in one call: the stages in order, each skipped when what it would make is there and still valid.

WORK/dataset      imported and split          WORK/run           trained, with its scores in inference/, page in report/
WORK/model.tar.gz the bundle                  WORK/journey.json  a fingerprint of what each stage was made from

A stage's fingerprint covers its options and the fingerprint of the stage before, so a change redoes all that follows it.
"""

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from PIL import Image as Pillow

import sightline
from sightline import labels
from sightline.bundle.load import load_model
from sightline.bundle.pack import pack_run
from sightline.config.schema import Config
from sightline.config.sources import load as load_config
from sightline.config.support import require_supported
from sightline.config.yaml_dialect import dump
from sightline.dataset import drawn
from sightline.dataset.folder import DatasetPart, create, open_part
from sightline.dataset.pictures import places
from sightline.dataset.split import FRACTIONS, write_split
from sightline.errors import DatasetError, OnProblem, Problem
from sightline.evaluation.analysis import SCORES
from sightline.evaluation.coco import headline, table
from sightline.examining import INFERENCE, REPORT, examine
from sightline.images import read_image
from sightline.labels import ReadOptions
from sightline.records import Detections
from sightline.reporting.write import PAGE, write_report
from sightline.serving.remote import connect
from sightline.serving.server import running
from sightline.storage import atomic_write, is_remote, listed, write_json
from sightline.training.asked import NOTHING, Asked
from sightline.training.hooks import Progress, log_line
from sightline.training.run import Run, run_training
from sightline.training.settings import PLAIN, Settings
from sightline.training.state import FINAL
from sightline.view.draw import draw

Say = Callable[[str], None]

READ_PLAINLY = ReadOptions()

STAGES = ("import", "split", "train", "evaluate", "pack")

DEFAULT_CONFIG = "small"
"""The preset that needs no downloaded weights and no GPU."""

DEMO_PICTURES = 600
DEMO_FRACTIONS = {"train": 0.75, "val": 0.05, "test": 0.2}
DEMO_SEED = 0


@dataclass(slots=True)
class Diary:
    """What each stage of a work folder was made from, kept in journey.json."""

    path: Path
    done: dict[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, work: Path) -> "Diary":
        path = work / "journey.json"
        try:
            done = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or damaged: then every stage is done again
            done = {}
        return cls(path, done if isinstance(done, dict) else {})

    def begin(self, stage: str, fingerprint: str) -> None:
        self.done.pop(stage, None)
        self.done[f"{stage} begun"] = fingerprint
        write_json(self.path, self.done, indent=1)

    def finish(self, stage: str, fingerprint: str) -> None:
        self.done[stage] = self.done.pop(f"{stage} begun", fingerprint)
        write_json(self.path, self.done, indent=1)


@dataclass(frozen=True, slots=True)
class Journey:
    """What a journey leaves behind. scores: of the test part, as `sightline evaluate --json` prints them."""

    work: Path
    dataset: Path
    run: Path
    bundle: Path
    scores: Mapping[str, Mapping[str, float | None]]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        folders = {"work": self.work, "dataset": self.dataset, "run": self.run, "bundle": self.bundle}
        return {**{name: str(path) for name, path in folders.items()}, "scores": dict(self.scores)}


@dataclass(frozen=True, slots=True)
class Stages:
    """One journey under way: does each stage or skips it, and tells its outcome, time and place."""

    diary: Diary
    say: Say

    def run(self, name: str, made_from: object, place: Path, work: Callable[[bool], str]) -> str:
        """The stage's fingerprint. `work` says what it did; it is skipped while `place` holds its valid result.

        work: its argument tells whether the same stage was begun before and cut short
        """
        fingerprint = digest(made_from)
        title = f"[{STAGES.index(name) + 1}/{len(STAGES)}] {name:<8}"
        if self.diary.done.get(name) == fingerprint and place.exists():
            self.say(f"{title}  still valid, skipped -> {place}")
            return fingerprint
        begun = self.diary.done.get(f"{name} begun") == fingerprint
        self.diary.begin(name, fingerprint)
        began = time.perf_counter()
        outcome = work(begun)
        self.diary.finish(name, fingerprint)
        self.say(f"{title}  {outcome}  {time.perf_counter() - began:.1f} s -> {place}")
        return fingerprint


def run(
    sources: Sequence[str | Path],
    work: Path,
    *,
    images: str | Path | None = None,
    download: bool = False,
    format: str | None = None,
    reading: ReadOptions = READ_PLAINLY,
    on_problem: OnProblem = "error",
    fractions: Mapping[str, float] = FRACTIONS,
    split_seed: int = 0,
    group_by: Sequence[str] | None = None,
    config: str = DEFAULT_CONFIG,
    overrides: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    say: Say = print,
    show: Callable[[Progress], None] = log_line,
) -> Journey:
    """Import, split, train, evaluate and pack into `work`; what is there and still valid is not done again.

    images:   the folder of the pictures, or a prefix on S3
    download: fetch pictures that are in no folder from the labels' s3:// addresses; for labels on S3 it is always done
    reading:  how the labels are read

    A training that was cut short goes on from its last checkpoint. Errors are those of the stages.
    """
    if not {"train", "test"} <= fractions.keys():
        raise DatasetError("--fractions", f"has the parts {', '.join(fractions)}", "Name a train and a test part.")
    settings = load_config(config, overrides)
    require_supported(settings, config)
    dataset, trained_in, bundle = work / "dataset", work / "run", work / "model.tar.gz"
    scored_in = trained_in / INFERENCE
    diary = Diary.open(work)
    require_own(diary, {"import": dataset, "train": trained_in, "pack": bundle})
    stages = Stages(diary, say)

    def import_stage(_: bool) -> str:
        looked_in = labels.pictures_folder(sources, images, format)
        options = reading if looked_in is None else replace(reading, images=looked_in)
        imported = labels.read_with(sources, options, format=format, on_problem=on_problem)
        where = places(
            imported.report.files,
            imported.dataset,
            given=looked_in or images,
            known=imported.pictures,
            download=download or any(is_remote(str(source)) for source in sources),
            called=imported.report.called,
        )
        made = create(imported.dataset, dataset, pictures=where, on_problem=on_problem, replace=True)
        for line in (*imported.report.notes, *made.notes, *imported.report.skipped, *made.skipped):
            say(f"      {line}")
        return f"{made.images:,} images, {made.boxes:,} boxes of {', '.join(imported.dataset.class_names)}"

    def split_stage(_: bool) -> str:
        reached = write_split(dataset, fractions, seed=split_seed, group_by=group_by)
        say(indented(str(reached)))
        return "in " + ", ".join(fractions)

    def train_stage(begun: bool) -> str:
        if not begun:
            shutil.rmtree(trained_in, ignore_errors=True)
        done = train(
            settings,
            open_part(dataset, "train"),
            trained_in,
            validation=open_part(dataset, "val") if "val" in fractions else None,
            resuming=begun,
            device=device,
            workers=workers,
            show=show,
            where=config,
        )
        return f"{done.steps:,} steps"

    def evaluate_stage(_: bool) -> str:
        test = open_part(dataset, "test")
        evaluation = examine(load_model(trained_in, device=device), test, scored_in)
        scores = dict(evaluation.scores)
        say(indented(table(scores)))
        if evaluation.analyses:
            say(f"      The page: {write_report(evaluation, trained_in / REPORT, pictures=test.images_dir, run=trained_in)}")
        return f"{headline(scores)} on the test part"

    def pack_stage(_: bool) -> str:
        packed = pack_run(trained_in, bundle)
        return f"{packed.size_bytes / 2**20:.1f} MiB, sha256 {packed.sha256[:12]}"

    asked_import = [sightline.__version__, digest_of(sources, images), format, asdict(reading), on_problem]
    imported = stages.run("import", asked_import, dataset, import_stage)
    divided = stages.run(
        "split", [imported, dict(fractions), split_seed, group_by], dataset / "annotations" / "train.json", split_stage
    )
    trained = stages.run("train", [divided, dump(settings), stamp(settings.model.weights)], trained_in / FINAL, train_stage)
    evaluated = stages.run("evaluate", [trained], scored_in / SCORES, evaluate_stage)
    stages.run("pack", [evaluated], bundle, pack_stage)
    return Journey(work, dataset, trained_in, bundle, json.loads((scored_in / SCORES).read_text(encoding="utf-8")))


def require_own(diary: Diary, places: Mapping[str, Path]) -> None:
    """Nothing, if what a stage would replace was made by a journey: `-o .` must not cost anybody a folder named `run`.

    Raises:
        DatasetError: all places that hold something else.
    """
    problems = [
        Problem(str(place), "already exists, and no journey made it", "Choose another folder with -o, or remove it first.")
        for stage, place in places.items()
        if place.exists() and not {stage, f"{stage} begun"} & diary.done.keys()
    ]
    if problems:
        raise DatasetError.collected(problems)


def train(
    config: Config,
    part: DatasetPart,
    output: Path,
    *,
    validation: DatasetPart | None = None,
    settings: Settings = PLAIN,
    asked: Asked = NOTHING,
    resuming: bool = False,
    device: str = "auto",
    workers: int | None = None,
    show: Callable[[Progress], None] = log_line,
    where: str = "config",
) -> Run:
    """Train on a part of a dataset folder; errors as `run_training`, and DatasetError for a part without pictures.

    validation: the part that TEST.EVAL_PERIOD measures on
    """
    return run_training(
        config,
        dataset=part.dataset,
        images=part.pictures,
        output=output,
        validation=None if validation is None else (validation.dataset, validation.pictures),
        settings=settings,
        asked=asked,
        resuming=resuming,
        device=device,
        workers=workers,
        show=show,
        where=where,
    )


def demo(
    work: Path,
    *,
    pictures: int = DEMO_PICTURES,
    overrides: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    say: Say = print,
    show: Callable[[Progress], None] = log_line,
) -> Journey:
    """The whole journey on a labelled set that it draws itself, ending with an answer over HTTP.

    pictures: how many are drawn; a fifth of them is held out
    """
    source = work / "drawn"
    if not (source / "output.manifest").exists() or count_lines(source / "output.manifest") != pictures:
        began = time.perf_counter()
        dataset = drawn.write(source, pictures, DEMO_SEED)
        labels.write(dataset, source / "output.manifest", format="ground-truth", prefix="s3://demo-bucket/images")
        say(f"drew {pictures} labelled pictures  {time.perf_counter() - began:.1f} s -> {source}")
    journey = run(
        [source / "output.manifest"],
        work,
        images=source / "images",
        fractions=DEMO_FRACTIONS,
        overrides=overrides,
        device=device,
        workers=workers,
        say=say,
        show=show,
    )
    part = open_part(journey.dataset, "test")
    answer = ask_server(journey, part, work / "answer.png", device, say)
    say("")
    say(f"AP50 {number(journey, 'AP50')}, AP {number(journey, 'AP')} on {len(part.dataset.images)} held-out pictures")
    say(f"The served answer, drawn: {answer}")
    say(f"Where it is wrong, as a page: {journey.run / REPORT / PAGE}")
    say("")
    say("Go on with:")
    say(f"  sightline predict {journey.bundle} {journey.dataset / 'images'} -o found.jsonl --draw found/")
    say(f"  sightline serve {journey.bundle}")
    say("  sightline run output.manifest --images PICTURES -o work        # your own Ground Truth labels")
    return journey


def ask_server(journey: Journey, part: DatasetPart, to: Path, device: str, say: Say) -> Path:
    """Serve the bundle on a free port, send the first held-out picture with several objects, and draw what comes back."""
    began = time.perf_counter()
    chosen = next((image for image in part.dataset.images if len(image.instances) > 1), part.dataset.images[0])
    picture = read_image(part.pictures / chosen.file_name)
    with running(load_model(journey.bundle, device=device)) as address:
        remote = connect(address)
        (found,) = remote.predict([picture])
        say(f"served {journey.bundle.name} at {address}: {chosen.file_name} shows {describe(found, remote.class_names)}")
    say(f"asked over HTTP and stopped the server  {time.perf_counter() - began:.1f} s")
    with atomic_write(to) as file:
        Pillow.fromarray(draw(picture, found, remote.class_names, threshold=SHOWN)).save(file, format="PNG")
    return to


SHOWN = 0.5
"""Least score of the boxes that the demo draws and counts."""


def describe(found: Detections, class_names: Sequence[str]) -> str:
    """ "2 balloons, 1 kite": what is surely there."""
    counts = Counter(class_names[label] for label in found.above(SHOWN).labels.tolist())
    return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in sorted(counts.items())) or "nothing"


def number(journey: Journey, name: str) -> str:
    value = journey.scores["bbox"][name]
    return "undefined" if value is None else f"{value:.3f}"


def indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())


def count_lines(path: Path) -> int:
    return len(path.read_bytes().splitlines())


def digest(value: object) -> str:
    """A fingerprint of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def stamp(weights: str) -> list[object]:
    """What changes when a local weights file does; empty for addresses and for none."""
    if is_remote(weights):
        return listed(weights)
    path = Path(weights)
    return [path.stat().st_size, path.stat().st_mtime_ns] if weights and path.is_file() else []


def digest_of(sources: Sequence[str | Path], images: str | Path | None) -> list[object]:
    """Facts that change when the label files or the pictures do: contents of the former, sizes and times of the latter.

    On S3, ETags and sizes of both; pictures that only the labels name count as unchanged while the labels are.
    """
    places = [*sources, *([] if images is None else [images])]
    found: list[object] = [[str(place), listed(str(place))] for place in places if is_remote(str(place))]
    found += [
        [str(source), hashlib.sha256(Path(source).read_bytes()).hexdigest() if Path(source).is_file() else None]
        for source in sources
        if not is_remote(str(source))
    ]
    for folder in (Path(place) for place in places if not is_remote(str(place))):
        if folder.is_dir():
            listing = sorted(
                (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()
            )
            found.append(digest(listing))
    return found
