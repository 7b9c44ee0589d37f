"""Sightline: from labelled pictures to a served object detector.

The public names load when they are used, so that `import sightline` stays fast and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sightline.benchmarking.run import benchmark as benchmark
    from sightline.bundle.load import load_model as load_model
    from sightline.bundle.pack import pack_files as pack_files
    from sightline.bundle.pack import pack_run as pack_run
    from sightline.checking import check as check
    from sightline.cloud.endpoints import connect_endpoint as connect_endpoint
    from sightline.config.sources import load as load_config
    from sightline.dataset.folder import create as create_dataset
    from sightline.dataset.folder import open_part as open_part
    from sightline.dataset.folds import write_folds as write_folds
    from sightline.dataset.slices import slice_folder as slice_folder
    from sightline.dataset.split import split as split
    from sightline.dataset.split import write_split as write_split
    from sightline.evaluation.comparing import compare as compare
    from sightline.examining import evaluate as evaluate
    from sightline.examining import examine as examine
    from sightline.exporting.write import export as export
    from sightline.journey import demo as demo
    from sightline.journey import run as run
    from sightline.journey import train as train
    from sightline.labels import ReadOptions as ReadOptions
    from sightline.records import Dataset as Dataset
    from sightline.records import Detections as Detections
    from sightline.records import Model as Model
    from sightline.reporting.write import write_report as write_report
    from sightline.serving.files import predict_files as predict_files
    from sightline.serving.remote import connect as connect
    from sightline.serving.server import running as running
    from sightline.serving.server import serve as serve
    from sightline.slicing import Slices as Slices
    from sightline.slicing import in_slices as in_slices
    from sightline.slicing import sliced as sliced
    from sightline.tuning.tune import tune as tune
    from sightline.view.draw import draw as draw
    from sightline.view.sheet import sheet as sheet

PUBLIC = {
    "Dataset": "sightline.records:Dataset",
    "Detections": "sightline.records:Detections",
    "Model": "sightline.records:Model",
    "ReadOptions": "sightline.labels:ReadOptions",
    "Slices": "sightline.slicing:Slices",
    "benchmark": "sightline.benchmarking.run:benchmark",
    "check": "sightline.checking:check",
    "connect": "sightline.serving.remote:connect",
    "connect_endpoint": "sightline.cloud.endpoints:connect_endpoint",
    "compare": "sightline.evaluation.comparing:compare",
    "create_dataset": "sightline.dataset.folder:create",
    "demo": "sightline.journey:demo",
    "draw": "sightline.view.draw:draw",
    "evaluate": "sightline.examining:evaluate",
    "examine": "sightline.examining:examine",
    "export": "sightline.exporting.write:export",
    "in_slices": "sightline.slicing:in_slices",
    "load_config": "sightline.config.sources:load",
    "load_model": "sightline.bundle.load:load_model",
    "open_part": "sightline.dataset.folder:open_part",
    "pack_files": "sightline.bundle.pack:pack_files",
    "pack_run": "sightline.bundle.pack:pack_run",
    "predict_files": "sightline.serving.files:predict_files",
    "run": "sightline.journey:run",
    "running": "sightline.serving.server:running",
    "serve": "sightline.serving.server:serve",
    "sheet": "sightline.view.sheet:sheet",
    "slice_folder": "sightline.dataset.slices:slice_folder",
    "sliced": "sightline.slicing:sliced",
    "split": "sightline.dataset.split:split",
    "train": "sightline.journey:train",
    "tune": "sightline.tuning.tune:tune",
    "write_folds": "sightline.dataset.folds:write_folds",
    "write_report": "sightline.reporting.write:write_report",
    "write_split": "sightline.dataset.split:write_split",
}
"""Every public name and where it is defined; spelled out twice so that type checkers see them."""

__all__ = [*PUBLIC, "__version__"]  # noqa: PLE0604  # all of them are text


def __getattr__(name: str) -> object:
    if name in PUBLIC:
        module, _, attribute = PUBLIC[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'sightline' has no attribute {name!r}")
